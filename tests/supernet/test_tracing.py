"""Modules of many families as operator graphs: what the graph computes is what the module computes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from hwnas.errors import GraphError
from hwnas.graph import OpGraph, macs, parameters, unknown_operators
from hwnas.supernet.graph_module import OpGraphModule
from hwnas.supernet.quantization import fold_batchnorm
from hwnas.supernet.tracing import trace, trace_with_numbers

from .networks import NETWORKS, Residual, Shared, SqueezeExcite, network


@cache
def traced(name: str) -> OpGraph:
    module, inputs = network(name)
    return trace(module, inputs)


def built(graph: OpGraph, module: nn.Module) -> nn.Module:
    """The graph as a module, on copies of the module's own numbers, found by their names."""
    made = OpGraphModule(graph)
    given = module.state_dict(keep_vars=True)
    missing = made.load_state_dict(
        {k: v for k, v in given.items() if k in made.state_dict()}, strict=False
    ).missing_keys
    assert all("num_batches" in key for key in missing)
    return made


def kinds(graph: OpGraph) -> list[str]:
    return [op.kind for op in graph.ops]


# ---------------------------------------------------------------- families


@pytest.mark.parametrize("name", NETWORKS)
def test_the_graph_computes_what_the_module_computes(name: str) -> None:
    module, inputs = network(name)
    graph = traced(name)
    assert unknown_operators(graph) == ()
    made = built(graph, module).eval()
    for n in (1, 2):
        some = [x[:n] for x in inputs]
        expected, found = tree_leaves(module.eval()(*some)), tree_leaves(made(*some))
        assert [y.shape for y in found] == [y.shape for y in expected]
        for y, z in zip(found, expected, strict=True):
            torch.testing.assert_close(y, z, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in NETWORKS if n not in {"squeeze-excite", "vit", "sequence-first"}])
def test_a_step_of_training_moves_the_graph_as_it_moves_the_module(name: str) -> None:
    module, inputs = network(name)
    made = built(traced(name), module)
    for m in (module.train(), made.train()):
        torch.stack([y.square().mean() for y in tree_leaves(m(*inputs))]).sum().backward()
    slopes = dict(made.named_parameters())
    for path, parameter in module.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(slopes[path].grad, parameter.grad, rtol=1e-4, atol=1e-5)
    for path, buffer in module.named_buffers():
        if "running" in path:  # statistics follow the batch alike
            torch.testing.assert_close(made.get_buffer(path), buffer)


@pytest.mark.parametrize("name", NETWORKS)
def test_macs_are_those_torchs_own_counter_sees(name: str) -> None:
    module, inputs = network(name)
    # in training and by plain products of matrices, so that nothing is fused into what the counter does not know
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        module.train()(*inputs)
    assert macs(traced(name)) * 2 * 2 == counter.get_total_flops()  # two samples; two operations each


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_are_the_modules_own(name: str) -> None:
    module, _ = network(name)
    graph = traced(name)
    assert parameters(graph) == sum(p.numel() for p in module.parameters())
    own = dict([*module.named_parameters(), *module.named_buffers()])
    assert {w.name: w.shape for w in graph.weights()} == {w.name: tuple(own[w.name].shape) for w in graph.weights()}
    assert all(w.trained == isinstance(own[w.name], nn.Parameter) for w in graph.weights())


@pytest.mark.parametrize("name", NETWORKS)
def test_json_and_a_second_trace_give_the_same_graph(name: str) -> None:
    graph = traced(name)
    assert OpGraph.from_json(graph.to_json()) == graph
    module, inputs = network(name)
    again = trace(nn.Sequential(module) if len(inputs) == 1 else module, inputs)  # weights under other names
    assert again.digest() == graph.digest()


# ---------------------------------------------------------------- what a graph says


