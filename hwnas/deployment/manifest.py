"""Everything a deployment promises and what was found, as `manifest.json`, which signs for the deployment's files.

A manifest carries its own checksum and those of the files it names. One of schema 1, which had none and did not name
the samples, is read. Knows text, not what made the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    field_validator,
    model_validator,
)

from hwnas.allowed import ACCURACY, EVALUATED, Allowed, allowed_from_json, allowed_to_json
from hwnas.data.preprocess import Preprocessing
from hwnas.deployment._section import Section
from hwnas.deployment.by_class import ByClass
from hwnas.deployment.by_pixel import ByPixel
from hwnas.deployment.doubts import Doubt, doubt_texts
from hwnas.deployment.folder import FIRST_SCHEMA, MANIFEST, check_file, read_manifest
from hwnas.deployment.samples import SAMPLES
from hwnas.deployment.shipped import MOST_THREADS
from hwnas.errors import ArtefactError
from hwnas.files import write_document
from hwnas.foreign import quoted
from hwnas.precisions import EXACT
from hwnas.row_parts import RowPart
from hwnas.spaces.kinds import current_key
from hwnas.tasks.decisions import Decides
from hwnas.types import Artefact, Device, Option, Statistic, TensorSpec

PROGRAM = "model.pt2"
BlockKey = Annotated[str, AfterValidator(current_key)]  # earlier versions named attributes at their defaults
Steps = Annotated[
    Preprocessing,
    PlainValidator(lambda given: given if isinstance(given, Preprocessing) else Preprocessing.from_json(given)),
    PlainSerializer(Preprocessing.to_json),
]


class Latency(Section):
    """Milliseconds, corrected; limits are about `minimum`; `raw_median` is what the clock said.

    `phase_drift` and `phase_share` tell how far to believe it (see `hwnas.types.Statistic`); None without a
    anchor, and in a manifest from before they were kept. Manifests call the minimum `fastest`.

    Attributes:
        minimum: a robust one (`hwnas/measure/phases.py`).
        median: of the samples.
        p90: the time that 90 % of the samples do not exceed.
        n: number of samples.
        cv: coefficient of variation: their standard deviation over their mean.
        drift: of the machine, by which times were divided: the anchor's time over its time in the table.
        phase_drift: the same in the phase that the minimum is of; near 1, the machine was as fast as for the table.
        phase_share: of the rounds, those in that phase; 0 where no phase was shared by enough.
    """

    minimum: Annotated[float, Field(validation_alias=AliasChoices("minimum", "fastest"), serialization_alias="fastest")]
    median: float
    p90: float
    n: int
    cv: float
    drift: float
    phase_drift: Annotated[float, Field(gt=0)] | None = None
    phase_share: Annotated[float, Field(ge=0, le=1)] | None = None

    @property
    def raw_median(self) -> float:
        """Uncorrected median in milliseconds."""
        return self.median * self.drift

    @classmethod
    def of(cls, s: Statistic) -> Latency:
        return cls(
            minimum=s.minimum,
            median=s.median,
            p90=s.p90,
            n=s.n,
            cv=s.cv,
            drift=s.drift,
            phase_drift=s.phase_drift,
            phase_share=s.phase_share,
        )


class Measured(Section):
    """What the runtime said.

    Attributes:
        latency_ms: of one run at batch 1.
        costs: what else a run costs, by metric: `energy_mj`, `memory_bytes`; empty where nothing tells.
        source: `measured`, or `estimated by ...` on a device without the hardware.
        looks: how often the latency was measured: once more where the first time was doubtful.
        doubts: what still speaks against it (`hwnas.deployment.doubts`).
    """

    latency_ms: Latency
    costs: dict[str, float] = Field(default_factory=dict)
    source: str = "measured"
    looks: Annotated[int, Field(ge=1)] = 1
    doubts: tuple[Doubt, ...] = ()


def _of_floats() -> Any:
    return Field(validation_alias=AliasChoices("float_latency_ms", "fp32_latency_ms"))


class SlowBlock(Section):
    """A quantized block of a small speed-up, `count` times in the network.

    Latencies are its share of the network in each precision: measured alone, less the cost of a call. None where it
    has no float form. (Manifests of earlier versions have `fp32_` for `float_`.)

    Attributes:
        block: its key in latency tables.
        count: how often it is in the network.
        latency_ms: of one, as it ships.
        float_latency_ms: of one in floats.
    """

    block: BlockKey
    count: int
    latency_ms: float
    float_latency_ms: float | None = _of_floats()


class PrecisionSpeedup(Section):
    """The network against its own float form, timed in the same rounds.

    Attributes:
        float_latency_ms: of the float form.
        latency_ms: of what ships.
        speedup: the former over the latter.
        slow_blocks: where the speed-up is small: the blocks that stop it, the most expensive first.
        against: precision of the float form: what the device computes floats in.
    """

    float_latency_ms: float = _of_floats()
    latency_ms: float
    speedup: float
    slow_blocks: tuple[SlowBlock, ...] = ()
    against: str = EXACT


class Accuracy(Section):
    """How good the network is at its task, 1 being perfect; the test set is read once, after everything is decided.

    Attributes:
        metric: `accuracy`, the share of samples that are answered as their labels say, or what another task measures;
            `agreement` where labels are what the given network answers.
        validation_torch: of what ships, computed by torch, on the images that networks are ranked by.
        validation_fp32: of the same network in floats.
        test_torch: as `validation_torch`, on the test images.
        test_fp32: as `validation_fp32`, on the test images.
        test_runtime: of the artefact through the runtime, on the test images.
        n_test: number of test images.
        standard_error: of `test_runtime`; None in a manifest of an earlier version.
        others: what else the task measures on the test samples, through the runtime, by name.
        by_class: of the test images, through the runtime; None where there are no classes or labels are answers, and in
            a manifest of schema 1.
        by_pixel: the same of the pixels of test masks; None of other tasks, and in a manifest of an earlier version.
    """

    metric: str = ACCURACY

    validation_torch: float
    validation_fp32: float
    test_torch: float
    test_fp32: float
    test_runtime: float
    n_test: int
    standard_error: Annotated[float, Field(ge=0)] | None = None
    others: dict[str, float] = Field(default_factory=dict)
    by_class: ByClass | None = None
    by_pixel: ByPixel | None = None

    def warnings(self) -> list[str]:
        """What a reader of the metric alone would not expect of the classes."""
        return [w for by in (self.by_class, self.by_pixel) if by is not None for w in by.warnings()]

    @field_validator("metric")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in EVALUATED:
            raise ValueError(f"is {value!r}, but must be one of {', '.join(EVALUATED)}")
        return value


class Parity(Section):
    """The runtime's outputs against torch's on the test samples.

    Attributes:
        max_abs_diff: of an output.
        top1_agreement: share of equal decisions: of a classifier, its predictions.
        n: number of decisions.
        decides: what a decision is: a sample's prediction, a label of it, a pixel, a value.
        step: of the outputs: what an integer output can tell apart.
        near_ties: decisions that are others, but by a step or two of the two logits: no fault.
        error_ratio: how far the runtime's integers are from the network in floats, over how far torch's are; None of
            floats, and in a manifest of an earlier version.
    """

    max_abs_diff: float
    top1_agreement: float
    n: int
    step: Annotated[float, Field(ge=0)] = 0.0
    near_ties: Annotated[int, Field(ge=0)] = 0
    error_ratio: Annotated[float, Field(ge=0)] | None = None
    decides: Decides = "prediction"

    @property
    def others(self) -> float:
        """Share of predictions that were others than torch's when the deployment was made, beyond near-ties."""
        return max(0.0, 1 - self.top1_agreement - self.near_ties / max(1, self.n))


