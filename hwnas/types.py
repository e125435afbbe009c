"""The vocabulary: frozen data classes and the Protocols where behaviour plugs in.

One word per idea: architecture, choice, slot, block, device, runtime, table, limit, study,
deployment. This module must never know torch, a runtime or files on disk (a path is only a name).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from hwnas.errors import ConfigError
from hwnas.precision_data import EXACT, INTEGERS

if TYPE_CHECKING:  # names in signatures only: this module stays importable without torch
    from torch import Tensor, nn

Option = str | int | float | bool
Setting = Option | tuple[str, ...]  # of a connection: several for boards of a kind
IntArray = npt.NDArray[np.integer[Any]]
FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]
Batch: TypeAlias = int | Literal["any"]

LAYOUTS = ("NHWC", "NCHW")  # of images
PRECISIONS = (EXACT, INTEGERS)  # offered where none is named; hwnas/precisions.py knows what devices make of them


# ---------------------------------------------------------------- search spaces


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One decision of a space.

    Attributes:
        name: unique in its space, dotted: `stages.0.blocks.1.kernel_size`.
        options: what may be chosen, at least one, all different; an encoding holds their indices.
        parent: index of the choice that switches this one on and off; None if it is always on.
        active_when: the parent's option indices for which this choice matters.
    """

    name: str
    options: tuple[Option, ...]
    parent: int | None = None
    active_when: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A position in the network; its block depends on `depends_on` (indices into choices) only."""

    name: str
    depends_on: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What a slot becomes under some choices: everything its cost depends on.

    Attributes:
        kind: operator family: `conv`, `mbconv`, `head`, `quantize`, `dequantize`, ...
        in_shape: one sample, without the batch dimension: (C, H, W) or (features,).
        out_shape: likewise.
        precision: a name of hwnas/precisions.py: `fp32`, `int8`, `fp16`, `int8-pt`, ...
        attributes: sorted (name, value) pairs: kernel_size, stride, hidden_channels, ... Those at the defaults of
            their kind are left out (`hwnas.spaces.kinds.normalised`), so that a new attribute changes no key.
    """

    kind: str
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    precision: str
    attributes: tuple[tuple[str, Option], ...] = ()

    @property
    def key(self) -> str:
        """Readable and unique: `mbconv|in=16x8x8|out=24x4x4|kernel_size=3,stride=2|int8`."""
        # names and values must hold none of `|`, `,` and `=`, by which `from_key` takes the text apart
        shape = ["x".join(map(str, s)) for s in (self.in_shape, self.out_shape)]
        attrs = ",".join(f"{k}={v}" for k, v in self.attributes)
        return f"{self.kind}|in={shape[0]}|out={shape[1]}|{attrs}|{self.precision}"

    @classmethod
    def from_key(cls, key: str) -> Block:
        """The block a key describes; the inverse of `key`.

        Raises:
            ValueError: the text is not a block key.
        """
        try:
            kind, i, o, attrs, precision = key.split("|")
            shapes = [tuple(int(n) for n in s.split("=")[1].split("x")) for s in (i, o)]
            pairs = tuple((k, _parse_option(v)) for k, v in (a.split("=") for a in attrs.split(",") if a))
        except (ValueError, IndexError) as e:
            raise ValueError(f"not a block key: {key!r}") from e
        return cls(kind=kind, in_shape=shapes[0], out_shape=shapes[1], precision=precision, attributes=pairs)


def _parse_option(text: str) -> Option:
    if text in ("True", "False"):
        return text == "True"
    for number in (int, float):  # in this order, so that 3 and 3.0 come back as they were written
        try:
            return number(text)
        except ValueError:
            continue
    return text