def test_operators_have_the_names_of_their_modules() -> None:
    assert [(op.name, op.kind) for op in traced("residual").ops] == [
        ("stem.0", "conv2d"),
        ("stem.1", "batch_norm"),
        ("stem.2", "relu"),
        ("body.0.0", "conv2d"),
        ("body.0.1", "batch_norm"),
        ("body.0.2", "relu"),
        ("body.1", "conv2d"),
        ("add", "add"),
        ("relu", "relu"),
        ("mean", "mean"),
        ("head", "linear"),
    ]


def test_shapes_axes_and_attributes_are_of_one_sample() -> None:
    ops = {op.name: dict(op.attributes) for op in traced("residual").ops}
    assert ops["stem.0"] == {"stride": (2, 2), "padding": (1, 1)}
    assert ops["body.1"] == {"padding": (1, 1)}  # padding="same" as numbers
    assert ops["mean"] == {"axes": (1, 2)}
    assert traced("residual").by_name["stem.2"].shape == (8, 5, 5)


def test_windows_folded_into_the_batch_belong_to_the_sample() -> None:
    graph = traced("windows")
    assert graph.by_name["attention.qkv"].shape == (4, 4, 24)  # 4 windows of 4 positions
    (softmax,) = (op for op in graph.ops if op.kind == "softmax")
    assert graph.by_name[softmax.outputs[0]].shape == (4, 2, 4, 4)


def test_what_follows_from_weights_alone_is_not_of_a_sample() -> None:
    values = traced("vit").by_name
    assert (values["token_value"].shape, values["token_value"].batched) == ((1, 1, 8), False)
    (expand,) = (op for op in traced("vit").ops if op.kind == "expand")
    assert (values[expand.outputs[0]].shape, values[expand.outputs[0]].batched) == ((1, 8), True)


def test_shared_weights_have_one_name() -> None:
    graph = traced("shared")
    assert [w.name for w in graph.weights()] == ["words.weight", "mix.weight", "mix.bias"]
    assert [op.name for op in graph.ops] == ["words", "mix", "act", "mix_1", "act_1", "out"]
    assert graph.ops[-1].weight("weight") == graph.ops[0].weight("weight")


def test_chance_is_in_the_graph_as_the_module_trains_and_only_there() -> None:
    module, inputs = network("squeeze-excite")
    dropped = [dict(op.attributes) for op in trace(module, inputs).ops if op.kind == "dropout"]
    assert dropped == [{"p": pytest.approx(0.2), "whole": "sample"}, {"p": 0.2}]
    assert [dict(op.attributes) for op in trace(module, inputs, training=False).ops if op.kind == "dropout"] == [
        {"p": 0.2}
    ]


def test_several_inputs_and_outputs_keep_their_order() -> None:
    graph = traced("two-in-two-out")
    assert graph.inputs == ("image", "numbers")
    assert [graph.by_name[name].shape for name in graph.outputs] == [(3,), ()]


def test_the_module_is_left_as_it_was() -> None:
    class Notes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            self.seen = x + 1
            return self.seen

    module = nn.Sequential(SqueezeExcite(), Notes())
    module[0].stem.eval()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    trace(module, torch.zeros(1, 3, 6, 6))
    assert [m.training for m in (module, module[0].stem, module[0].head)] == [True, False, True]
    assert not hasattr(module[1], "seen")
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


# ---------------------------------------------------------------- one operator of torch at a time


