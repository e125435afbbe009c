"""Few supernets in place of one: networks are parted by one of their choices, and each part has weights of its own.

Zhao et al. (2021), "Few-shot Neural Architecture Search". Until the choice is made all networks are of one part.

Knows spaces and encodings; never tensors of weights or gradients.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import nn

from hwnas.errors import ConfigError
from hwnas.supernet.choice_reader import ChoiceReader
from hwnas.types import Block, IntArray, SearchSpace

N_PARTS = 2
_MOST_OPTIONS = 12  # of a choice; all ways to part them are tried


class Parts(nn.Module):
    """Which part each network of a space is of.

    Args:
        space: of the networks.

    Attributes:
        space: of the networks.
        candidates: indices of the choices that networks can be parted by: those that every network has, and that tell
            in more than a precision.
        table: (options of all choices in order,) 1 for those of the second part, else 0. It is a parameter, though none
            that is trained, so that it is kept and averaged with the weights.

    Raises:
        ConfigError: there is no such choice.
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space
        self._reader = ChoiceReader(space)
        self.candidates = tuple(
            i
            for i in self._reader.told
            if space.choices[i].parent is None and len(space.choices[i].options) <= _MOST_OPTIONS
        )
        if not self.candidates:
            raise ConfigError(
                f"the networks of space {space.name!r} cannot be parted (train.split_fraction): there is no choice "
                f"that all of them have, of 2 to {_MOST_OPTIONS} options; leave it out"
            )
        self._first = np.concatenate([[0], np.cumsum([len(c.options) for c in space.choices])]).tolist()
        self.table = nn.Parameter(torch.zeros(self._first[-1]), requires_grad=False)

    def of(self, blocks: Sequence[tuple[str, Block]]) -> int:
        """Which part a network is of: 0 or 1.

        Args:
            blocks: named blocks of the network.

        Raises:
            SpaceError: they are of no network of the space.
        """
        table = self.table.tolist()
        options = self._reader.options(blocks)
        return int(any(table[self._first[c] + (options[c] or 0)] for c in self.candidates))

    @torch.no_grad()
    def divide_(self, choice: int, second: Collection[int]) -> None:
        """Part the networks.

        Args:
            choice: one of `candidates`.
            second: its options that are of the second part; neither none nor all.
        """
        self.table.zero_()
        for option in second:
            self.table[self._first[choice] + option] = 1.0

    def moved(self, encoding: IntArray, part: int) -> IntArray:
        """A network of a part: the given one where it is of it, else with the nearest option that is.

        So a largest network becomes the largest of the part, and a smallest the smallest.

        Args:
            encoding: (D,) of any network.
            part: 0 or 1.
        """
        choice = self._choice
        of = self._parts_of_options(choice)
        here = int(encoding[choice])
        nearest = min((i for i, p in enumerate(of) if p == part), key=lambda i: abs(i - here))
        if nearest == here:
            return encoding
        moved = encoding.copy()
        moved[choice] = nearest
        # a choice may switch others on, whose first options are then taken, and off
        return self.space.canonical(moved)

    @property
    def told(self) -> str:
        """For people: by what the networks are parted."""
        choice = self.space.choices[self._choice]
        of = self._parts_of_options(self._choice)
        groups = (", ".join(str(o) for o, p in zip(choice.options, of, strict=True) if p == part) for part in (0, 1))
        return f"the networks are parted by {choice.name}: {' and '.join(f'{{{group}}}' for group in groups)}"

    @property
    def _choice(self) -> int:
        """The choice that the networks are parted by."""
        (choice,) = (c for c in self.candidates if any(self._parts_of_options(c)))
        return choice

    def _parts_of_options(self, choice: int) -> list[int]:
        return [int(p) for p in self.table[self._first[choice] : self._first[choice + 1]].tolist()]
