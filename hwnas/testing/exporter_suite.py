"""Conformance checks of an exporter with the runtime that loads its files: what hwnas promises, tried.

Each check takes an `ExporterCase` and raises AssertionError with what it found. A third party's test:

    @pytest.mark.parametrize("check", exporter_suite.CHECKS, ids=lambda check: check.__name__)
    def test_conformance(check, tmp_path):
        check(ExporterCase(exporter=MyExporter(), runtime=MyRuntime(), device=my_device, folder=tmp_path))

This module knows torch modules, exporters and runtimes; never tables or search.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hwnas.errors import ExportError
from hwnas.files import sha256_file
from hwnas.measure.interface import from_artefact, to_artefact
from hwnas.precisions import EXACT, INTEGERS, computed_in, gives_integers, is_quantized, supported, takes_integers
from hwnas.spaces.mobilenet_kinds import SIGMOID
from hwnas.supernet.quantization import QuantizedNetwork, fold_batchnorm, quantize
from hwnas.supernet.subnetwork import SubNetwork
from hwnas.supernet.untrained import untrained_block
from hwnas.types import LAYOUTS, NETWORK_ENDS, Array, Artefact, Block, Device, Ends, Exporter, Option, Runtime

FP32_TOLERANCE = 1e-4  # largest difference of an output, float against float
INT8_STEPS = 4  # largest difference of an output, in steps of its scale
INT8_IDENTICAL = 0.95  # smallest share of outputs with the very same quantized value
_BATCH = 16
_SHAPE = (2, 12, 12)
_MIXTURES = ("fiif", "iffi", "ifif")  # precisions of the blocks in order: f for fp32, i for int8


@dataclass(frozen=True, slots=True, kw_only=True)
class ExporterCase:
    """What is tried: an exporter, a runtime that reads its format, a device to run on, a folder to write in."""

    exporter: Exporter
    runtime: Runtime
    device: Device
    folder: Path


def sample_blocks(
    pattern: str,
    *,
    act: str = "relu6",
    se_channels: int = 0,
    se_gate: str = SIGMOID,
    features: int = 0,
    in_shape: tuple[int, int, int] = _SHAPE,
    integers: str = INTEGERS,
    floats: str = EXACT,
) -> list[Block]:
    """A network of four blocks that has every operator, with the boundaries its precisions need.

    Args:
        pattern: one letter for each block: `i` for integers, `f` for floats.
        act: activation of all blocks.
        se_channels: of the squeeze-and-excitations, 0 for none.
        se_gate: of those.
        features: size of the head's hidden layer, 0 for none.
        in_shape: (C, H, W) of the images, square.
        integers: which quantized precision.
        floats: which other.
    """
    half, quarter = -(-in_shape[1] // 2), -(-in_shape[1] // 4)
    mbconv: dict[str, Option] = {"activation": act, "se_channels": se_channels, "se_gate": se_gate}
    parts: list[tuple[str, tuple[int, ...], dict[str, Option]]] = [
        ("conv", (8, half, half), {"activation": act, "kernel_size": 3, "stride": 2}),
        ("mbconv", (8, half, half), {**mbconv, "hidden_channels": 8, "kernel_size": 3, "stride": 1}),
        ("mbconv", (12, quarter, quarter), {**mbconv, "hidden_channels": 24, "kernel_size": 5, "stride": 2}),
        ("head", (10,), {"activation": act, "features": features, "hidden_channels": 32}),
    ]
    blocks: list[Block] = []
    shape: tuple[int, ...] = in_shape
    quantized = False
    for letter, (kind, out_shape, attributes) in zip(pattern, parts, strict=True):
        if (letter == "i") != quantized:
            quantized = not quantized
            blocks.append(_boundary("quantize" if quantized else "dequantize", shape, integers))
        blocks.append(
            Block(
                kind=kind,
                in_shape=shape,
                out_shape=out_shape,
                precision=integers if quantized else floats,
                attributes=tuple(sorted(attributes.items())),
            )
        )
        shape = out_shape
    return [*blocks, _boundary("dequantize", shape, integers)] if quantized else blocks


def _boundary(kind: str, shape: tuple[int, ...], precision: str) -> Block:
    return Block(kind=kind, in_shape=shape, out_shape=shape, precision=precision)


def sample_network(blocks: Sequence[Block], *, seed: int = 0) -> SubNetwork:
    """A network in eval mode with random weights and random BatchNorm statistics; no tensor in it is dead."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):  # modules draw numbers that are replaced below; no caller's are used up
        network = SubNetwork(blocks)
    for name, tensor in network.state_dict().items():
        if tensor.dim() > 1:  # He et al. (2015): keeps the size of activations
            tensor.normal_(0.0, (2.0 / tensor[0].numel()) ** 0.5, generator=generator)
        elif name.endswith(("bn.weight", "running_var")):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.is_floating_point():  # `num_batches_tracked` is a count
            tensor.uniform_(-0.2, 0.4, generator=generator)
    return network.eval()


