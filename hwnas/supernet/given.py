"""A network of the user's own, from any state to one that can be traced: plain modules, float32, in this memory.

A copy is made, so that the user's module stays as it was. It knows modules of torch and what people wrap around them;
the weights' files are `given_weights`'. Never spaces, graphs or what the network is for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim.swa_utils import AveragedModel

from hwnas.config import is_function, is_onnx
from hwnas.errors import ConfigError, GraphError, ModelError
from hwnas.foreign import as_written, shown
from hwnas.given_inputs import InputShape
from hwnas.supernet.given_weights import fill_, fits, read_weights
from hwnas.supernet.reparametrized import bake_
from hwnas.supernet.tracing.export import copied
from hwnas.user_functions import Purpose, call_function, find_function

Tell = Callable[[str], None]

GIVES_A_MODEL = Purpose(
    title="model",
    gives="a network",
    kind="model",
    classes=frozenset({"Module"}),
    example="torch.nn.Module",
    error=ModelError,
)
_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
_TAKEN = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_QUANTIZED = ("torch.ao.nn.", "torch.ao.quantization.", "torch.nn.quantized.", "torchao.")
_NOT_YET_QUANTIZED = {"QuantStub", "DeQuantStub", "QuantWrapper", "FloatFunctional", "FXFloatFunctional"}
_SHOWN = 3  # names in a message


def load_given(
    source: str,
    *,
    weights: str | Path | None = None,
    inputs: Sequence[InputShape] | None = None,
    tell: Tell | None = None,
) -> nn.Module:
    """The network of an ONNX file, or that a user's function gives, with the weights of a file.

    Args:
        source: `python:module:function`, which is called without arguments; or `onnx:FILE`.
        weights: `.safetensors`, or `.pth`, `.pt`, `.bin` of tensors alone; None: those that the function gives.
        inputs: what an ONNX file takes, where it leaves that open; functions are not asked.
        tell: is told what will be run, before it is, and what was done to network and weights.

    Returns:
        See `plain`.

    Raises:
        ConfigError: the source names no function and no file, or there is none; or an ONNX file's input is not known.
        ModelError: the function fails, must not be called or gives no network that can be taken; or the weights
            cannot be read or do not fit.
    """
    tell = tell or (lambda _: None)
    if is_onnx(source):
        if weights is not None:
            raise ConfigError("weights are given, and those of an ONNX file are in it; leave them out")
        return _of_file(source.removeprefix("onnx:"), inputs, tell=tell)
    if not is_function(source):
        raise ConfigError(f"the model {as_written(source)} is not of the form python:module:function or onnx:FILE")
    target = source.removeprefix("python:")
    saved = None if weights is None else read_weights(weights)  # before minutes may go into making the network
    found = find_function(target, GIVES_A_MODEL)
    tell(f"model: the function {found.function} of {shown(found.file)} is run")
    made = call_function(target, GIVES_A_MODEL, options={})
    if not isinstance(made, nn.Module):
        hint = "; call the class, so that it gives an object of it" if isinstance(made, type) else ""
        raise ModelError(
            f"the model function {target} gave a {type(made).__name__}; it must give a torch.nn.Module{hint}"
        )
    module = _copied(made, tell=tell)
    if saved is not None:
        if not fits(module, saved):  # perhaps saved with the weights that are computed in this one
            bake_(module, tell=tell)
        fill_(module, saved, tell=tell)
    bake_(module, tell=tell)
    _refuse_no_numbers(module)
    return module.eval()


def _of_file(path: str, inputs: Sequence[InputShape] | None, *, tell: Tell) -> nn.Module:
    """The network of an ONNX file."""
    from hwnas.supernet.importing import load_onnx

    module = load_onnx(path, inputs=inputs, tell=tell)
    _refuse_no_numbers(module)
    return module


def plain(module: nn.Module, *, tell: Tell | None = None) -> nn.Module:
    """A copy of a network that can be traced and trained.

    What is wrapped around it (DataParallel, torch.compile, an average of weights) is taken off, normalisations of
    weights are baked in, and weights are float32 in the processor's memory. What is tied stays tied, what is frozen
    stays frozen.

    Args:
        module: in any mode, on any device; left as it was.
        tell: is told what was done.

    Returns:
        In evaluation mode.

    Raises:
        ModelError: it is compiled by torch.jit, quantized, sharded or not initialised, or cannot be copied; or a weight
            is not finite.
    """
    made = _copied(module, tell=tell or (lambda _: None))
    bake_(made, tell=tell or (lambda _: None))
    _refuse_no_numbers(made)
    return made.eval()


def example_inputs(inputs: Sequence[InputShape], n: int = 1, *, seed: int = 0) -> tuple[Tensor, ...]:
    """Tensors as a network takes them: normal numbers; of whole numbers 0 and 1, which any vocabulary has.

    Args:
        inputs: one for each argument of forward.
        n: samples.
        seed: of the numbers.

    Returns:
        (n, ...) each.
    """
    generator = torch.Generator().manual_seed(seed)

    def one(x: InputShape) -> Tensor:
        shape, dtype = (n, *x.shape), getattr(torch, x.dtype)
        if dtype.is_floating_point:
            return torch.randn(shape, generator=generator, dtype=dtype)
        return torch.randint(0, 2, shape, generator=generator).to(dtype)

    return tuple(one(x) for x in inputs)


# ---------------------------------------------------------------- a plain copy


def _copied(module: nn.Module, *, tell: Tell) -> nn.Module:
    """A copy without wrappers, in float32, in the processor's memory."""
    inner, wrappers = _unwrapped(module)
    _refuse(inner)
    tensors = _own_tensors(inner, tell=tell)
    try:
        made = copied(inner, tensors=tensors)
    except GraphError as e:
        raise ModelError(str(e)) from e
    for path, part in list(made.named_modules()):
        for name, child in list(part.named_children()):
            below, around = _unwrapped(child)
            if around:
                setattr(part, name, below)
                wrappers += [f"{each} (of {path}.{name})".replace("of .", "of ") for each in around]
    if wrappers:
        tell(f"model: taken out of {_some(wrappers)}")
    return made


