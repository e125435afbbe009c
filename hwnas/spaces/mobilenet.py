"""Networks of inverted residuals with elastic dimensions (MobileNetV2/V3; Once-for-All, Cai et al., 2020, section 3).

A network is a stem convolution, stages of `mbconv` blocks, and a head. Where the precision changes
between two of them stands a boundary, a `quantize` or `dequantize` block. This module knows shapes
and attributes of blocks; never torch, devices or weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from hwnas.errors import SpaceError
from hwnas.spaces import _checks as check
from hwnas.spaces._serialize import check_keys
from hwnas.spaces.base import Space
from hwnas.spaces.stages import ACTIVATIONS, StageSpec, make_divisible
from hwnas.types import PRECISIONS, Block, Choice, IntArray, Option, Slot

STEM_KERNEL_SIZE = 3
SE_DIVISOR = 8
_BY_BITS = ("int8", "fp32")  # ascending, as all options: the largest network computes in fp32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Channels:
    """Channels of every part at one width multiplier."""

    stem: int
    stages: tuple[int, ...]
    head: int
    features: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a slot stands: `role` is stem, mbconv, head, boundary (before what stands there) or end."""

    role: str
    stage: int = -1  # -1: the stem; the number of stages: the head
    block: int = 0


class _Chosen:
    """Dimension name -> the option taken: by a choice, or the only one there is."""

    __slots__ = ("_chosen", "_fixed")

    def __init__(self, chosen: Mapping[str, Option], fixed: Mapping[str, Option]) -> None:
        self._chosen = chosen
        self._fixed = fixed

    def option(self, name: str) -> Any:
        return self._chosen[name] if name in self._chosen else self._fixed[name]