class TensorInfo(Section):
    """How an input takes images or an output gives logits; see `hwnas.types.TensorSpec`.

    Attributes:
        layout: of images; of series likewise: `NHWC` is (N, L, C).
        dtype: numpy's name.
        scale: real value of one step, for integers.
        zero_point: the quantized value of 0, for integers.
    """

    layout: Literal["NCHW", "NHWC"] = "NCHW"
    dtype: Literal["float16", "float32", "float64", "int8", "uint8", "int16", "uint16", "int32"] = "float32"
    scale: Annotated[float, Field(gt=0)] = 1.0
    zero_point: Annotated[int, Field(ge=-(2**31), lt=2**31)] = 0


class ArtefactInfo(Section):
    """A file of the deployment.

    Attributes:
        path: in the deployment's folder.
        format: `onnx`, `tflite`, ...
        sha256: of its content.
        size_bytes: of the file.
        input: how it takes images.
        output: how it gives its only output.
        outputs: of a file of several outputs, each, in their order; `output` says nothing then.
        batch: how many samples it takes at a time; `any` number; None where its exporter did not tell (an older one, or
            the anchor's).
    """

    path: str
    format: str
    sha256: str
    size_bytes: int
    input: TensorInfo = TensorInfo()
    output: TensorInfo = TensorInfo()
    outputs: tuple[TensorInfo, ...] = ()
    batch: Annotated[int, Field(ge=1)] | Literal["any"] | None = None

    @classmethod
    def of(cls, artefact: Artefact, *, path: str) -> ArtefactInfo:
        """What is noted of an artefact that is kept under that name."""
        return cls(
            path=path,
            format=artefact.format,
            sha256=artefact.sha256,
            size_bytes=artefact.size_bytes,
            input=TensorInfo(**asdict(artefact.input)),
            output=TensorInfo(**asdict(artefact.output)),
            outputs=tuple(TensorInfo(**asdict(spec)) for spec in artefact.outputs),
            batch=artefact.batch,
        )


