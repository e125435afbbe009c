"""What a training begins with where that is another trained supernet: its weights, and what its outputs were called.

Knows folders of runs and entries of the zoo; never devices, costs or search.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas._places import user_path
from hwnas.errors import CheckpointError, ConfigError, IntegrityError
from hwnas.files import read_document
from hwnas.zoo import Entry, find_entry
from hwnas.zoo.card import FILE as CARD
from hwnas.zoo.entry import PREFIX

if TYPE_CHECKING:
    from torch import Tensor

_CHECKPOINT, _DATA = "checkpoint.safetensors", "data.json"


@dataclass(frozen=True, kw_only=True)
class StartingPoint:
    """A trained supernet, of which another one begins.

    Attributes:
        named: as the configuration has it.
        entry: of the zoo, if it is one.
        folder: of the run, if it is none.
    """

    named: str
    entry: Entry | None
    folder: Path

    @property
    def _checkpoint(self) -> Path:
        path = self.folder / _CHECKPOINT
        if not path.is_file():
            raise CheckpointError(
                f"there is no trained supernet in {self.folder} to begin with (train.start_from); give the folder of a "
                f"run whose training is finished, or {PREFIX}NAME (`hwnas zoo`)"
            )
        return path

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """Name of a parameter -> its averaged values.

        Raises:
            CheckpointError: there are none, they are damaged, or their training is not finished.
            ConfigError: those of an entry are damaged.
        """
        if self.entry is not None:
            return self.entry.tensors()
        from hwnas.supernet.checkpoint import load_checkpoint

        found = load_checkpoint(self._checkpoint)
        if found.meta["step"] < found.meta["steps"]:
            raise CheckpointError(
                f"the supernet in {self.folder} is at step {found.meta['step']} of {found.meta['steps']}; finish its "
                "training with `hwnas train` before another one begins with it"
            )
        return {k.removeprefix("ema."): v for k, v in found.tensors.items() if k.startswith("ema.")}

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """What its outputs were called, in their order.

        Raises:
            CheckpointError: the run does not say it.
        """
        if self.entry is not None:
            return self.entry.card.class_names
        try:
            document: dict[str, Any] = read_document(self.folder / _DATA)
            # runs of before have no names there, but counts by class
            return tuple(map(str, document.get("class_names", document["counts"]["train"])))
        except (OSError, IntegrityError, KeyError, TypeError) as e:
            raise CheckpointError(
                f"{self.folder / _DATA} does not tell the classes of the supernet there ({e}); start its training "
                "again with `hwnas train`, which writes it anew"
            ) from e


def starting_point(named: str) -> StartingPoint:
    """The trained supernet that a name stands for.

    Args:
        named: the folder of a run, `zoo:NAME`, or the folder of a packed supernet.

    Raises:
        ConfigError: there is nothing of this name.
    """
    folder = user_path(named.removeprefix(PREFIX))
    if named.startswith(PREFIX) or (folder / CARD).exists():
        return StartingPoint(named=named, entry=find_entry(named), folder=folder)
    if not folder.is_dir():
        raise ConfigError(
            f"train.start_from is {named!r}, and there is no such folder; give the folder of a run, or {PREFIX}NAME "
            "(`hwnas zoo`)"
        )
    return StartingPoint(named=named, entry=None, folder=folder)
