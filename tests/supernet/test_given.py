"""A network of the user's own, in whatever state its function gives it: what is taken, what is done to it, what not."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel

from hwnas.errors import ConfigError, ModelError
from hwnas.given_inputs import InputShape, parse_inputs
from hwnas.supernet.given import example_inputs, load_given, plain
from hwnas.supernet.tracing import trace

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A convolution with BatchNorm, and a linear layer whose weight another one shares."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x)).relu().mean((2, 3))
        return self.second(self.first(y).relu())


def net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    made = Net()
    made.train()(IMAGES)  # statistics that are not those of a new network
    return made


def outputs(module: nn.Module, images: Tensor = IMAGES) -> Tensor:
    with torch.no_grad():
        found: Tensor = copy.deepcopy(module).eval()(images)
    return found


def same(a: nn.Module, b: nn.Module) -> None:
    torch.testing.assert_close(outputs(a), outputs(b), rtol=1e-6, atol=1e-6)


MODULE = """
import torch
from tests.supernet.test_given import Net, net
def make(): return net()
def number(): return 7
def states(): return net().state_dict()
def broken(): return net().no_such_layer
def wants(classes): return net()
def given(): return torch.load("x.pth")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in the working directory."""
    name = f"nets_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


# ---------------------------------------------------------------- the function


def test_a_function_in_the_working_directory_gives_the_network_and_its_file_is_told(
    module: str, tmp_path: Path
) -> None:
    told: list[str] = []
    same(load_given(f"python:{module}:make", tell=told.append), net())
    assert told == [f"model: the function make of {tmp_path / module}.py is run"]


def test_a_class_in_the_working_directory_is_called(module: str) -> None:
    assert type(load_given(f"python:{module}:Net")).__name__ == "Net"


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("number", "gave a int; it must give a torch.nn.Module"),
        ("states", "gave a OrderedDict; it must give a torch.nn.Module"),
        ("broken", "failed: AttributeError: 'Net' object has no attribute 'no_such_layer'"),
        ("wants", "failed: TypeError: wants() missing 1 required positional argument: 'classes'"),
        ("given", "failed: FileNotFoundError"),
    ],
)
def test_what_gives_no_network_says_so(module: str, function: str, said: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_given(f"python:{module}:{function}")
    assert said in str(caught.value)


def test_a_source_that_names_no_function_is_refused() -> None:
    with pytest.raises(ConfigError, match="the model 'resnet18' is not of the form python:module:function"):
        load_given("resnet18")


def test_installed_functions_are_called_if_they_are_declared_to_give_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / f"zoo_{tmp_path.name}".replace("-", "_")
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from tests.supernet.test_given import Net, net\n" + _ZOO)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.chdir(tmp_path)
    for function in ("declared", "as_text", "as_its_class", "Small"):
        assert isinstance(load_given(f"python:{package.name}:{function}"), Net)
    for function in ("silent", "as_number", "Other"):
        with pytest.raises(ModelError, match="is not declared to give a network, and was not called"):
            load_given(f"python:{package.name}:{function}")


_ZOO = """
from torch import nn
def declared() -> nn.Module: return net()
def as_text() -> "nn.Module": return net()
def as_its_class() -> "Net": return net()
class Small(Net): pass
def silent(): return net()
def as_number() -> int: return net()
class Other: pass
"""


# ---------------------------------------------------------------- any state


@pytest.mark.parametrize("training", [True, False])
def test_the_network_may_be_in_either_mode_and_is_left_as_it_was(training: bool) -> None:
    given = net().train(training)
    before = copy.deepcopy(given.state_dict())
    made = plain(given)
    assert not any(m.training for m in made.modules())
    assert all(m.training == training for m in given.modules())
    with torch.no_grad():
        made.conv.get_parameter("weight").zero_()
    torch.testing.assert_close(dict(given.state_dict()), dict(before))


def test_what_is_tied_stays_tied_and_what_is_frozen_stays_frozen() -> None:
    given = net()
    given.conv.requires_grad_(False)
    made = plain(given)
    assert made.get_parameter("first.weight") is made.second.weight
    assert [name for name, p in made.named_parameters() if not p.requires_grad] == ["conv.weight", "conv.bias"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_become_float32_and_are_told(dtype: torch.dtype) -> None:
    told: list[str] = []
    made = plain(net().to(dtype), tell=told.append)
    assert {t.dtype for t in made.state_dict().values()} == {torch.float32, torch.int64}
    assert made.get_parameter("first.weight") is made.second.weight
    assert told == [f"model: 9 tensors in {str(dtype)[6:]} are taken as float32"]
    expected = net().to(dtype).eval()(IMAGES.to(dtype)).float()
    torch.testing.assert_close(outputs(made), expected, rtol=0.02, atol=0.02)


def compiled(module: nn.Module) -> nn.Module:
    made = torch.compile(module)
    assert isinstance(made, nn.Module)
    return made


@pytest.mark.parametrize(
    ("wrap", "names"),
    [
        (nn.DataParallel, "DataParallel"),
        (lambda net: nn.DataParallel(compiled(net)), "DataParallel, torch.compile"),
        (lambda net: AveragedModel(nn.DataParallel(net)), "AveragedModel, DataParallel"),
    ],
)
def test_what_is_wrapped_around_the_network_is_taken_off_and_told(
    wrap: Callable[[nn.Module], nn.Module], names: str
) -> None:
    told: list[str] = []
    made = plain(wrap(net()), tell=told.append)
    assert made.state_dict().keys() == net().state_dict().keys()
    assert told == [f"model: taken out of {names}"]
    same(made, net())


def test_a_network_is_taken_out_of_distributed_training(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        same(plain(nn.parallel.DistributedDataParallel(net())), net())
    finally:
        torch.distributed.destroy_process_group()


def test_parts_that_are_wrapped_are_taken_out_too() -> None:
    told: list[str] = []
    given = nn.Sequential(compiled(net()), nn.DataParallel(nn.Linear(4, 2)))
    made = plain(given, tell=told.append)
    assert "0.conv.weight" in made.state_dict()
    assert "1.weight" in made.state_dict()
    assert told == ["model: taken out of torch.compile (of 0), DataParallel (of 1)"]
    assert type(given[1]) is nn.DataParallel


def test_a_network_made_without_gradients_can_be_trained() -> None:
    with torch.inference_mode():
        given = net()
    made = plain(given).train()
    made(IMAGES).sum().backward()
    assert made.get_parameter("conv.weight").grad is not None


# ---------------------------------------------------------------- weights that are computed from others


def old_weight_norm(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(layer)


def pruned(layer: nn.Module) -> nn.Module:
    return prune.l1_unstructured(layer, "weight", amount=0.5)  # type: ignore[no-any-return, no-untyped-call]


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    "around",
    [parametrizations.weight_norm, parametrizations.spectral_norm, old_weight_norm, nn.utils.spectral_norm, pruned],
)
def test_computed_weights_are_baked_in_and_the_given_network_goes_on_as_it_was(
    around: Callable[[nn.Module], nn.Module], frozen: bool
) -> None:
    given = net()
    around(given.conv)
    given.conv.requires_grad_(not frozen)
    expected = given.eval()(IMAGES).detach()
    told: list[str] = []
    made = plain(given, tell=told.append)
    assert made.state_dict().keys() == net().state_dict().keys()
    assert made.get_parameter("conv.weight").requires_grad is not frozen
    torch.testing.assert_close(outputs(made), expected)
    assert len(told) == 1
    assert told[0].startswith("model: 1 weights that were computed from others")
    torch.testing.assert_close(given(IMAGES).detach(), expected)
    assert trace(made, IMAGES).digest() == trace(net(), IMAGES).digest()


# ---------------------------------------------------------------- what cannot be taken


class Sparse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.eye(3).to_sparse())


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return nn.Sequential(torch.jit.script(nn.Linear(2, 2)))


def integers() -> nn.Module:
    made = nn.Linear(2, 2)
    made.weight = nn.Parameter(torch.zeros(2, 2, dtype=torch.int8), requires_grad=False)
    return made


def quantized() -> nn.Module:
    made = nn.Sequential(nn.Linear(2, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        made.register_buffer("scale", torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8))
    return made


def uncopied() -> nn.Module:
    made = nn.Linear(2, 2)
    made.lock = __import__("threading").Lock()
    return made


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (scripted, "0 (RecursiveScriptModule) is compiled by torch.jit"),
        (lambda: nn.Sequential(nn.LazyLinear(3)), "0.weight has no shape yet (a lazy module): let the function call"),
        (integers, "weight is of int8; weights may be of float32, float16, bfloat16, float64"),
        (quantized, "scale is quantized; give the network in float32"),
        (Sparse, "table is sparse (torch.sparse_coo); call its to_dense() first"),
        (lambda: nn.Linear(2, 2, device="meta"), "weight has no numbers (it is on the device 'meta')"),
        (lambda: nn.Linear(2, 2, dtype=torch.complex64), "weight is of complex64"),
        (uncopied, "Linear cannot be copied"),
    ],
)
def test_what_cannot_be_taken_is_named_with_the_reason(make: Callable[[], nn.Module], said: str) -> None:
    with pytest.raises(ModelError) as caught:
        plain(make())
    assert said in str(caught.value)


def test_modules_of_torchs_quantization_are_refused_but_for_those_that_do_nothing_yet() -> None:
    from torch.ao.nn.quantized import FloatFunctional
    from torch.ao.quantization import DeQuantStub, FakeQuantize, QuantStub

    plain(nn.Sequential(QuantStub(), nn.Linear(2, 2), DeQuantStub(), FloatFunctional()))
    with pytest.raises(ModelError, match=r"1 \(FakeQuantize\) is quantized, or prepared for it"):
        plain(nn.Sequential(nn.Linear(2, 2), FakeQuantize()))


def test_weights_that_are_not_finite_are_named_and_masks_may_be_infinite() -> None:
    given = net()
    given.register_buffer("mask", torch.full((3,), -torch.inf))
    plain(given)
    with torch.no_grad():
        given.first.bias[1] = torch.nan
        given.conv.weight[0, 0, 0, 0] = torch.inf
    given.norm.get_buffer("running_var")[2] = torch.nan
    with pytest.raises(ModelError, match=r"conv.weight, first.bias, norm.running_var of the network: not every number"):
        plain(given)


# ---------------------------------------------------------------- inputs


def test_examples_have_the_shapes_and_types_of_the_inputs() -> None:
    images, ids, mask = example_inputs(parse_inputs("3x8x6,12:int64,12:bool"), 5)
    assert [(x.shape, x.dtype) for x in (images, ids, mask)] == [
        ((5, 3, 8, 6), torch.float32),
        ((5, 12), torch.int64),
        ((5, 12), torch.bool),
    ]
    assert set(ids.unique().tolist()) == {0, 1}
    assert images.std() > 0.5


def test_examples_are_the_same_every_time_and_others_with_another_seed() -> None:
    shapes = [InputShape((4,))]
    assert torch.equal(example_inputs(shapes, 2)[0], example_inputs(shapes, 2)[0])
    assert not torch.equal(example_inputs(shapes, 2)[0], example_inputs(shapes, 2, seed=1)[0])


def test_a_given_network_can_be_traced(module: str) -> None:
    graph = trace(load_given(f"python:{module}:make"), example_inputs(parse_inputs("3x8x8")))
    assert graph.ops[0].kind == "conv2d"