class InputPart(Section):
    """One of several inputs.

    Attributes:
        name: of it.
        shape: of one sample.
    """

    name: str
    shape: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]


class InputInfo(Section):
    """The network's input, to which `Manifest.preprocessing` leads: (C, H, W) float32, or (C, ...) of no image.

    Attributes:
        shape: of one sample.
        parts: several inputs, which are side by side in one row; none of a network of one.
    """

    shape: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
    parts: tuple[InputPart, ...] = ()

    @property
    def what(self) -> str:
        """What samples are called: images, if they have height and width."""
        return "images" if len(self.shape) == 3 else "samples"


class PartInfo(Section):
    """One of several outputs.

    Attributes:
        name: of it, also in a file whose format has names.
        shape: of one sample, channels first.
        step: what an integer output can tell apart: by it a runtime is held against torch.
    """

    name: str
    shape: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
    step: Annotated[float, Field(ge=0)] = 0.0

    @property
    def part(self) -> RowPart:
        """What it is, without how it is compared."""
        return RowPart(name=self.name, shape=self.shape)


class OutputInfo(Section):
    """What the network's outputs mean.

    Attributes:
        task: `classification`, `multi_label`, `regression`, `segmentation`, `outputs`, or a user's own.
        mean: of values that an output of 0 means, one each; None where outputs mean what they are.
        std: and how much more one more means.
        parts: several outputs, in the order of the file; `samples.safetensors` has them side by side in one row.
    """

    task: str = "classification"
    mean: tuple[float, ...] | None = None
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    parts: tuple[PartInfo, ...] = ()


class DeviceInfo(Section):
    """The device as it was described, and the context in which it was measured.

    Attributes:
        name: of its description.
        runtime: registered name of the adapter.
        threads: of the runtime.
        options: of the runtime.
        context: what the runtime says of itself and of the machine: versions, processor, ...
        cores: processors that the measuring process was pinned to; empty: any.
        connection: how the board was reached; empty: the machine itself.
        meter: registered name of the energy meter, where the deployment has a limit on energy.
        meter_options: its settings.
        idle_w: stated power while nothing runs; None: measured.
    """

    name: str
    runtime: str
    threads: Annotated[int, Field(ge=1, le=MOST_THREADS)]
    options: dict[str, Option]
    context: dict[str, str]
    cores: tuple[int, ...] = ()
    connection: dict[str, Option] = Field(default_factory=dict)
    meter: str = ""
    meter_options: dict[str, Option] = Field(default_factory=dict)
    idle_w: float | None = None