@runtime_checkable
class SearchSpace(Protocol):
    """Which networks exist. Encodings are integer arrays of option indices: (D,) one, (N, D) many."""

    name: str
    choices: tuple[Choice, ...]
    slots: tuple[Slot, ...]

    def canonical(self, encodings: IntArray) -> IntArray:
        """(N, D) -> (N, D): choices that are switched off become 0, so equal networks are equal rows."""
        ...

    def block_at(self, slot: int, options: Sequence[int]) -> Block | None:
        """The block of a slot when the choices in its `depends_on` have these option indices; None: absent."""
        ...

    def named_blocks(self, encoding: IntArray) -> tuple[tuple[str, Block], ...]:
        """(D,) -> (name, block) of the network, in order: present slots, and edges where the precision changes."""
        ...


# ---------------------------------------------------------------- devices and runtimes


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Where networks run: a description, not a connection.

    Attributes:
        name: of the description, also the folder of its tables.
        runtime: registered name of the adapter.
        threads: intra-operator threads the runtime may use.
        cores: processors the measuring process is pinned to; empty: any.
        precisions: which are legal on it: names of hwnas/precisions.py. `fp32` stands for any floats and `int8` for any
            8-bit integers, in the form its runtime computes; another name for itself alone.
        options: runtime-specific settings (execution provider, ...), passed on as they are.
        connection: how the board is reached: `transport` (a registered name) and its settings; empty: this machine. It
            may name several boards of a kind (`hosts`); see `hwnas.measure.connection.boards_of`.
        meter: registered name of the energy meter; empty: none.
        meter_options: the meter's settings, passed on as they are.
        power_w: stated power while a network runs; without a meter, energies are estimated from it.
        idle_w: stated power while nothing runs, which a meter or an estimate subtracts; None: measured, or 0.
        limits: metric -> what the device cannot exceed whatever a run asks for (flash: `size_bytes`, SRAM:
            `memory_bytes`).
        description: for people.
        known: what is known of it, and from where, for people.
        unknown: what only profiling will tell, for people.
    """

    name: str
    runtime: str
    threads: int = 1
    cores: tuple[int, ...] = ()
    precisions: tuple[str, ...] = PRECISIONS
    options: Mapping[str, Option] = field(default_factory=dict)
    connection: Mapping[str, Setting] = field(default_factory=dict)
    meter: str = ""
    meter_options: Mapping[str, Option] = field(default_factory=dict)
    power_w: float | None = None
    idle_w: float | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    description: str = ""
    known: str = ""
    unknown: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """How an artefact's input takes images, or its output gives logits.

    The canonical form is float32, images as (N, C, H, W), series as (N, C, L). `hwnas.measure.interface` leads there
    and back.

    Attributes:
        layout: `NCHW` or `NHWC`, of images; of series likewise: `NHWC` is (N, L, C).
        dtype: numpy's name: `float32`, `int8`, `uint8`.
        scale: real value of one step, for integers.
        zero_point: the quantized value of 0, for integers.
    """

    layout: str = "NCHW"
    dtype: str = "float32"
    scale: float = 1.0
    zero_point: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """A file a runtime loads; `input` and `output` say what its first tensors look like.

    Attributes:
        outputs: of a file of several outputs, what each looks like, in their order; `output` says nothing then.
        batch: how many samples it takes at a time; `any` number, or None: nobody told.
    """

    path: Path
    format: str
    precision: str
    sha256: str
    size_bytes: int
    input: TensorSpec = TensorSpec()
    output: TensorSpec = TensorSpec()
    batch: Batch | None = None
    outputs: tuple[TensorSpec, ...] = ()


class Session(Protocol):
    """A loaded artefact. Used as a context manager; leaving it frees the runtime's memory."""

    def run(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """Outputs for these inputs, in the types and layouts the artefact has; each (N, ...), in its order.

        An artefact of a fixed batch of 1 is run once for each of the N samples.
        """
        ...

    def time_ns(self, *, iterations: int) -> int:
        """Total nanoseconds of that many runs on fixed random inputs of batch 1, by the runtime's best clock."""
        ...

    def info(self) -> Mapping[str, str]:
        """What really runs: provider, delegates, fused operators, fallbacks."""
        ...

    def costs(self) -> Mapping[str, float]:
        """What a run costs besides time, as far as the runtime itself tells: `memory_bytes` (of an arena), ...

        Empty where it tells nothing.
        """
        ...

    def __enter__(self) -> Session: ...

    def __exit__(self, *exc: object) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionRule:
    """How a runtime computes networks of one precision.

    Attributes:
        operators: the kinds (hwnas/graph/operators.py) it computes in that precision, the others in floats. None: all
            that its format has.
        how: it does, for people: what is added up, which kernels; "" where the name says all.
    """

    operators: frozenset[str] | None = None
    how: str = ""


class Runtime(Protocol):
    """An adapter that loads artefacts.

    Attributes:
        name: registered.
        formats: it reads.
        precisions: it computes in, on one device or another: names of hwnas/precisions.py, each with how.
        quantization: of int8 activations: `asymmetric` (uint8 with a zero point, or its equivalent), or `symmetric`.
    """

    name: str
    formats: frozenset[str]
    precisions: Mapping[str, PrecisionRule]
    quantization: str

    def load(self, artefact: Artefact, device: Device) -> Session:
        """Raises ArtefactError for a file it cannot read, MeasurementError when the runtime refuses it."""
        ...

    def context(self, device: Device) -> Mapping[str, str]:
        """`runtime_version`, `hardware` and whatever else changes a time."""
        ...


@runtime_checkable
class CompilesForBoard(Protocol):
    """A runtime whose board runs another file than the artefact: what the maker's compiler makes of it."""

    def compile_for_board(self, artefact: Artefact, device: Device, folder: Path) -> tuple[Path, ...]:
        """Write these files into the folder; their paths."""
        ...


@runtime_checkable
class TellsCosts(Protocol):
    """A runtime whose sessions tell what a run costs besides time.

    Attributes:
        metrics: everything that `Session.costs` may tell -> what it is, for people. A name ends with its unit
            (`memory_bytes`); a description may limit it.
    """

    metrics: Mapping[str, str]


@runtime_checkable
class SubstitutesPrecisions(Protocol):
    """A runtime that on some devices computes what is asked for as `fp32` or `int8` in another precision."""

    def substitutes(self, device: Device, context: Mapping[str, str]) -> Mapping[str, str]:
        """One of PRECISIONS -> the name of what it is computed in; what is computed as offered may be left out.

        Args:
            device: the description, whose options may say so.
            context: what `Runtime.context` said where the device is: its processor may decide. Empty, or no more
                than `hardware`, where that is not known.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """How the first and the last tensor of a file are to look; what is None, each format decides for itself.

    Attributes:
        integer_input: integers come in, of the scale that the module quantizes its input to; False: floats.
        integer_output: likewise, what goes out.
        input_layout: of images that come in: `NCHW` or `NHWC`.
        fixed_batch: it takes as many samples at a time as the example has, and no other number; False: any number,
            where the format can.
        output_name: of the last tensor. The first one is `input`.
    """

    integer_input: bool | None = None
    integer_output: bool | None = None
    input_layout: str | None = None
    fixed_batch: bool = False
    output_name: str = "logits"

    def __post_init__(self) -> None:
        if self.input_layout not in (None, *LAYOUTS):
            raise ConfigError(f"layout {self.input_layout!r} is unknown; known: {', '.join(LAYOUTS)}")


NETWORK_ENDS = Ends()  # of a network that ships: all as its format has it


@runtime_checkable
class Exporter(Protocol):
    """Writes torch modules as artefacts of one format. It makes no networks: what is written is given.

    Attributes:
        format: that runtimes read, and the name it is registered by.
    """

    format: str

    def export(
        self, model: nn.Module, example: Tensor, path: Path, *, precision: str, ends: Ends = NETWORK_ENDS
    ) -> Artefact:
        """Write the model as it is in eval mode (fake quantizers become quantized operators); change nothing in it.

        Args:
            model: float, or quantized by `hwnas.supernet.quantization.quantize`.
            example: one batch (N, ...) of float32; only its shape matters.
            path: where to write; replaced whole.
            precision: what to note in the artefact: a name of hwnas/precisions.py.
            ends: how the file's first and last tensor are to look.

        Raises:
            ExportError: the format cannot express a part of the module, which is named, or such ends.
        """
        ...


# ---------------------------------------------------------------- costs, limits, search


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistic:
    """A measured time with its spread, in milliseconds.

    `minimum` is what the model costs while nothing else disturbs the machine. It is the number tables, predictions
    and limits are about, because it repeats: a neighbour on the same core slows half of all runs by half, and
    which half changes from minute to minute (`benchmarks/repeatability.py`). The median tells what that does.

    Attributes:
        minimum: a robust one: the fastest batches of runs that enough samples share, corrected by the anchor's in
            the same phase of the machine (`hwnas.measure.phases`); at most `median`. Files call it `fastest`.
        median: corrected by `drift` (raw median divided by it).
        p90: 90th percentile of the rounds, corrected likewise.
        n: number of timed rounds.
        cv: robust coefficient of variation of the rounds (1.4826 MAD / median).
        drift: drift anchor's time in these rounds over its time in the table; 1.0 if there was none.
        costs: what else one run costs, by metric with its unit (`energy_mj`, `memory_bytes`), where something tells.
        phase_drift: the anchor's time over its time in the table in the phase that `minimum` is of: near 1, the
            machine was seen as fast as when the table was begun; far from 1 it never was, and `minimum` is as wrong as
            other models are slowed otherwise than the anchor. None without an anchor, and in tables from
            before it was kept.
        phase_share: of the rounds, those in that phase; 0 where no phase was shared by enough. None likewise.
    """

    minimum: float
    median: float
    p90: float
    n: int
    cv: float
    drift: float = 1.0
    costs: Mapping[str, float] = field(default_factory=dict)
    phase_drift: float | None = None
    phase_share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementFailure:
    """A measurement that failed, as data, so that one bad candidate ends no run.

    Attributes:
        reason: for people: what happened, with the runtime's own words.
    """

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """An estimated cost of N architectures. `upper` is a bound held with the model's confidence."""

    value: FloatArray
    upper: FloatArray


class CostModel(Protocol):
    """A cost known for every architecture of a space without building it."""

    @property
    def metric(self) -> str:
        """Its name, with the unit: `latency_ms`."""
        ...

    def estimate(self, encodings: IntArray) -> Estimate:
        """(N, D) -> values and upper bounds, each (N,)."""
        ...

    def bounds(self) -> tuple[float, float]:
        """Exact minimum and maximum of `value` over the space."""
        ...

    def minimizer(self) -> IntArray:
        """(D,) an architecture that reaches the minimum."""
        ...


class Direction(enum.StrEnum):
    """Whether more of a metric is better."""

    MAXIMIZE = "maximize"
    MINIMIZE = "minimize"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainTarget:
    """One forward pass of a training step.

    Attributes:
        encoding: (D,) the sub-network.
        teacher: learns from the labels if None, else from the outputs of the target with this index, which saw all of
            this one's images.
        images: which of the batch it sees, by a slice of the batch.
        name: what its loss is called on the way; empty: it is not told.
    """

    encoding: IntArray
    teacher: int | None = None
    images: slice = field(default_factory=lambda: slice(None))
    name: str = ""


class TrainingStrategy(Protocol):
    """Which sub-networks a training step runs, and what each learns from."""

    def architectures(self, step: int, rng: np.random.Generator) -> Sequence[TrainTarget]: ...


@runtime_checkable
class LearningStrategy(TrainingStrategy, Protocol):
    """A strategy that is told the losses; what it makes of them is kept with the checkpoint."""

    def observe(self, targets: Sequence[TrainTarget], losses: Sequence[float]) -> None:
        """Take note of a step: the loss of each target, alike in all processes."""

    def state(self) -> dict[str, Any]:
        """What was learned, as JSON values."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with what `state` gave, to the bit."""


# Where long work reports to: (done, total, note). The command line draws it; `ignore_progress` does not.
ProgressCallback = Callable[[int, int, str], None]


def ignore_progress(done: int, total: int, note: str) -> None:
    """The ProgressCallback of somebody who is not watching."""