def sample_images(count: int, *, seed: int = 1) -> Tensor:
    """(count, 2, 12, 12) of noise."""
    return torch.randn(count, *_SHAPE, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------- checks


def check_artefact(case: ExporterCase) -> None:
    """The artefact says what the file is, and nothing but that file is left in the folder."""
    path = case.folder / "network.artefact"
    artefact = case.exporter.export(sample_network(sample_blocks("ffff")), sample_images(1), path, precision=EXACT)
    _require(artefact.path == path and path.is_file(), f"{artefact.path} was written, {path} was asked for")
    _require(artefact.format == case.exporter.format, f"the artefact has format {artefact.format!r}")
    _require(artefact.precision == EXACT, f"the artefact has precision {artefact.precision!r}")
    _require(artefact.sha256 == sha256_file(path), "the artefact's hash is not the file's")
    _require(artefact.size_bytes == path.stat().st_size, "the artefact's size is not the file's")
    _require(artefact.batch in {1, "any"}, f"its batch is {artefact.batch!r}, neither 1 nor any")
    left = sorted(p.name for p in case.folder.iterdir())
    _require(left == [path.name], f"export left {left}")


def check_fp32_parity(case: ExporterCase) -> None:
    """Float outputs are those of torch, BatchNorm folded or not, for every activation and gate."""
    images = sample_images(_BATCH)
    styles = [*((act, SIGMOID) for act in ("relu", "relu6", "hswish", "silu")), ("relu", "hard_sigmoid")]
    for act, gate in styles:
        network = sample_network(sample_blocks("ffff", act=act, se_channels=4, se_gate=gate, features=16))
        for name, model in (("plain", network), ("folded", fold_batchnorm(network))):
            difference = np.abs(_through_runtime(case, model, images, EXACT) - _through_torch(model, images)).max()
            _require(difference <= FP32_TOLERANCE, f"{act}, {gate}, {name}: outputs differ by {difference}")


def check_int8_parity(case: ExporterCase) -> None:
    """Quantized outputs are those of torch, for every activation and gate, in full and in mixed precision.

    Quantized as the runtime computes int8 on this machine: with weights of 7 bits where its kernels need that.
    """
    integers = _computed(case)[INTEGERS]
    if integers not in case.runtime.precisions:
        return
    activations = [("iiii", act, SIGMOID, integers) for act in ("relu", "relu6", "hswish", "silu")]
    mixtures = [(pattern, "relu6", SIGMOID, integers) for pattern in _MIXTURES]
    there = supported(case.runtime, case.device, case.runtime.context(case.device))
    others = [("iiii", "relu6", SIGMOID, p) for p in there if is_quantized(p) and p != integers]
    images = sample_images(64)
    gated = ("iiii", "relu", "hard_sigmoid", integers)
    for pattern, act, gate, integers in (*activations, gated, *mixtures, *others):
        blocks = sample_blocks(pattern, act=act, se_channels=4, se_gate=gate, features=16, integers=integers)
        network = sample_network(blocks)
        model = quantize(network, [images], symmetric=_symmetric(case))
        expected, found = _through_torch(model, images), _through_runtime(case, model, images, integers)
        step = _step(model, expected)
        # differences are whole steps, but for the rounding of the floats they are given in: hence the hundredths
        worst = np.abs(found - expected).max() / step
        _require(
            worst <= INT8_STEPS + 0.01, f"{pattern}, {act}, {gate}, {integers}: outputs differ by {worst:.1f} steps"
        )
        if pattern.endswith("i"):
            same = float((np.abs(found - expected) < 0.01 * step).mean())
            _require(
                same >= INT8_IDENTICAL,
                f"{pattern}, {act}, {gate}, {integers}: only {same:.1%} of outputs are identical",
            )


def check_deterministic(case: ExporterCase) -> None:
    """The same module gives the same bytes, as a whole network and alone between neighbours."""
    images = sample_images(_BATCH)
    quantized = quantize(sample_network(sample_blocks("iiii")), [images], symmetric=_symmetric(case))
    first, second = (_export(case, quantized, INTEGERS, name) for name in ("first", "second"))
    _require(first.sha256 == second.sha256, "exporting one module twice gave different files")
    for block in sample_blocks("ifif"):
        module = untrained_block(block, symmetric=_symmetric(case), seed=3)
        files = [module.write(case.exporter, case.folder / f"block{i}") for i in range(2)]
        _require(files[0].sha256 == files[1].sha256, f"exporting {block.key} twice gave different files")


def check_network_unchanged(case: ExporterCase) -> None:
    """Export changes neither the modes nor the weights of what it writes, nor the global random state."""
    network = sample_network(sample_blocks("ffff")).train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    modes = [m.training for m in network.modules()]
    state = torch.random.get_rng_state()
    _export(case, network, EXACT)
    _require(modes == [m.training for m in network.modules()], "export changed a module's mode")
    changed = [k for k, v in network.state_dict().items() if not torch.equal(v, before[k])]
    _require(not changed, f"export changed {changed}")
    _require(torch.equal(state, torch.random.get_rng_state()), "export drew from the global random generator")


def check_blocks_run(case: ExporterCase) -> None:
    """Every block runs alone at batch 1; between quantized blocks tensors are 8-bit integers, elsewhere float32."""
    for precision in sorted(set(case.runtime.precisions) & set(_computed(case).values())):
        letter = "i" if is_quantized(precision) else "f"
        for act, se_channels, features in (("relu6", 0, 0), ("hswish", 4, 16)):
            for block in sample_blocks(letter * 4, act=act, se_channels=se_channels, features=features):
                _check_block(case, replace(block, precision=precision))


def _check_block(case: ExporterCase, block: Block) -> None:
    artefact = untrained_block(block, symmetric=_symmetric(case)).write(case.exporter, case.folder / "block")
    _require(artefact.precision == block.precision, f"{block.key}: artefact of precision {artefact.precision!r}")
    integers = {"in": takes_integers(block), "out": gives_integers(block)}
    specs = {"in": artefact.input, "out": artefact.output}
    shapes = {"in": block.in_shape, "out": block.out_shape}
    for end, spec in specs.items():
        wanted = ("int8", "uint8") if integers[end] else ("float32",)
        _require(spec.dtype in wanted, f"{block.key}: {end}put noted as {spec.dtype}, not {' or '.join(wanted)}")
        if spec.layout == "NHWC" and len(shapes[end]) == 3:
            shapes[end] = (*shapes[end][1:], shapes[end][0])  # (C, H, W) -> (H, W, C)
    # up to 100: both 8-bit types hold it
    given = np.random.default_rng(0).uniform(0, 100, (1, *shapes["in"])).astype(specs["in"].dtype)
    with case.runtime.load(artefact, case.device) as session:
        (result,) = session.run([given])
        _require(session.time_ns(iterations=1) > 0, f"{block.key}: takes no time")
    _require(result.shape == (1, *shapes["out"]), f"{block.key}: output of shape {result.shape}")
    _require(result.dtype == specs["out"].dtype, f"{block.key}: output of type {result.dtype}")


def check_ends(case: ExporterCase) -> None:
    """Ends look as they are asked for, or are refused with an ExportError; whatever they are, outputs are the same.

    Integers and floats at either end are what every exporter writes. A layout or a fixed batch it may refuse.
    """
    integers = _computed(case)[INTEGERS]
    if integers not in case.runtime.precisions:
        return
    images = sample_images(_BATCH)
    model = quantize(sample_network(sample_blocks("iiii", integers=integers)), [images], symmetric=_symmetric(case))
    expected, step = _through_torch(model, images), _step(model, _through_torch(model, images))
    for a, b in ((True, True), (True, False), (False, True), (False, False)):
        ends = Ends(integer_input=a, integer_output=b, fixed_batch=True)
        artefact = _export(case, model, integers, ends=ends)
        for end, asked, spec in (("input", a, artefact.input), ("output", b, artefact.output)):
            wanted = ("int8", "uint8") if asked else ("float32",)
            _require(spec.dtype in wanted, f"{ends}: {end} noted as {spec.dtype}, not {' or '.join(wanted)}")
        _require(artefact.batch == 1, f"{ends}: its batch is {artefact.batch!r}")
        worst = np.abs(_outputs(case, artefact, images) - expected).max() / step
        _require(worst <= INT8_STEPS + 0.01, f"{ends}: outputs differ by {worst:.1f} steps")
    for layout in LAYOUTS:
        for floats in (True, False):
            ends = Ends(input_layout=layout, integer_input=not floats)
            try:
                artefact = _export(case, model, integers, ends=ends)
            except ExportError as e:
                _require(layout in str(e), f"{ends}: the error does not name the layout: {e}")
                continue
            _require(artefact.input.layout == layout, f"{ends}: images are noted as {artefact.input.layout}")
            worst = np.abs(_outputs(case, artefact, images) - expected).max() / step
            _require(worst <= INT8_STEPS + 0.01, f"{ends}: outputs differ by {worst:.1f} steps")


def check_integers_of_floats_are_refused(case: ExporterCase) -> None:
    """A module that does not quantize its input has no scale for integers: asked for them, the exporter refuses."""
    network = sample_network(sample_blocks("ffff"))
    for ends in (Ends(integer_input=True), Ends(integer_output=True)):
        path = case.folder / "never"
        try:
            case.exporter.export(network, sample_images(1), path, precision=EXACT, ends=ends)
        except ExportError:
            _require(not path.exists(), "a refused export left a file")
        else:
            raise AssertionError(f"a float network was exported with {ends}")


def check_refuses_what_it_cannot_write(case: ExporterCase) -> None:
    """A module the format cannot express is an ExportError that names the module; no file is left."""
    model = nn.Sequential(nn.Identity(), _Unexportable())
    path = case.folder / "never"
    try:
        case.exporter.export(model, sample_images(1), path, precision=EXACT)
    except ExportError as e:
        _require(_Unexportable.__name__ in str(e), f"the error does not name the module: {e}")
    else:
        raise AssertionError("a module that no format expresses was exported")
    _require(not path.exists(), "a failed export left a file")


class _Unexportable(nn.Module):
    """Something no format for deployment expresses: eigenvalues of an unsymmetric matrix."""

    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = torch.linalg.eigvals(x).real
        return values


CHECKS: tuple[Callable[[ExporterCase], None], ...] = (
    check_artefact,
    check_fp32_parity,
    check_int8_parity,
    check_deterministic,
    check_network_unchanged,
    check_blocks_run,
    check_ends,
    check_integers_of_floats_are_refused,
    check_refuses_what_it_cannot_write,
)


# ---------------------------------------------------------------- helpers


def _computed(case: ExporterCase) -> dict[str, str]:
    """What is offered as `fp32` and `int8` -> what the runtime computes it in here."""
    return computed_in(case.runtime, case.device, case.runtime.context(case.device))


def _symmetric(case: ExporterCase) -> bool:
    return case.runtime.quantization == "symmetric"


def _export(
    case: ExporterCase, model: nn.Module, precision: str, name: str = "network", *, ends: Ends = NETWORK_ENDS
) -> Artefact:
    return case.exporter.export(model, sample_images(1), case.folder / name, precision=precision, ends=ends)


def _through_runtime(case: ExporterCase, model: nn.Module, images: Tensor, precision: str) -> Array:
    return _outputs(case, _export(case, model, precision), images)


def _outputs(case: ExporterCase, artefact: Artefact, images: Tensor) -> Array:
    with case.runtime.load(artefact, case.device) as session:
        given = [to_artefact(image[None], artefact.input) for image in images.numpy()]  # any exporter has batch 1
        return np.concatenate([from_artefact(session.run([x])[0], artefact.output) for x in given])


@torch.no_grad()
def _through_torch(model: nn.Module, images: Tensor) -> Array:
    outputs: Array = model(images).numpy()
    return outputs


def _step(model: QuantizedNetwork, outputs: Array) -> float:
    """The scale of the outputs; if they are float, of integers whose range is as wide as they are."""
    quantizer = model.output_quantizer
    return float(quantizer.scale) if quantizer is not None else float(np.ptp(outputs)) / 255


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)
