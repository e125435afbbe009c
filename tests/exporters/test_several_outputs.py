"""Networks of several outputs as files: each output by itself, computed as torch does, on the runtimes themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hwnas.exporters.litert import LiteRtExporter
from hwnas.exporters.onnx import OnnxExporter
from hwnas.graph.joining import output_parts
from hwnas.measure import Worker
from hwnas.precisions import is_quantized
from hwnas.row_parts import RowPart, columns
from hwnas.spaces.adapted.wishes import Wishes, adapt
from hwnas.supernet.adapted import AdaptedSupernet
from hwnas.supernet.parting import parted_network, parts_of
from hwnas.supernet.program import torch_program
from hwnas.supernet.quantization import quantize, without_rounding
from hwnas.supernet.subnetwork import BlockModule, BlockSequence, SubNetwork
from hwnas.supernet.tracing import trace_with_numbers
from hwnas.types import Array, Artefact, Device, Ends, Exporter

FORMATS = {"onnxruntime": OnnxExporter, "litert": LiteRtExporter}
ENDS = {"own": Ends(), "integers": Ends(integer_input=True, integer_output=True), "floats": Ends(integer_output=False)}


class Heads(nn.Module):
    """An image, a row, and an inner tensor that both are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.mask, self.classes = nn.Conv2d(8, 2, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.body(self.stem(x))
        return {"mask": self.mask(x), "features": x, "classes": 20 * self.classes(x.mean((2, 3)))}


class Derived(nn.Module):
    """Outputs that are others with their values moved, and one that is called as a step of a file might be."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.stem(x)
        first, second = y.split(4, 1)
        return {"y_values": self.head(y), "y": y, "first": first, "second": second, "flat": y.flatten(1)}


PARTS = (
    RowPart(name="mask", shape=(2, 8, 8)),
    RowPart(name="features", shape=(8, 8, 8)),
    RowPart(name="classes", shape=(5,)),
)


def images(n: int = 6) -> Tensor:
    return torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def network(precision: str, *, smaller: bool = False, of: type[nn.Module] = Heads) -> BlockSequence:
    torch.manual_seed(0)
    graph, numbers = trace_with_numbers(of().eval(), images(), join=True)
    assert of is not Heads or output_parts(graph) == PARTS
    space = adapt("heads", [graph], Wishes())
    encoding = space.smallest() if smaller else space.largest()
    for i, choice in enumerate(space.choices):
        if choice.name.endswith(".precision"):
            encoding[i] = choice.options.index(precision)
    found = AdaptedSupernet(space, numbers).eval().extract(space.named_blocks(encoding))
    return quantize(found, [images()]) if is_quantized(precision) else found


def written(exporter: Exporter, model: nn.Module, folder: Path, precision: str, ends: Ends) -> Artefact:
    return exporter.export(model, images(1), folder / "file", precision=precision, ends=ends)


def predicted(runtime: str, artefact: Artefact) -> Array:
    with Worker(Device(name="here", runtime=runtime)) as worker:
        return worker.predict(artefact, images().numpy())


@pytest.mark.parametrize("runtime", FORMATS)
@pytest.mark.parametrize("smaller", [False, True])
def test_every_output_of_floats_is_torchs(runtime: str, smaller: bool, tmp_path: Path) -> None:
    model = network("fp32", smaller=smaller)
    artefact = written(FORMATS[runtime](), model, tmp_path, "fp32", Ends())
    assert len(artefact.outputs) == 3
    with torch.no_grad():
        np.testing.assert_allclose(predicted(runtime, artefact), model(images()).numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("runtime", FORMATS)
@pytest.mark.parametrize("ends", ENDS)
def test_every_output_of_integers_is_torchs_to_its_own_step(runtime: str, ends: str, tmp_path: Path) -> None:
    model = network("int8")
    artefact = written(FORMATS[runtime](), model, tmp_path, "int8", ENDS[ends])
    kinds = {np.dtype(spec.dtype).kind for spec in artefact.outputs}
    assert kinds == (
        {"f"}
        if ends == "floats" or (ends, runtime) == ("own", "onnxruntime")
        else {"i"}
        if runtime == "litert"
        else {"u"}
    )
    found = predicted(runtime, artefact)
    with torch.no_grad():
        expected = model(images()).numpy()
    for part, at in columns(PARTS):
        step = float(np.ptp(expected[:, at])) / 255
        assert np.abs(found[:, at] - expected[:, at]).max() <= 2.01 * step, part.name


@pytest.mark.parametrize("runtime", FORMATS)
@pytest.mark.parametrize("ends", ENDS)
def test_outputs_made_of_others_by_moving_values_are_torchs(runtime: str, ends: str, tmp_path: Path) -> None:
    found = network("int8", of=Derived)
    artefact = written(FORMATS[runtime](), found, tmp_path, "int8", ENDS[ends])
    with torch.no_grad():
        expected = found(images()).numpy()
    values, y, first, second, flat = np.split(predicted(runtime, artefact), np.cumsum([128, 512, 256, 256]), axis=1)
    step = max(spec.scale or 0.0 for spec in artefact.outputs) or float(np.abs(expected).max()) / 127
    assert np.abs(np.concatenate([values, y, first, second, flat], 1) - expected).max() < 1.5 * step
    np.testing.assert_array_equal(np.concatenate([first, second], 1), y)
    np.testing.assert_array_equal(flat, y)


@pytest.mark.parametrize("runtime", FORMATS)
def test_the_float_form_of_a_network_of_integers_is_written_too(runtime: str, tmp_path: Path) -> None:
    model = without_rounding(network("int8"))  # with what leads to integers and back
    sub = SubNetwork.of(m for m in model.blocks if isinstance(m, BlockModule))
    artefact = written(FORMATS[runtime](), sub, tmp_path, "fp32", Ends())
    with torch.no_grad():
        np.testing.assert_allclose(predicted(runtime, artefact), sub(images()).numpy(), rtol=1e-4, atol=1e-4)


def test_an_onnx_file_has_the_outputs_names_and_shapes_and_no_row_of_them(tmp_path: Path) -> None:
    import onnx

    path = written(OnnxExporter(), network("fp32"), tmp_path, "fp32", Ends()).path
    graph = onnx.load(path).graph
    shapes = {o.name: tuple(d.dim_value for d in o.type.tensor_type.shape.dim[1:]) for o in graph.output}
    assert shapes == {part.name: part.shape for part in PARTS}
    assert "Concat" not in {node.op_type for node in graph.node}


def test_writing_changes_nothing_in_the_network(tmp_path: Path) -> None:
    model = network("int8")
    with torch.no_grad():
        before = model(images())
        written(OnnxExporter(), model, tmp_path, "int8", Ends())
        written(LiteRtExporter(), model, tmp_path, "int8", Ends())
        assert torch.equal(model(images()), before)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_torch_program_gives_the_outputs_apart(precision: str, tmp_path: Path) -> None:
    model = network(precision)
    floats = without_rounding(model) if precision == "int8" else model
    (tmp_path / "net.pt2").write_bytes(torch_program(floats, in_shape=(3, 16, 16)))
    found = torch.export.load(tmp_path / "net.pt2").module()(images())
    assert [tuple(y.shape[1:]) for y in found] == [part.shape for part in PARTS]
    with torch.no_grad():
        torch.testing.assert_close(torch.cat([y.flatten(1) for y in found], 1), floats(images()))


def test_what_has_one_output_is_not_parted() -> None:
    assert parted_network(nn.Linear(2, 2)) is None
    assert parts_of(BlockSequence([nn.Linear(2, 2)])) == ()
