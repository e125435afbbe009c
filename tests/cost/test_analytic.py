import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.cost.analytic import macs, parameters, peak_memory_bytes, size_bytes, training_bytes
from hwnas.errors import SpaceError
from hwnas.graph import GraphBuilder, OpGraph, Weight
from hwnas.spaces.kinds import BlockKind, attributes_of
from hwnas.types import Block

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from hwnas.supernet.subnetwork import BlockModule  # noqa: E402


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    kind = draw(st.sampled_from(["conv", "mbconv", "head"]))
    cin, cout = (draw(st.sampled_from([4, 8, 12])) for _ in range(2))
    side, stride = draw(st.integers(1, 9)), draw(st.sampled_from([1, 2]))
    kernel, act = draw(st.sampled_from([3, 5])), draw(st.sampled_from(["relu6", "hswish"]))
    out = -(-side // stride)
    attributes: dict[str, str | int] = {"activation": act}
    out_shape: tuple[int, ...] = (cout, out, out)
    if kind == "head":
        attributes |= {"hidden_channels": 16, "features": draw(st.sampled_from([0, 20]))}
        out_shape = (10,)
    else:
        attributes |= {"kernel_size": kernel, "stride": stride}
    if kind == "mbconv":
        squeezed = draw(st.sampled_from([0, 8]))
        gate = draw(st.sampled_from(["sigmoid", "hard_sigmoid"]))
        attributes |= {"hidden_channels": cin * draw(st.sampled_from([1, 3])), "se_channels": squeezed, "se_gate": gate}
    return Block(
        kind=kind,
        in_shape=(cin, side, side),
        out_shape=out_shape,
        precision=draw(st.sampled_from(["fp32", "int8"])),
        attributes=tuple(sorted(attributes.items())),
    )


def mbconv(**changes: int) -> Block:
    attributes = {"activation": "relu6", "hidden_channels": 24, "kernel_size": 3, "se_channels": 0, "stride": 1}
    return Block(
        kind="mbconv",
        in_shape=(8, 6, 6),
        out_shape=(8, 6, 6),
        precision="fp32",
        attributes=tuple(sorted((attributes | changes).items())),
    )


def layer_macs(module: nn.Module, block: Block) -> int:
    """Counted where they happen: output elements times weights of one output channel."""
    counted: list[int] = []

    def count(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        counted.append(output.numel() * layer.weight[0].numel())  # type: ignore[index, operator]

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.no_grad():
        module.eval()(torch.zeros(1, *block.in_shape))
    return sum(counted)


def test_costs_are_what_tables_and_studies_were_made_with() -> None:
    known = json.loads((Path(__file__).parent / "closed_forms.json").read_text())
    of = (macs, parameters, size_bytes, training_bytes, peak_memory_bytes)
    assert {key: [cost(Block.from_key(key)) for cost in of] for key in known} == known


def own_block(monkeypatch: pytest.MonkeyPatch, *, precision: str) -> Block:
    """A kind of block that no module of ours knows: normalisation before the layer, which cannot be folded."""

    def build(block: Block, _: object) -> OpGraph:
        g = GraphBuilder()
        x = g.batch_norm(g.input(block.in_shape), name="bn")
        return g.build(g.conv2d(x, block.out_shape[0], name="conv"))

    own = BlockKind(name="normalised-first", build=build)
    monkeypatch.setattr("hwnas.spaces.kinds.kind_of", lambda block: own)
    return Block(kind="normalised-first", in_shape=(8, 4, 4), out_shape=(6, 4, 4), precision=precision)


def test_normalisation_without_a_layer_before_it_is_stored_as_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    floats, integers = (own_block(monkeypatch, precision=p) for p in ("fp32", "int8"))
    normalisation = 4 * 4 * 8 + 130 * 5  # four numbers a channel; a node and four initialisers
    assert size_bytes(floats) == normalisation + 4 * 48 + 130 * 4
    assert size_bytes(integers) == normalisation + 48 + 5 * 6 + 130 * 12


def test_a_transposed_convolution_is_stored_as_integers_by_output_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(block: Block, attributes: object) -> OpGraph:
        g = GraphBuilder()
        held = {"weight": Weight(name="up.weight", shape=(8, 6, 2, 2)), "bias": Weight(name="up.bias", shape=(6,))}
        return g.build(g.op("conv_transpose2d", g.input(block.in_shape), name="up", weights=held, stride=(2, 2)))

    own = BlockKind(name="up", build=build)
    monkeypatch.setattr("hwnas.spaces.kinds.kind_of", lambda block: own)
    floats, integers = (
        size_bytes(Block(kind="up", in_shape=(8, 4, 4), out_shape=(6, 8, 8), precision=p)) for p in ("fp32", "int8")
    )
    assert floats == 4 * (8 * 6 * 4 + 6) + 130 * 4
    # a byte a weight; five of scale and zero point and eight of the bias a channel; nodes and initialisers
    assert integers == 8 * 6 * 4 + 5 * 6 + 8 * 6 + 130 * 12


@given(block=blocks())
@settings(deadline=None, max_examples=30)
def test_macs_are_those_of_the_plain_module(block: Block) -> None:
    assert macs(block) == layer_macs(BlockModule(block), block)


@given(block=blocks())
@settings(deadline=None, max_examples=30)
def test_parameters_are_those_of_the_plain_module(block: Block) -> None:
    assert parameters(block) == sum(p.numel() for p in BlockModule(block).parameters())


@given(block=blocks())
@settings(deadline=None)
def test_a_file_holds_at_least_the_weights_at_their_precision(block: Block) -> None:
    weights = sum(p.numel() for p in BlockModule(block).parameters() if p.dim() > 1)
    assert size_bytes(block) > weights * (4 if block.precision == "fp32" else 1)


def sizes_of_tensors(module: nn.Module, block: Block) -> Iterator[int]:
    """Elements of each layer's inputs and outputs together: a lower bound on what is alive."""
    found: list[int] = []

    def note(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        found.append(inputs[0].numel() + output.numel())

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.AdaptiveAvgPool2d):
            layer.register_forward_hook(note)
    with torch.no_grad():
        module.eval()(torch.zeros(1, *block.in_shape))
    yield from found


@given(block=blocks())
@settings(deadline=None, max_examples=30)
def test_peak_memory_covers_every_layer_with_its_residual_input_at_most(block: Block) -> None:
    width = 4 if block.precision == "fp32" else 1
    most = max(sizes_of_tensors(BlockModule(block), block))
    residual = math.prod(block.in_shape)
    peak = peak_memory_bytes(block)
    assert peak >= width * most
    squeezed = block.kind == "mbconv" and attributes_of(block)["se_channels"]
    if not squeezed:  # the product of gate and features is no layer
        assert peak <= width * (most + residual)


def test_peak_memory_of_a_residual_block_counts_its_input_beside_the_depthwise_layer() -> None:
    assert peak_memory_bytes(mbconv()) == 4 * 36 * (24 + 24 + 8)


def test_peak_memory_of_a_strided_block_does_not() -> None:
    strided = mbconv(stride=2)
    strided = Block(
        kind="mbconv", in_shape=(8, 6, 6), out_shape=(8, 3, 3), precision="int8", attributes=strided.attributes
    )
    assert peak_memory_bytes(strided) == 36 * (8 + 24)


def test_peak_memory_with_squeeze_and_excitation_holds_features_gate_and_product() -> None:
    block = mbconv(se_channels=8, hidden_channels=8)
    assert peak_memory_bytes(block) == 4 * (36 * 8 + 8 + 36 * 8 + 36 * 8)


@pytest.mark.parametrize("kind", ["quantize", "dequantize"])
def test_a_boundary_computes_nothing_and_holds_both_widths(kind: str) -> None:
    block = Block(kind=kind, in_shape=(8, 4, 4), out_shape=(8, 4, 4), precision="int8")
    assert (macs(block), parameters(block), peak_memory_bytes(block)) == (0, 0, 8 * 16 * 5)


def test_int8_files_are_smaller_for_blocks_of_some_size() -> None:
    fp32, int8 = (
        Block(
            kind="conv",
            in_shape=(64, 8, 8),
            out_shape=(64, 8, 8),
            precision=p,
            attributes=(("activation", "relu6"), ("kernel_size", 3), ("stride", 1)),
        )
        for p in ("fp32", "int8")
    )
    assert size_bytes(int8) < 0.3 * size_bytes(fp32)


@pytest.mark.parametrize("cost", [macs, parameters, size_bytes, peak_memory_bytes])
def test_an_unknown_kind_is_refused_with_the_known_ones(cost: object) -> None:
    block = Block(kind="attention", in_shape=(8, 4, 4), out_shape=(8, 4, 4), precision="fp32")
    with pytest.raises(SpaceError, match=r"attention.*known: adapted, basic, .*mbconv, .*quantize"):
        cost(block)  # type: ignore[operator]


def test_an_unknown_precision_is_refused_with_the_known_ones() -> None:
    block = Block(kind="quantize", in_shape=(8,), out_shape=(8,), precision="int3")
    with pytest.raises(SpaceError, match=r"int3.*unknown precision; known: fp32"):
        size_bytes(block)