def _unwrapped(module: nn.Module) -> tuple[nn.Module, list[str]]:
    """What is inside of wrappers that compute nothing themselves, and their names."""
    names: list[str] = []
    while True:
        if isinstance(module, _WRAPPERS):
            inner = module.module
        elif type(module).__name__ == "OptimizedModule":  # of torch.compile, whose import takes a second
            inner = module._orig_mod
        else:
            return module, names
        names.append(type(module).__name__.replace("OptimizedModule", "torch.compile"))
        assert isinstance(inner, nn.Module)
        module = inner


def _refuse(module: nn.Module) -> None:
    """Hold that a network is made of modules and numbers that can be taken.

    Raises:
        ModelError: names what is not, and says why.
    """
    for path, part in module.named_modules():
        where, kind = f"{path or 'the network'} ({type(part).__name__})", type(part)
        if isinstance(part, torch.jit.ScriptModule):
            raise ModelError(
                f"{where} is compiled by torch.jit, and what it computes cannot be changed any more; give the "
                "torch.nn.Module that it was made of"
            )
        if kind.__name__.startswith("FullySharded"):
            raise ModelError(f"{where} is sharded over processes; give the module before it was sharded")
        if kind.__module__.startswith(_QUANTIZED) and kind.__name__ not in _NOT_YET_QUANTIZED:
            raise ModelError(
                f"{where} is quantized, or prepared for it; give the network in float32: quantization comes at the "
                "end here, for the device"
            )
        for name, tensor in _tensors(part):
            if reason := _unfit(tensor, is_weight=name in part._parameters):
                raise ModelError(f"{path + '.' if path else ''}{name} {reason}")


def _unfit(tensor: Tensor, *, is_weight: bool) -> str:
    """Why a tensor cannot be taken; empty if it can."""
    if is_lazy(tensor):
        return (
            "has no shape yet (a lazy module): let the function call the network once on an example before it returns"
        )
    if type(tensor) not in (Tensor, nn.Parameter):
        return f"is a {type(tensor).__name__}, no plain tensor (quantized or sharded?); give the network in float32"
    if tensor.is_quantized:
        return "is quantized; give the network in float32: quantization comes at the end here, for the device"
    if tensor.is_meta:
        return "has no numbers (it is on the device 'meta'); make the network with its weights"
    if tensor.layout != torch.strided:
        return f"is sparse ({tensor.layout}); call its to_dense() first"
    if is_weight and tensor.dtype not in _TAKEN:
        allowed = ", ".join(_dtype(d) for d in _TAKEN)
        return f"is of {_dtype(tensor.dtype)}; weights may be of {allowed}"
    return ""


def _tensors(part: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A module's own tensors by name: parameters, buffers, and others among its attributes."""
    held: tuple[dict[str, Any], ...] = (part._parameters, part._buffers, part.__dict__)
    return ((name, value) for each in held for name, value in each.items() if isinstance(value, Tensor))


def _own_tensors(module: nn.Module, *, tell: Tell) -> dict[int, Tensor]:
    """The id of each tensor -> a copy of it; one that stands in several places has one copy, and so stays tied."""
    made: dict[int, Tensor] = {}
    dtypes: Counter[str] = Counter()
    devices: Counter[str] = Counter()
    for part in module.modules():
        for _, tensor in _tensors(part):
            if id(tensor) in made:
                continue
            dtype = torch.float32 if tensor.dtype in _TAKEN else tensor.dtype
            # as they stand: a weight that a hook computes (weight_norm) carries the way back to what it came from
            copy = tensor.detach().to("cpu", dtype, copy=True)
            is_weight = isinstance(tensor, nn.Parameter)
            made[id(tensor)] = nn.Parameter(copy, requires_grad=tensor.requires_grad) if is_weight else copy
            if tensor.dtype != dtype:
                dtypes[_dtype(tensor.dtype)] += 1
            if tensor.device.type != "cpu":
                devices[str(tensor.device)] += 1
    for dtype_name, n in dtypes.items():
        tell(f"model: {n} tensors in {dtype_name} are taken as float32")
    for device, n in devices.items():
        tell(f"model: {n} tensors are copied from {device}")
    return made


def _refuse_no_numbers(module: nn.Module) -> None:
    """Hold that every weight is finite; a buffer may be infinite, as a mask of attention is.

    Raises:
        ModelError: names those that are not.
    """
    odd = [name for name, p in module.named_parameters() if not math.isfinite(_sum(p))]
    odd += [name for name, b in module.named_buffers() if b.is_floating_point() and bool(b.isnan().any())]
    if odd:
        raise ModelError(
            f"{_some(odd)} of the network: not every number is finite; the training that made it diverged, or the "
            "numbers were too large for their type"
        )


def _sum(tensor: Tensor) -> float:
    """Not finite where a number is not, and in double precision finite where all are."""
    return float(tensor.detach().sum(dtype=torch.float64))


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(shown(name) for name in names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