class Function(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.table = nn.Parameter(torch.linspace(-1, 1, 24).view(6, 4))
        self.register_buffer("rows", torch.tensor([3, 0, 5, 1, 1]))

    def forward(self, x: Tensor) -> Any:
        """The function takes x, or x and the table, or x, the table and its rows."""
        return self.function(*(x, self.table, self.rows)[: self.function.__code__.co_argcount])


def _ramp() -> Tensor:
    table = torch.zeros(4, 4)
    table[1:3] += 2
    table.view(2, 8).add_(1)
    return table


_COLUMN = ["weight", "select", "reshape", "reshape"]
CASES: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "hardtanh": (lambda x: F.hardtanh(x, 0, 6), ["relu6"]),
    "relu6": (lambda x: F.relu6(x, inplace=False), ["relu6"]),
    "clamp": (lambda x: x.clamp(-0.5, 0.5), ["clamp"]),
    "clamp min": (lambda x: x.clamp(min=0), ["relu"]),
    "clamp max": (lambda x: x.clamp_max(0.3), ["clamp"]),
    "selu": (lambda x: F.selu(x, inplace=False), ["elu", "affine"]),
    "elu": (lambda x: F.elu(x, 0.7), ["elu"]),
    "glu": (lambda x: F.glu(x, 1), ["split", "sigmoid", "mul"]),
    "gelu": (lambda x: F.gelu(x, approximate="tanh"), ["gelu"]),
    "softmax": (lambda x: x.softmax(-1), ["softmax"]),
    "scalar add": (lambda x: 1 - (x + 3), ["affine", "affine"]),
    "scalar mul": (lambda x: x * 2 / 4, ["affine", "affine"]),
    "nothing": (lambda x: (x * 1 + 0).contiguous().clone(), []),
    "alpha": (lambda x: torch.add(x, x.relu(), alpha=2), ["relu", "affine", "add"]),
    "sub": (lambda x: x - x.relu(), ["relu", "sub"]),
    "div": (lambda x: x / (x.exp() + 1), ["exp", "affine", "div"]),
    "negative": (lambda x: -x, ["affine"]),
    "powers": (lambda x: (x.square() + 1).rsqrt() ** 3, ["power", "affine", "power", "power"]),
    "flatten": (lambda x: x.flatten(1), ["reshape"]),
    "unflatten": (lambda x: x.unflatten(1, (2, 3)).flatten(1, 2), ["reshape", "reshape"]),
    "unsqueeze": (lambda x: x.unsqueeze(-1).squeeze(-1), ["reshape", "reshape"]),
    "transpose": (lambda x: x.transpose(-1, 1), ["permute"]),
    "movedim": (lambda x: x.movedim(1, -1).mT, ["permute", "permute"]),
    "permute of nothing": (lambda x: x.permute(0, 1, 2, 3), []),
    "chunk": (lambda x: torch.cat(x.chunk(4, 1)[::-1], 1), ["split", "concat"]),
    "split": (lambda x: x.split([1, 5], 1)[1], ["split"]),
    "tensor_split": (lambda x: x.tensor_split(4, -1)[3], ["split"]),
    "unbind": (lambda x: x.unbind(-1)[0], ["unbind"]),
    "stack": (lambda x: torch.stack([x, x.relu()], 1), ["relu", "reshape", "reshape", "concat"]),
    "slice": (lambda x: x[:, 1:-1, ::2], ["slice", "slice"]),
    "select": (lambda x: x[..., -1], ["select"]),
    "narrow": (lambda x: x.narrow(1, -2, 2), ["slice"]),
    "max with positions": (lambda x: x.max(1, keepdim=True)[0], ["max"]),
    "amax": (lambda x: x.amax((2, 3)), ["max"]),
    "sum": (lambda x: x.sum(-1), ["sum"]),
    "pad": (lambda x: F.pad(x, (1, 0, 2, 1), value=0.5), ["pad"]),
    "pad of nothing": (lambda x: F.pad(x, (0, 0)), []),
    "reflect": (lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"), ["pad"]),
    "roll": (lambda x: x.roll((1, -2), (2, 3)), ["split", "concat", "split", "concat"]),
    "pixel_shuffle": (
        lambda x: F.pixel_shuffle(F.pixel_unshuffle(x, 2)[:, :8], 2),
        ["reshape", "permute", "reshape", "slice", "reshape", "permute", "reshape"],
    ),
    "channel_shuffle": (lambda x: torch.channel_shuffle(x, 3), ["reshape", "permute", "reshape"]),
    "avg_pool": (lambda x: F.avg_pool2d(x, 3, 2, 1, True, False), ["avg_pool2d"]),
    "norm": (lambda x: F.normalize(x, dim=1), ["power", "sum", "clamp", "sqrt", "clamp", "expand", "div"]),
    "norm of all": (lambda x: torch.linalg.vector_norm(x, dim=(1, 2, 3)), ["power", "sum", "clamp", "sqrt"]),
    "addcmul": (lambda x, t: torch.addcmul(x, x, t[:, 0, None, None], value=2), [*_COLUMN, "mul", "affine", "add"]),
    "addcmul to a weight": (lambda x, t: torch.addcmul(t[:, 0, None, None], x, x), [*_COLUMN, "mul", "add"]),
    "adaptive max": (lambda x: F.adaptive_max_pool2d(x, (2, 3)), ["adaptive_max_pool2d"]),
    "adaptive of one axis": (lambda x: F.adaptive_avg_pool2d(x, (None, 1)), ["adaptive_avg_pool2d"]),
    "nearest": (lambda x: F.interpolate(x, scale_factor=2), ["resize"]),
    "bicubic": (lambda x: F.interpolate(x, size=(5, 9), mode="bicubic", align_corners=True), ["resize"]),
    "instance norm": (lambda x: F.instance_norm(x, eps=1e-3), ["group_norm"]),
    "rms norm": (lambda x: F.rms_norm(x, (4,), eps=1e-3), ["power", "mean", "affine", "power", "mul"]),
    "rms norm with a weight": (
        lambda x, t: F.rms_norm(x.transpose(1, 2), (6, 4), t),
        ["permute", "power", "mean", "affine", "power", "mul", "weight", "mul"],
    ),
    "grouped queries": (
        lambda x: F.scaled_dot_product_attention(x, x[:, :2], x[:, 1:3].exp(), enable_gqa=True),
        ["slice", "slice", "exp", *["reshape", "expand", "reshape"] * 2, "attention"],
    ),
    "computed weight": (lambda x, t: F.linear(x, t * 2), ["weight", "affine", "permute", "matmul"]),
    "weight as a value": (
        lambda x, t: x * t[0, :, None] + t[:4].sum(),
        ["weight", "select", "reshape", "mul", "slice", "sum", "add"],
    ),
    "rows of features": (lambda x, t: x.mean((2, 3)) @ t, ["mean", "weight", "reshape", "matmul", "reshape"]),
    "samples second": (lambda x: x.transpose(0, 1).softmax(0).transpose(1, 0), ["softmax"]),
    "heads folded": (lambda x: x.view(-1, 4, 4).bmm(x.view(-1, 4, 4).mT).view(-1, 6, 4, 4), ["permute", "matmul"]),
    "norm over rows": (
        lambda x: F.batch_norm(x.transpose(1, 3).flatten(0, 2), None, None, training=True).view(-1, 4, 4, 6),
        ["permute", "reshape", "permute", "batch_norm", "permute", "reshape"],
    ),
    "rows of a table": (
        lambda x, t, r: x * t[r.view(5, 1)][:4, 0],
        ["weight", "reshape", "embedding", "slice", "select", "mul"],
    ),
    "columns by number": (
        lambda x, t, r: x * t.t()[:, r][:, :4],
        ["weight", "permute", "weight", "take", "slice", "mul"],
    ),
    "positions by number": (lambda x, t, r: x.transpose(0, 1)[r].transpose(0, 1), ["weight", "take"]),
    "a table of waves": (lambda x: x + (torch.arange(4) / 10).sin(), ["constant", "add"]),
    "rows by a range": (
        lambda x, t: x * t[torch.arange(5).flip(0)][1:, 0],
        ["constant", "embedding", "slice", "select", "mul"],
    ),
    "a tensor written out": (lambda x: x * torch.tensor([[1.0], [2.0], [0.5], [4.0]]), ["constant", "mul"]),
    "ones like it": (lambda x: x + torch.ones_like(x).cumsum(2), ["constant", "expand", "add"]),
    "places for each sample": (
        lambda x: x + x.new_zeros(x.shape[0], 1, 4, 4).add(1).cumsum(-1).expand(-1, 6, -1, -1),
        ["constant", "expand", "add"],
    ),
    "a table written in place": (lambda x: x + _ramp(), ["constant", "add"]),
    "a mask": (
        lambda x: F.scaled_dot_product_attention(x, x, x, torch.full((4, 4), -torch.inf).triu(1)),
        ["constant", "attention"],
    ),
    "channels dropped": (lambda x: F.dropout2d(x, 0.0), []),
}


@pytest.mark.parametrize("case", CASES)
def test_a_function_of_torch_is_these_operators(case: str) -> None:
    function, expected = CASES[case]
    module = Function(function)
    x = torch.randn(3, 6, 4, 4, generator=torch.Generator().manual_seed(0))
    graph = trace(module, x)
    assert kinds(graph) == expected
    made = built(graph, module)
    torch.testing.assert_close(made(x), module(x), rtol=1e-5, atol=1e-6)


def test_a_norm_of_nothing_has_a_gradient() -> None:
    graph = trace(Function(lambda x: torch.linalg.vector_norm(x, dim=1)), torch.ones(1, 4))
    x = torch.zeros(2, 4, requires_grad=True)
    OpGraphModule(graph)(x).sum().backward()
    assert torch.equal(x.grad, torch.zeros(2, 4))


def test_a_convolution_of_what_all_samples_share_is_one_of_a_sample() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = nn.Conv2d(2, 6, 3, padding="same")

        def forward(self, x: Tensor) -> Tensor:
            table = torch.stack(torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij"))[None]
            return x + self.project(table / 4)

    module, x = Positions(), torch.randn(3, 6, 4, 4)
    graph = trace(module, x)
    assert kinds(graph) == ["constant", "reshape", "conv2d", "reshape", "reshape", "add"]
    assert torch.equal(built(graph, module)(x), module(x))


class Ramp(nn.Module):
    def __init__(self, slope: float) -> None:
        super().__init__()
        self.table = slope * torch.arange(4.0)  # no buffer: no state dict has it

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.table
        self.table.add_(0)
        return y * self.table


def test_a_tensor_that_differs_between_samples_is_refused() -> None:
    with pytest.raises(GraphError, match="a tensor that the module makes differs between the samples"):
        trace(Function(lambda x: x * x.new_ones(x.shape[0], 6, 4, 4).cumsum(0)), torch.zeros(1, 6, 4, 4))


def test_a_tensor_that_a_module_keeps_without_a_name_is_in_its_graph() -> None:
    module, x = Ramp(0.5), torch.randn(2, 4)
    graph = trace(module, x)
    assert kinds(graph) == ["constant", "add", "constant", "mul"]
    assert not list(graph.weights())
    assert torch.equal(OpGraphModule(OpGraph.from_json(graph.to_json()))(x), module(x))
    assert graph.digest() != trace(Ramp(0.25), x).digest()


def test_in_place_on_another_name_of_the_tensor_is_seen() -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x + 1
            z = y
            y.mul_(2)
            F.relu_(z)
            return y + z

    x = torch.randn(2, 3)
    graph = trace(InPlace(), x)
    assert kinds(graph) == ["affine", "affine", "relu", "add"]
    assert torch.equal(built(graph, InPlace())(x), InPlace()(x))


# ---------------------------------------------------------------- what meets no rule


def test_an_operator_without_a_rule_stays_under_its_name() -> None:
    graph = trace(Function(lambda x: x.cumsum(1).relu()), torch.zeros(1, 6, 4, 4))
    assert unknown_operators(graph) == ("aten.cumsum",)
    assert kinds(graph) == ["aten.cumsum", "relu"]
    assert dict(graph.ops[0].attributes) == {"dim": 1}
    assert graph.by_name[graph.ops[0].outputs[0]].shape == (6, 4, 4)
    assert OpGraph.from_json(graph.to_json()) == graph


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (lambda x, t: F.conv2d(x, t.view(1, 6, 2, 2) * 2), "aten.conv2d"),  # a weight that is computed
        (lambda x: F.interpolate(x, scale_factor=1.3), "aten.upsample_nearest2d"),
        (lambda x: F.interpolate(x, size=(8, 8), mode="bilinear", antialias=True), "aten._upsample_bilinear2d_aa"),
        (lambda x: x.to(torch.float64), "aten.to"),
        (lambda x: torch.where(x > 0, x, -x), "aten.where"),
        (lambda x: F.conv3d(x[:, None], torch.ones(1, 1, 1, 1, 1)), "aten.conv3d"),
        (lambda x: x * x.new_empty(x.shape).bernoulli_(0.5), "aten.bernoulli"),
        (lambda x: x * x.shape[0], "aten.mul"),  # by the size of the batch
        (lambda x: x * torch.arange(x.shape[0])[:, None, None, None], "aten.arange"),  # by the number of the sample
    ],
)
def test_forms_without_a_rule_are_told_by_name(function: Callable[..., Any], kind: str) -> None:
    graph = trace(Function(function), torch.zeros(1, 6, 4, 4))
    assert kind in unknown_operators(graph)
    values = [graph.by_name[name] for name in graph.outputs]
    assert [v.batched for v in values] == [True]


