"""What a configured space has of what an audit speaks of: options of its blocks, operators, channels, settings.

Knows spaces by their blocks, and blocks by their kinds; no kind or choice by name.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from hwnas import registry
from hwnas.audit.rules import Finding
from hwnas.config import Config, is_definition, is_function
from hwnas.graph.words import graph_words
from hwnas.named_spaces import make_space
from hwnas.spaces import Space, StagedSpace
from hwnas.spaces.kinds import block_graph, kind_of
from hwnas.types import Block, Option

_STYLE = ("activation", "se", "channel_divisor")  # settings that the function of a space may take
_OF_ANY = frozenset({"precisions", "resolutions"})  # settings of all spaces that can be restricted
_NARROWED = _OF_ANY | {"kernel_sizes", "width_mults"}  # of spaces of stages


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceOptions:
    """What some network of a space has.

    Attributes:
        precisions: of the space.
        options: kind of block -> choice -> options; kinds that were audited.
        operators: in words, of the blocks of all other kinds.
        channel_divisor: channels are multiples of it.
        settings: of a configuration's `[space]` that the space takes.
    """

    precisions: tuple[str, ...]
    options: Mapping[str, Mapping[str, Collection[Option]]]
    operators: frozenset[str]
    channel_divisor: int
    settings: frozenset[str]

    def has(self, f: Finding) -> bool:
        """Whether some network has the option of a finding, or another kind of block the operator behind it."""
        if f.option in self.options.get(f.kind, {}).get(f.choice, ()):
            return True
        return len(f.operators) == 1 and f.operators[0] in self.operators


def configured_options(config: Config, *, audited: Collection[str]) -> SpaceOptions | None:
    """Of the configured space, for images and classes that do not matter here; None if it has no blocks.

    Args:
        config: names the space.
        audited: kinds of block.

    Raises:
        ConfigError: there is no such space, or it does not take what the configuration asks of it.
        SpaceError: a definition or what a function gives is wrong.
    """
    style = config.space.model_dump(include=set(_STYLE), exclude_none=True)
    space = make_space(config.space.preset, in_channels=3, n_classes=10, style=style)
    blocks = _blocks(space, config)
    if not blocks:
        return None
    options: dict[str, dict[str, set[Option]]] = {}
    operators: set[str] = set()
    others: dict[object, Block] = {}
    for block in blocks:
        if block.kind in audited and (kind := kind_of(block)).variations:
            for choice, option in kind.options_of(block).items():
                options.setdefault(block.kind, {}).setdefault(choice, set()).add(option)
        else:
            # blocks of one kind and equal attributes differ in shapes alone, and have the same operators
            others[block.kind, block.attributes] = block
    for block in others.values():
        operators.update(graph_words(block_graph(block)))
    return SpaceOptions(
        precisions=space.precisions,
        options=options,
        operators=frozenset(operators),
        channel_divisor=_channel_divisor(space, blocks),
        settings=_settings(config.space.preset) | _narrowed(space),
    )


def _blocks(space: Space, config: Config) -> tuple[Block, ...]:
    if not isinstance(space, StagedSpace):
        return space.distinct_blocks()
    # resolutions change no operators: one is enough, and a large space has many
    narrowed = space.restrict(kernel_sizes=config.space.kernel_sizes, resolutions=space.resolutions[-1:])
    return narrowed.distinct_blocks()


def _channel_divisor(space: Space, blocks: Collection[Block]) -> int:
    """What all channels between the blocks are multiples of: as the space says, or as they are."""
    if space.channel_divisor:
        return space.channel_divisor
    return math.gcd(*(b.out_shape[0] for b in blocks if len(b.out_shape) == 3)) or 1


def _narrowed(space: Space) -> frozenset[str]:
    """The settings by which a space is restricted."""
    if isinstance(space, StagedSpace):
        return _NARROWED
    return _OF_ANY if type(space).restrict is not Space.restrict else frozenset()


def _settings(named: str) -> frozenset[str]:
    """The style that the function of a registered space takes; of a definition none, of a user's own nobody knows."""
    if is_definition(named) or is_function(named):
        return frozenset()
    parameters = inspect.signature(registry.load("spaces", named)).parameters
    return frozenset(_STYLE).intersection(parameters)