class Manifest(Section):
    """Everything a deployment promises and what was found. Units stand in the names.

    Attributes:
        schema_number: of this file.
        space: name of the space.
        architecture: choice -> option of the network.
        blocks: of the network, in order, as keys of latency tables.
        device: that it is for, and was measured on.
        runtime: registered name of its adapter.
        precision: what the artefact counts as: that of a quantized block, or of all where none is quantized.
        limits: metric -> what was asked for; what `hwnas verify` holds it to.
        predicted: metric -> what was told before it was measured; `..._upper` is the bound that the search kept.
        measured: of the artefact on the device.
        accuracy: of the network at its task.
        parity: of the runtime with torch.
        artefact: what ships.
        input: of the network.
        output: of the network.
        classes: names, in the order of the outputs; empty where there are none.
        rejected: the networks that were tried before it, each with the reason.
        provenance: date, versions, seeds, data, checksums of weights and tables, study and trial.
        preprocessing: every step from an image to the input; None in a manifest of schema 1 alone, which did not keep
            them all.
        samples_sha256: empty in a manifest of schema 1 alone.
        reference: the drift anchor.
        reference_ms: its time in the table.
        compiled: what the board runs instead, where the maker's compiler makes it.
        program: the network in floats as a torch program, for its owner to go on with; no limit counts its size. None
            where it was not wanted, where torch could not export it, and in a manifest from before it was made.
        runs: what really runs: provider, operators, fallbacks.
        precision_speedup: against the same network in floats; None where no block is quantized, or one of the two
            cannot be timed.
    """

    schema_number: int
    space: str
    architecture: dict[str, Option]
    blocks: tuple[BlockKey, ...]
    device: DeviceInfo
    runtime: str
    precision: str
    limits: dict[str, Annotated[Allowed, PlainValidator(allowed_from_json), PlainSerializer(allowed_to_json)]]
    predicted: dict[str, float]
    measured: Measured
    accuracy: Accuracy
    parity: Parity
    artefact: ArtefactInfo
    reference: ArtefactInfo
    reference_ms: float
    input: InputInfo
    output: OutputInfo = OutputInfo()
    preprocessing: Steps | None = None
    classes: tuple[str, ...]
    rejected: tuple[dict[str, Any], ...]
    provenance: dict[str, Any]
    samples_sha256: str = ""
    # manifests call this `companions`, and the last `precision_gain`
    compiled: Annotated[
        tuple[ArtefactInfo, ...],
        Field(validation_alias=AliasChoices("compiled", "companions"), serialization_alias="companions"),
    ] = ()
    program: ArtefactInfo | None = None
    runs: dict[str, str] = Field(default_factory=dict)
    precision_speedup: Annotated[
        PrecisionSpeedup | None,
        Field(
            validation_alias=AliasChoices("precision_speedup", "precision_gain"), serialization_alias="precision_gain"
        ),
    ] = None

    @model_validator(mode="after")
    def _complete(self) -> Manifest:
        # optional for schema 1 alone: a manifest that lost them must not pass as an old one
        if self.is_sealed and (self.preprocessing is None or not self.samples_sha256):
            raise ValueError("the steps of the preprocessing or the checksum of the samples are missing")
        if len(self.output.parts) != len(self.artefact.outputs):
            raise ValueError("the file has another number of outputs than are named")
        return self

    def write(self, folder: Path) -> None:
        """Write `manifest.json` with its checksum, whole."""
        write_document(folder / MANIFEST, self.model_dump(mode="json", by_alias=True))

    @property
    def is_sealed(self) -> bool:
        """Whether a changed manifest or changed samples are noticed: not with a manifest of schema 1."""
        return self.schema_number != FIRST_SCHEMA

    def latency_warnings(self) -> tuple[str, ...]:
        """What speaks against the measured latency, for people."""
        if not self.measured.doubts:
            return ()
        return doubt_texts(self.measured.latency_ms, predicted_ms=self.predicted.get("latency_ms"))

    @property
    def files(self) -> Iterator[ArtefactInfo]:
        """All files that it names, samples aside."""
        yield from (self.artefact, self.reference, *self.compiled)
        if self.program is not None:
            yield self.program

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of a deployment.

        Raises:
            ArtefactError: the folder has none, or it cannot be read.
        """
        value = read_manifest(folder)
        if value["schema_number"] == FIRST_SCHEMA:
            value = _without_partial_preprocessing(value)
        try:
            return cls.model_validate(value)
        except ValidationError as e:
            first = e.errors()[0]
            where = quoted(".".join(map(str, first["loc"])))
            raise ArtefactError(f"{folder / MANIFEST}: {where}: {first['msg']}; export the network again") from e

    def described_device(self, *, here: bool = False) -> Device:
        """The device to load the artefact with.

        Args:
            here: this machine is the board: there is no connection to it.
        """
        d = self.device
        return Device(
            name=d.name,
            runtime=d.runtime,
            threads=d.threads,
            # cores are numbered by the machine: those of the board mean nothing on another
            cores=() if here else d.cores,
            meter=d.meter,
            meter_options=dict(d.meter_options),
            idle_w=d.idle_w,
            options=dict(d.options),
            connection={} if here else dict(d.connection),
        )


def _without_partial_preprocessing(value: dict[str, Any]) -> dict[str, Any]:
    """A manifest of schema 1: of the steps it held the last few only, which mislead without the others."""
    given = value.get("input")
    if isinstance(given, dict):
        given = {name: v for name, v in given.items() if name not in ("mean", "std", "interpolation")}
    return {name: v for name, v in value.items() if name != "preprocessing"} | {"input": given}


def checked_artefact(folder: Path, info: ArtefactInfo, *, precision: str) -> Artefact:
    """A file of a deployment, if it is the one the manifest names.

    Raises:
        ArtefactError: it is missing or its content changed.
    """
    path = check_file(folder, info.path, sha256=info.sha256)
    return Artefact(
        path=path,
        format=info.format,
        precision=precision,
        sha256=info.sha256,
        size_bytes=path.stat().st_size,
        input=TensorSpec(**info.input.model_dump()),
        output=TensorSpec(**info.output.model_dump()),
        outputs=tuple(TensorSpec(**spec.model_dump()) for spec in info.outputs),
        batch=info.batch,
    )


def check_files(folder: Path, manifest: Manifest) -> None:
    """See that a deployment has all its files as they were when it was made.

    Raises:
        ArtefactError: one is missing or its content changed.
    """
    for info in manifest.files:
        check_file(folder, info.path, sha256=info.sha256)
    if manifest.is_sealed:
        check_file(folder, SAMPLES, sha256=manifest.samples_sha256)
