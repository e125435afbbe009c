"""Kinds of block: how a block becomes an operator graph.

A kind of block is one `BlockKind`, in a module of its own, registered under `block_kinds`. Everything else follows
from the graph: the module that trains, costs, quantization, file formats, drawings. This module knows blocks and
graphs; no kind by name but those that change a tensor's precision, and neither torch nor spaces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

from hwnas import precisions, registry
from hwnas.errors import GraphError, SpaceError, UnknownNameError
from hwnas.graph import GraphBuilder, OpGraph
from hwnas.graph.summary import Summary, summary
from hwnas.precisions import EXACT, is_conversion
from hwnas.types import Block, Option

_KEPT = 4096  # graphs of a large space's distinct blocks


def _option_itself(option: Option, channels: int) -> Option:
    return option


def _value_itself(value: Option, block: Block) -> Option:
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """A choice by which blocks of a kind differ: what an audit changes, one option at a time.

    Attributes:
        choice: what spaces call it: `kernel_size`.
        options: the usual one, which blocks are held against, then the others.
        attribute: that it decides; empty: it has the choice's name.
        to_value: (option, channels of the block's input and output) -> the attribute's value.
        to_option: (the attribute's value, block) -> the option; the inverse of `to_value`.
        words: for people; empty: those of the choice's name.
        at_widths: option of the blocks whose channels are varied, where not the usual one: what multiplies channels
            must be odd there, or every number inside the block would be a multiple of two.
        is_work: whether more multiply-accumulates make a larger network, and may take longer; False for what is beside
            the network's work and has to pay for all its time.
    """

    choice: str
    options: tuple[Option, ...]
    attribute: str = ""
    to_value: Callable[[Option, int], Option] = _option_itself
    to_option: Callable[[Option, Block], Option] = _value_itself
    words: str = ""
    at_widths: Option | None = None
    is_work: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockKind:
    """One kind of block.

    Attributes:
        name: what keys of blocks begin with.
        build: (block, all its attributes) -> its graph: one input of `block.in_shape`, one output of
            `block.out_shape`. Operators are named by the paths of their weights; the same operator has the same name in
            every variant of a block, because variants share their weights by name.
        required: attributes that every block of the kind has.
        defaults: the others, with what they are where a block does not say so. A new attribute gets a default with
            which the graph stays what it was: keys leave out what is at its default, so tables stay valid.
        variations: by which an audit finds out what a device does badly; they decide all required attributes. Blocks
            with them give the shape they take. None: the kind is not audited.
        takes: what its blocks do: an `image` (C, H, W), a `series` (C, L), or `positions` (positions, features).
        is_region: its blocks are parts of a given network: what one is called is its slot's name, and its attributes
            say nothing to people.
    """

    name: str
    build: Callable[[Block, Mapping[str, Option]], OpGraph]
    required: tuple[str, ...] = ()
    defaults: Mapping[str, Option] = field(default_factory=dict)
    variations: tuple[Variation, ...] = ()
    takes: Literal["image", "series", "positions"] = "image"
    is_region: bool = False

    def example(self, shape: tuple[int, ...], *, precision: str, options: Mapping[str, Option]) -> Block:
        """A block that gives the shape it takes.

        Args:
            shape: of what its blocks take.
            precision: of the block.
            options: choice -> option; the other variations stay at their usual one.
        """
        channels = shape[-1] if self.takes == "positions" else shape[0]
        attributes = {
            v.attribute or v.choice: v.to_value(options.get(v.choice, v.options[0]), channels) for v in self.variations
        }
        given = tuple(attributes.items())
        return self.normalised(
            Block(kind=self.name, in_shape=shape, out_shape=shape, precision=precision, attributes=given)
        )

    def options_of(self, block: Block) -> dict[str, Option]:
        """Choice -> the option that a block of this kind has.

        Raises:
            SpaceError: an attribute is missing or unknown.
        """
        attributes = self.attributes(block)
        return {v.choice: v.to_option(attributes[v.attribute or v.choice], block) for v in self.variations}

    def attributes(self, block: Block) -> dict[str, Option]:
        """All attributes of a block of this kind.

        Raises:
            SpaceError: one is missing or unknown.
        """
        given = dict(block.attributes)
        known = (*self.required, *self.defaults)
        wrong = [f"no attribute {name!r}" for name in self.required if name not in given]
        wrong += [f"an unknown attribute {name!r}" for name in given if name not in known]
        if wrong:
            may = f", and may have {', '.join(self.defaults)}" if self.defaults else ""
            raise SpaceError(
                f"block {block.key!r} has {wrong[0]}; a {self.name!r} block has "
                f"{', '.join(self.required) or 'no attribute'}{may}"
            )
        return {**self.defaults, **given}

    def normalised(self, block: Block) -> Block:
        """The block without attributes at their defaults: the form in which equal blocks are equal."""
        kept = tuple(sorted((k, v) for k, v in block.attributes if k not in self.defaults or v != self.defaults[k]))
        return block if kept == block.attributes else replace(block, attributes=kept)

    def graph(self, block: Block) -> OpGraph:
        """What a block of this kind computes.

        Raises:
            SpaceError: its attributes are wrong, or do not lead from its input's shape to its output's.
        """
        attributes = self.attributes(block)
        try:
            graph = self.build(block, attributes)
        except GraphError as e:
            raise SpaceError(f"block {block.key!r} makes no sense: {e}") from e
        shapes = [tuple(graph.by_name[n].shape for n in names) for names in (graph.inputs, graph.outputs)]
        if shapes != [(block.in_shape,), (block.out_shape,)]:
            raise SpaceError(f"block {block.key!r} leads from {shapes[0]} to {shapes[1]}, which is not what it says")
        return graph


def kind_of(block: Block) -> BlockKind:
    """The kind of a block.

    Raises:
        SpaceError: it is not registered; lists those that are.
    """
    try:
        kind = registry.load("block_kinds", block.kind)
    except UnknownNameError as e:
        raise SpaceError(f"block {block.key!r}: {e}") from e
    assert isinstance(kind, BlockKind)
    return kind


def is_region(block: Block) -> bool:
    """Whether a block is a part of a given network, which its slot's name tells from others; see `BlockKind`."""
    try:
        return kind_of(block).is_region
    except SpaceError:  # of a package that is not installed here
        return False


def attributes_of(block: Block) -> dict[str, Option]:
    """All attributes of a block, with the defaults of its kind for those that it does not name.

    Raises:
        SpaceError: its kind is not registered, or an attribute is missing or unknown.
    """
    return kind_of(block).attributes(block)


def normalised(block: Block) -> Block:
    """The block without attributes at their defaults: the form of all blocks of spaces, and of all keys.

    A block whose kind is not registered stays as it is: nobody knows its defaults.
    """
    if not block.attributes:
        return block
    try:
        return kind_of(block).normalised(block)
    except (
        SpaceError
    ):  # a table may hold blocks of a package that is not installed here; they are looked up as they are
        return block


@lru_cache(maxsize=1 << 16)  # a table names each block of a space in every whole network
def current_key(key: str) -> str:
    """A block's key as it is written today, from one that names attributes at their defaults, as keys once did.

    What is no key of a block stays as it is.
    """
    try:
        return normalised(Block.from_key(key)).key
    except ValueError:
        return key


def block_graph(block: Block) -> OpGraph:
    """What a block computes; but for conversions it is the same in every precision.

    Raises:
        SpaceError: its kind is not registered, or its attributes make no sense.
    """
    # one graph for all precisions of a block; that of a conversion says which integers it leads to
    return _graph(block if is_conversion(block.kind) else replace(block, precision=EXACT))


def block_summary(block: Block) -> Summary | None:
    """A block in a few numbers, for people; None where its kind is not registered or its attributes make no sense."""
    try:
        return summary(block_graph(block))
    except SpaceError:
        return None


@lru_cache(maxsize=_KEPT)
def _graph(block: Block) -> OpGraph:
    return kind_of(block).graph(block)


def _conversion(block: Block, _: Mapping[str, Option]) -> OpGraph:
    g = GraphBuilder()
    return g.build(g.op(block.kind, g.input(block.in_shape), name=block.kind, precision=block.precision))


QUANTIZE = BlockKind(name=precisions.QUANTIZE, build=_conversion)
DEQUANTIZE = BlockKind(name=precisions.DEQUANTIZE, build=_conversion)