class MobileNetSpace(Space):
    """A MobileNet-like space: elastic resolution, width, depth, kernel size, expand ratio, precision and more.

    A dimension with several options is a choice, with one it is fixed: `resolution`, `width_mult`,
    `stem.precision`, `stages.0.depth`, `stages.0.activation`, `stages.0.se`,
    `stages.0.blocks.1.kernel_size`, `.expand_ratio`, `.precision`, ..., `head.precision`. Choices of
    blocks beyond the stage's depth are switched off. Options stand in ascending order (int8 before
    fp32), so `largest` has the last option everywhere.

    Slots are `stem`, `stages.<s>.blocks.<b>` and `head`, with `boundary.<slot>` before each and
    `boundary.end` after the head where the precision can change there. Networks are told apart by
    their named blocks.

    Args:
        name: of the space.
        in_channels: of the input.
        n_classes: outputs of the head.
        resolutions: heights and widths of the input, in pixels.
        width_mults: factors of all channels, which are then rounded to `channel_divisor`.
        stem_channels: at width 1.0; the stem has kernel size 3.
        stem_stride: of the stem.
        stem_activation: of the stem.
        stages: in order, at least one.
        head_channels: of the head's convolution, at width 1.0.
        head_features: of the head's hidden layer, at width 1.0; 0 for none.
        head_activation: of the head.
        precisions: which of fp32 and int8 each block may have.
        se_ratio: channels inside squeeze-and-excitation over hidden channels, then rounded to 8.
        channel_divisor: channels are multiples of it.

    Raises:
        SpaceError: a wrong value, more strides than the smallest resolution has pixels for, or options
            that make the same network twice.
    """

    kind = "mobilenet"

    def __init__(
        self,
        name: str,
        *,
        in_channels: int,
        n_classes: int,
        resolutions: Sequence[int],
        width_mults: Sequence[float] = (1.0,),
        stem_channels: int,
        stem_stride: int = 2,
        stem_activation: str = "relu6",
        stages: Sequence[StageSpec],
        head_channels: int,
        head_features: int = 0,
        head_activation: str = "relu6",
        precisions: Sequence[str] = PRECISIONS,
        se_ratio: float = 0.25,
        channel_divisor: int = 8,
    ) -> None:
        self.in_channels = check.integer("in_channels", in_channels)
        self.n_classes = check.integer("n_classes", n_classes)
        self.resolutions = tuple(sorted(check.options("resolutions", resolutions, each=check.integer)))
        self.width_mults = tuple(sorted(check.options("width_mults", width_mults, each=check.positive)))
        self.stem_channels = check.integer("stem_channels", stem_channels)
        self.stem_stride = check.integer("stem_stride", stem_stride)
        self.stem_activation = check.member("stem_activation", stem_activation, of=ACTIVATIONS)
        self.stages = tuple(stages)
        self.head_channels = check.integer("head_channels", head_channels)
        self.head_features = check.integer("head_features", head_features, at_least=0)
        self.head_activation = check.member("head_activation", head_activation, of=ACTIVATIONS)
        given = check.options("precisions", precisions, each=partial(check.member, of=PRECISIONS))
        self.precisions = tuple(sorted(given, key=_BY_BITS.index))
        self.se_ratio = check.positive("se_ratio", se_ratio)
        self.channel_divisor = check.integer("channel_divisor", channel_divisor)
        if not self.stages or not all(isinstance(s, StageSpec) for s in self.stages):
            raise SpaceError(f"stages must be one or more StageSpec, not {stages!r}")

        self._channels = {w: self._channels_at(w) for w in self.width_mults}
        self._sizes = {r: self._sizes_at(r) for r in self.resolutions}
        self._check_distinct()
        self._fixed: dict[str, Option] = {}
        choices = self._make_choices()
        self._places, slots = self._make_slots({c.name: i for i, c in enumerate(choices)})
        super().__init__(name, choices=choices, slots=slots)
        self._slot_choices = [tuple(self.choices[j] for j in s.depends_on) for s in self.slots]

    # ------------------------------------------------------------ geometry

    def _channels_at(self, width_mult: float) -> _Channels:
        def scale(channels: int) -> int:
            return make_divisible(channels * width_mult, self.channel_divisor)

        return _Channels(
            stem=scale(self.stem_channels),
            stages=tuple(scale(s.channels) for s in self.stages),
            head=scale(self.head_channels),
            features=scale(self.head_features) if self.head_features else 0,
        )

    def _sizes_at(self, resolution: int) -> tuple[int, ...]:
        """Heights of the tensors that enter the stem, each stage and the head."""
        sizes = [resolution]
        for stride in (self.stem_stride, *(s.stride for s in self.stages)):
            sizes.append(-(-sizes[-1] // stride))  # ceil: what symmetric padding gives for odd kernels
        stride = self.stem_stride * math.prod(s.stride for s in self.stages)
        if resolution < stride:
            raise SpaceError(
                f"resolution {resolution} is too small for strides that shrink it {stride} times; "
                f"use resolutions from {stride}, or smaller strides"
            )
        return tuple(sizes)

    def _hidden(self, in_channels: int, expand_ratio: float) -> int:
        return make_divisible(in_channels * expand_ratio, self.channel_divisor)

    def _check_distinct(self) -> None:
        """Two options with the same effect would make one network out of two encodings."""
        by_channels: dict[object, float] = {}
        for width, channels in self._channels.items():
            other = by_channels.setdefault(channels, width)
            if other != width:
                raise SpaceError(
                    f"width_mults {other:g} and {width:g} give the same channels everywhere, rounded to multiples of "
                    f"{self.channel_divisor}; drop one or lower channel_divisor"
                )
            for s, stage in enumerate(self.stages):
                for b in range(min(2, max(stage.depths))):  # later blocks are like the second
                    self._check_hidden(s, self._in_channels(channels, _Place(role="mbconv", stage=s, block=b)))

    def _check_hidden(self, stage: int, in_channels: int) -> None:
        by_hidden: dict[int, float] = {}
        for ratio in self.stages[stage].expand_ratios:
            hidden = self._hidden(in_channels, ratio)
            other = by_hidden.setdefault(hidden, ratio)
            if other != ratio:
                raise SpaceError(
                    f"expand_ratios {other:g} and {ratio:g} of stage {stage} both give {hidden} hidden channels from "
                    f"{in_channels}; drop one or lower channel_divisor ({self.channel_divisor})"
                )

    def _in_channels(self, channels: _Channels, place: _Place) -> int:
        """Channels of the tensor that enters a place."""
        if place.stage < 0:
            return self.in_channels
        if place.block > 0:
            return channels.stages[place.stage]
        return channels.stages[place.stage - 1] if place.stage > 0 else channels.stem

    # ------------------------------------------------------------ choices and slots

    def _make_choices(self) -> tuple[Choice, ...]:
        choices: list[Choice] = []

        def add(name: str, options: Sequence[Option], parent: int | None = None, when: Sequence[int] = ()) -> int:
            """Index of the new choice; -1 if there is nothing to choose."""
            if len(options) == 1:
                self._fixed[name] = options[0]
                return -1
            choices.append(Choice(name=name, options=tuple(options), parent=parent, active_when=frozenset(when)))
            return len(choices) - 1

        add("resolution", self.resolutions)
        add("width_mult", self.width_mults)
        add("stem.precision", self.precisions)
        for s, stage in enumerate(self.stages):
            depth = add(f"stages.{s}.depth", stage.depths)
            add(f"stages.{s}.activation", stage.activations)
            add(f"stages.{s}.se", stage.se)
            for b in range(max(stage.depths)):
                alive = [i for i, d in enumerate(stage.depths) if d > b]
                always = len(alive) == len(stage.depths)
                parent, when = (None, ()) if always else (depth, alive)
                add(f"stages.{s}.blocks.{b}.kernel_size", stage.kernel_sizes, parent, when)
                add(f"stages.{s}.blocks.{b}.expand_ratio", stage.expand_ratios, parent, when)
                add(f"stages.{s}.blocks.{b}.precision", self.precisions, parent, when)
        add("head.precision", self.precisions)
        return tuple(choices)

    def _make_slots(self, index: Mapping[str, int]) -> tuple[tuple[_Place, ...], tuple[Slot, ...]]:
        """Where each slot stands, and the slots; `index` is that of a choice by its name."""
        places: list[_Place] = []
        slots: list[Slot] = []

        def add(name: str, place: _Place, *dimensions: str) -> None:
            places.append(place)
            slots.append(Slot(name=name, depends_on=tuple(sorted({index[d] for d in dimensions if d in index}))))

        def boundary(name: str, stage: int, block: int, *dimensions: str) -> None:
            before, after = self._precisions_around(stage, block)
            if len(self.precisions) > 1 or (stage < 0 and self.precisions == ("int8",)):
                place = _Place(role="boundary", stage=stage, block=block)
                add(f"boundary.{name}", place, "resolution", "width_mult", *before, *after, *dimensions)

        boundary("stem", -1, 0)
        add("stem", _Place(role="stem"), "resolution", "width_mult", "stem.precision")
        for s, stage in enumerate(self.stages):
            for b in range(max(stage.depths)):
                name = f"stages.{s}.blocks.{b}"
                depth = [f"stages.{s}.depth"] if b >= min(stage.depths) else []
                boundary(name, s, b, *depth)
                own = [f"{name}.{d}" for d in ("kernel_size", "expand_ratio", "precision")]
                of_stage = [f"stages.{s}.activation", f"stages.{s}.se"]
                add(name, _Place(role="mbconv", stage=s, block=b), "resolution", "width_mult", *depth, *of_stage, *own)
        boundary("head", len(self.stages), 0)
        add("head", _Place(role="head", stage=len(self.stages)), "resolution", "width_mult", "head.precision")
        if "int8" in self.precisions:
            add("boundary.end", _Place(role="end"), "head.precision")
        return tuple(places), tuple(slots)

    def _precisions_around(self, stage: int, block: int) -> tuple[list[str], list[str]]:
        """Names of the dimensions that decide the precision before and at a place."""
        if stage < 0:
            return [], ["stem.precision"]
        last = stage == len(self.stages)
        after = ["head.precision" if last else f"stages.{stage}.blocks.{block}.precision"]
        if block > 0:
            return [f"stages.{stage}.blocks.{block - 1}.precision"], after
        if stage == 0:
            return ["stem.precision"], after
        depths = self.stages[stage - 1].depths  # the previous stage may end after any of these
        ends = [f"stages.{stage - 1}.blocks.{d - 1}.precision" for d in depths]
        return [f"stages.{stage - 1}.depth", *ends], after

    # ------------------------------------------------------------ blocks

    def block_at(self, slot: int, options: Sequence[int]) -> Block | None:
        """The block of a slot when the choices in its `depends_on` have these option indices; None: absent."""
        chosen = {c.name: c.options[i] for c, i in zip(self._slot_choices[slot], options, strict=True)}
        return self._block(self._places[slot], _Chosen(chosen, self._fixed))

    def _block(self, place: _Place, c: _Chosen) -> Block | None:
        if place.role == "end":
            return _boundary((self.n_classes,), before=c.option("head.precision"), after="fp32")
        s, b = place.stage, place.block
        inside = 0 <= s < len(self.stages)
        if inside and b >= min(self.stages[s].depths) and b >= c.option(f"stages.{s}.depth"):
            return None
        channels, sizes = self._channels[c.option("width_mult")], self._sizes[c.option("resolution")]
        size = sizes[s + 1] if b == 0 else sizes[s + 2]  # sizes[0] enters the stem, sizes[1] stage 0, ...
        in_shape = (self._in_channels(channels, place), size, size)
        if place.role == "boundary":
            return _boundary(in_shape, before=self._precision_before(s, b, c), after=self._precision_at(s, b, c))
        precision = self._precision_at(s, b, c)
        if inside:
            return self._mbconv(place, in_shape, (channels.stages[s], sizes[s + 2], sizes[s + 2]), precision, c)
        if place.role == "stem":
            kind = "conv"
            out_shape: tuple[int, ...] = (channels.stem, sizes[1], sizes[1])
            attributes: dict[str, Option] = {
                "activation": self.stem_activation,
                "kernel_size": STEM_KERNEL_SIZE,
                "stride": self.stem_stride,
            }
        else:
            kind, out_shape = "head", (self.n_classes,)
            attributes = {
                "activation": self.head_activation,
                "features": channels.features,
                "hidden_channels": channels.head,
            }
        return Block(
            kind=kind, in_shape=in_shape, out_shape=out_shape, precision=precision, attributes=tuple(attributes.items())
        )

    def _mbconv(
        self, place: _Place, in_shape: tuple[int, ...], out_shape: tuple[int, ...], precision: str, c: _Chosen
    ) -> Block:
        stage, name = f"stages.{place.stage}", f"stages.{place.stage}.blocks.{place.block}"
        hidden = self._hidden(in_shape[0], c.option(f"{name}.expand_ratio"))
        squeezed = make_divisible(hidden * self.se_ratio, SE_DIVISOR) if c.option(f"{stage}.se") else 0
        attributes: dict[str, Option] = {  # sorted by name, as keys of blocks want it
            "activation": c.option(f"{stage}.activation"),
            "hidden_channels": hidden,
            "kernel_size": c.option(f"{name}.kernel_size"),
            "se_channels": squeezed,
            "stride": self.stages[place.stage].stride if place.block == 0 else 1,
        }
        return Block(
            kind="mbconv",
            in_shape=in_shape,
            out_shape=out_shape,
            precision=precision,
            attributes=tuple(attributes.items()),
        )

    def _precision_at(self, stage: int, block: int, c: _Chosen) -> str:
        if stage < 0:
            return str(c.option("stem.precision"))
        if stage == len(self.stages):
            return str(c.option("head.precision"))
        return str(c.option(f"stages.{stage}.blocks.{block}.precision"))

    def _precision_before(self, stage: int, block: int, c: _Chosen) -> str:
        if stage < 0:
            return "fp32"  # the network's input
        if block > 0:
            return self._precision_at(stage, block - 1, c)
        depth = c.option(f"stages.{stage - 1}.depth") if stage > 0 else 1
        return self._precision_at(stage - 1, depth - 1, c)

    # ------------------------------------------------------------ related spaces

    def restrict(
        self,
        *,
        precisions: Sequence[str] | None = None,
        resolutions: Sequence[int] | None = None,
        width_mults: Sequence[float] | None = None,
    ) -> Self:
        """The sub-space with fewer options, under the same name; slots of real blocks keep their names.

        Args:
            precisions: what is kept, None for all; likewise `resolutions` and `width_mults`.

        Raises:
            SpaceError: an option that this space does not have, or none at all.
        """
        arguments = self.arguments()
        kept = {"precisions": precisions, "resolutions": resolutions, "width_mults": width_mults}
        for what, options in kept.items():
            if options is None:
                continue
            wrong = [o for o in options if o not in arguments[what]]
            if wrong:
                raise SpaceError(
                    f"space {self.name!r} has no {wrong[0]!r} among its {what}; "
                    f"allowed: {', '.join(map(str, arguments[what]))}"
                )
            arguments[what] = list(options)
        return self.from_arguments(self.name, arguments)

    def with_io(self, in_channels: int, n_classes: int) -> Self:
        """The same space for other data.

        Raises:
            SpaceError: a number below 1.
        """
        return self.from_arguments(self.name, {**self.arguments(), "in_channels": in_channels, "n_classes": n_classes})

    def arguments(self) -> dict[str, Any]:
        """The arguments it was made with, as JSON values."""
        return {
            "in_channels": self.in_channels,
            "n_classes": self.n_classes,
            "resolutions": list(self.resolutions),
            "width_mults": list(self.width_mults),
            "stem_channels": self.stem_channels,
            "stem_stride": self.stem_stride,
            "stem_activation": self.stem_activation,
            "stages": [s.to_json() for s in self.stages],
            "head_channels": self.head_channels,
            "head_features": self.head_features,
            "head_activation": self.head_activation,
            "precisions": list(self.precisions),
            "se_ratio": self.se_ratio,
            "channel_divisor": self.channel_divisor,
        }

    @classmethod
    def from_arguments(cls, name: str, arguments: Mapping[str, Any]) -> Self:
        """The inverse of `arguments`.

        Raises:
            SpaceError: an argument is unknown, missing or wrong.
        """
        names = [n for n in cls.__init__.__annotations__ if n not in ("name", "return")]
        check_keys("MobileNet space", arguments, known=names)
        stages = [StageSpec.from_json(s) for s in arguments["stages"]]
        return cls(name, **{**arguments, "stages": stages})

    def describe(self, encoding: IntArray) -> str:
        """The network's blocks, one a line: slot, operator, shapes, precision.

        Raises:
            SpaceError: as `decode`.
        """
        blocks = self.named_blocks(encoding)
        chosen = _Chosen(self.decode(encoding), self._fixed)
        rows = [
            (name, _operator(b), f"{_shape(b.in_shape)} -> {_shape(b.out_shape)}", b.precision) for name, b in blocks
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        title = f"{self.name}: {chosen.option('resolution')} px, width {chosen.option('width_mult'):g}"
        lines = ("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
        return "\n".join([title, *(f"  {line}" for line in lines)])


def _boundary(shape: tuple[int, ...], *, before: str, after: str) -> Block | None:
    """What stands where a tensor passes from one precision to another; nothing if they are equal."""
    if before == after:
        return None
    kind = "quantize" if after == "int8" else "dequantize"
    return Block(kind=kind, in_shape=shape, out_shape=shape, precision="int8")


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _operator(block: Block) -> str:
    attributes = dict(block.attributes)
    words = [block.kind]
    if "kernel_size" in attributes:
        words.append("{0}x{0}".format(attributes["kernel_size"]))
    if attributes.get("stride", 1) != 1:
        words.append(f"/{attributes['stride']}")
    for name, word in (("hidden_channels", "hidden"), ("features", "features"), ("se_channels", "se")):
        if attributes.get(name):
            words.append(f"{word} {attributes[name]}")
    if "activation" in attributes:
        words.append(str(attributes["activation"]))
    return " ".join(words)