def test_a_part_under_another_mode_is_told_by_name() -> None:
    class Mode(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", enabled=True):
                y = x + 1
            return y.relu()

    graph = trace(Mode(), torch.zeros(1, 4))
    assert kinds(graph) == ["wrap_with_autocast", "relu"]
    assert unknown_operators(graph) == ("wrap_with_autocast",)


class SwitchedOff(nn.Module):
    """Part of it under an autocast that is switched off: it gives a tensor, and a view of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        z = x + 2
        with torch.autocast("cpu", enabled=False):
            y = self.layer(z) + 1
            view = z.view(-1, 2, 2)
        view.mul_(3)
        return y.relu() + view.flatten(1)


def test_a_part_under_a_mode_that_is_switched_off_is_like_the_rest() -> None:
    module = SwitchedOff()
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    graph = trace(module, x)
    assert kinds(graph) == ["affine", "linear", "affine", "reshape", "affine", "relu", "reshape", "add"]
    assert "layer" in {op.name for op in graph.ops}
    assert torch.equal(built(graph, module)(x), module(x))


def test_what_such_a_part_gives_is_a_view_of_what_it_reads() -> None:
    class Written(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            z = x + 2
            with torch.autocast("cpu", enabled=False):
                view = z.view(-1, 2, 2)
            view.mul_(3)
            return z + 1

    with pytest.raises(GraphError, match=r"writes in place into numbers that .* also shows"):
        trace(Written(), torch.zeros(2, 4))


def test_weights_of_an_operator_without_a_rule_are_counted() -> None:
    module = nn.Sequential(nn.Conv3d(2, 3, 1))
    graph = trace(module, torch.zeros(1, 2, 3, 4, 5))
    assert parameters(graph) == 9
    assert [(role, w.name) for role, w in graph.ops[0].weights] == [("weight", "0.weight"), ("bias", "0.bias")]


# ---------------------------------------------------------------- errors


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class NoTensor(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return x, 3


@pytest.mark.parametrize(
    ("module", "inputs", "message"),
    [
        (Residual(), (), "no example input was given; give one tensor for each input"),
        (Residual(), ([1, 2],), "an example input is a list; give tensors"),
        (Residual(), (torch.tensor(1.0),), "has no samples"),
        (Residual(), (torch.zeros(2, 3, 9, 9), torch.zeros(3, 2)), "inputs of 2, 3 samples .* as many along axis 0"),
        (Residual(), (torch.zeros(1, 4, 9, 9),), r"Residual cannot be traced on samples of \(4, 9, 9\): .*channels"),
        (Branch(), (torch.zeros(1, 4),), "Branch cannot be traced: what it does depends on the numbers it computes"),
        (NoTensor(), (torch.zeros(1, 4),), r"output 1 of the module is a int \(3\); return tensors alone"),
        (Function(lambda x: None), (torch.zeros(1, 4),), "gives no tensor"),
        (Function(lambda x: x.mean(0)), (torch.zeros(1, 4),), "output 0 .*aten.mean.dim .* mixes the samples"),
        (Function(lambda x: x.softmax(0) + 1), (torch.zeros(1, 4),), "aten.softmax.int .* mixes the samples"),
        (Function(lambda x: x.T @ x), (torch.zeros(1, 4),), "aten.matmul.default .* mixes the samples"),
        (Function(lambda x: x.max(1)[1]), (torch.zeros(1, 4),), "gives what no operator here does, such as positions"),
    ],
)
def test_what_cannot_be_traced_is_refused_with_what_to_do(module: nn.Module, inputs: Any, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        trace(module, inputs)


def test_a_module_with_an_empty_buffer_is_traced() -> None:
    module = nn.Linear(4, 3)
    module.register_buffer("cache", torch.empty(0))
    assert [op.kind for op in trace(module, torch.zeros(1, 4)).ops] == ["linear"]


def test_writing_into_a_part_of_a_tensor_that_is_read_later_is_refused() -> None:
    class Part(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x + 1
            y[:, 0].mul_(2)
            return y

    with pytest.raises(GraphError, match=r"writes in place into numbers that 'add' also shows; use the operator that"):
        trace(Part(), torch.zeros(1, 4))


def test_a_module_that_cannot_be_copied_is_refused() -> None:
    module = Shared()
    module.notes = (n for n in range(3))  # type: ignore[assignment]
    with pytest.raises(GraphError, match=r"Shared cannot be copied .*; a module is traced as a copy"):
        trace(module, torch.zeros(1, 7, dtype=torch.int64))


class NormAndActivation(nn.BatchNorm2d):
    """A layer that holds its activation too, as timm's do."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(
            F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training, 0.1, self.eps)
        )


def test_a_normalisation_that_holds_its_activation_is_the_operator_of_its_path() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), NormAndActivation(4))
    graph = trace(module, torch.randn(2, 3, 5, 5))
    assert [(op.name, op.kind) for op in graph.ops] == [("0", "conv2d"), ("1", "batch_norm"), ("1.act", "relu")]
    made, x = built(graph, module).eval(), torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(made(x), module.eval()(x))
    folded = fold_batchnorm(made)
    torch.testing.assert_close(folded(x), module(x))
    assert [op.kind for op in folded.op_graph.ops] == ["conv2d", "relu"]


class WithConstant(nn.Module):
    """Forward makes a tensor of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * torch.tensor([1.0, 2.0, 3.0])


def test_numbers_of_all_weights_come_with_the_graph() -> None:
    module, x = WithConstant(), torch.randn(2, 3)
    graph, numbers = trace_with_numbers(module, x)
    assert {w.name for w in graph.weights()} == set(numbers)
    assert numbers["layer.weight"].data_ptr() == module.layer.weight.data_ptr()
    made = OpGraphModule(graph)
    made.load_state_dict(numbers)
    torch.testing.assert_close(made(x), module(x))


def test_a_normalisation_with_a_cumulative_average_is_traced() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=None))
    assert kinds(trace(module, torch.randn(2, 3, 5, 5))) == ["conv2d", "batch_norm"]
    assert module[1].momentum is None  # the user's own stays
