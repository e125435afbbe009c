"""Counters that know nothing of operator graphs: multiply-accumulates, and activation memory that is really held.

- `torch_macs`: torch's FlopCounterMode, which sees what torch dispatches while the module runs; two operations a MAC.
- `fvcore_macs`: fvcore, on what torch.jit.trace records. Only products are taken (`conv`, `linear`, `addmm`, `matmul`,
  `bmm`): fvcore also counts normalisations, pools and interpolation, which are no MACs here.
- `held_bytes`: the module exported by torch runs operator by operator on real tensors, and the bytes of the storages
  that are still needed are added up after each. It runs as runtimes do: operators that compute number by number write
  over their input where nothing else needs it, those that move numbers write what they give, all else is new memory.
  What a kernel needs inside is not seen, nor what follows from weights alone.
"""

from __future__ import annotations

import math
import operator
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import fx, nn

PRODUCTS = ("conv", "linear", "addmm", "matmul", "bmm")
IN_PLACE = frozenset(
    {
        *(
            "relu",
            "relu6",
            "hardtanh",
            "clamp",
            "clamp_min",
            "clamp_max",
            "hardswish",
            "hardsigmoid",
            "silu",
            "sigmoid",
        ),
        *("tanh", "mish", "gelu", "leaky_relu", "elu", "prelu", "softmax", "dropout", "batch_norm", "layer_norm"),
        *("group_norm", "sqrt", "exp", "pow", "square", "rsqrt", "neg"),
    }
)
BY_NUMBERS = frozenset({"add", "sub", "mul", "div", "rsub"})  # in place too where the other operand is a number
MOVES = frozenset(
    {
        *("permute", "transpose", "t", "unbind", "select", "slice", "split", "chunk", "split_with_sizes", "expand"),
        *("narrow", "movedim"),
    }
)


def torch_macs(module: nn.Module, shape: Sequence[int]) -> int:
    """Of one sample, by torch."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # fused attention of CPUs is not counted; nn.TransformerEncoderLayer's own fusion needs gradients to stay away
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
        module.eval()(torch.zeros(1, *shape))
    return int(counter.get_total_flops()) // 2


def fvcore_macs(module: nn.Module, shape: Sequence[int]) -> tuple[int, dict[str, int]]:
    """Of one sample, by fvcore: products, and what else it counts.

    Raises:
        ImportError: it is not installed.
    """
    import torch
    from fvcore.nn import FlopCountAnalysis

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = FlopCountAnalysis(module.eval(), torch.zeros(1, *shape))
        found.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        counts = {name: int(n) for name, n in found.by_operator().items()}
    rest = {name: n for name, n in counts.items() if name not in PRODUCTS and n}
    return sum(counts.get(name, 0) for name in PRODUCTS), rest


def held_bytes(module: nn.Module, shape: Sequence[int]) -> int:
    """The largest number of bytes that activations of one sample hold after any operator."""
    import torch

    program = torch.export.export(module.eval(), (torch.zeros(1, *shape),), strict=False)
    with torch.no_grad():
        return _Run(program).peak(torch.rand(1, *shape))


class _Run:
    """One pass over an exported program that keeps what is still needed, and nothing else."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        self._nodes = list(program.graph.nodes)
        self._held: dict[fx.Node, Any] = {}
        self._last = {node: max((self._nodes.index(u) for u in node.users), default=-1) for node in self._nodes}
        self._of_samples: set[fx.Node] = set()
        self._program = program

    def peak(self, x: torch.Tensor) -> int:
        """Bytes."""
        tensors = {**self._program.state_dict, **self._program.constants}
        targets = {s.arg.name: s.target for s in self._program.graph_signature.input_specs}
        peak = 0
        for i, node in enumerate(self._nodes):
            if node.op == "placeholder":
                self._held[node] = tensors[targets[node.name]] if targets[node.name] else x
                self._of_samples |= set() if targets[node.name] else {node}
            elif node.op == "call_function":
                if self._of_samples.intersection(node.all_input_nodes):
                    self._of_samples.add(node)
                self._held[node] = self._computed(i, node)
            peak = max(peak, self._bytes())
            for old in [n for n in self._held if self._last[n] <= i]:
                del self._held[old]
        return peak

    def _bytes(self) -> int:
        tensors = [t for n, value in self._held.items() if n in self._of_samples for t in _tensors(value)]
        return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())

    def _computed(self, i: int, node: fx.Node) -> Any:
        args, kwargs = (_mapped(a, self._held) for a in (node.args, node.kwargs))
        if node.target is operator.getitem:
            return args[0][args[1]]
        target, name = _returning(node.target)
        result = target(*args, **kwargs)
        first = next(iter(node.all_input_nodes), None)
        if first is None or first not in self._of_samples:
            return result
        x = self._held[first]
        if name in MOVES:
            same = [getattr(y, "shape", None) == x.shape and y.stride() == x.stride() for y in _tensors(result)]
            return result if all(same) else _copies(result)
        numbers = name in BY_NUMBERS and not any(hasattr(a, "shape") for a in args[1:])
        if (name in IN_PLACE or numbers) and self._free_after(i, x) and math.prod(result.shape) <= math.prod(x.shape):
            if result.data_ptr() != x.data_ptr():
                x = x if x.is_contiguous() else x.contiguous()
                x.copy_(result.reshape(x.shape))
            result = x
        elif result is not x and node.target is not target and self._last[first] > i:
            self._held[first] = result  # written in place by the module, and read under its first name again
        return result

    def _free_after(self, i: int, x: torch.Tensor) -> bool:
        """Whether nothing that is read later shares the storage."""
        storage = x.untyped_storage().data_ptr()
        later = [t for n, value in self._held.items() if self._last[n] > i for t in _tensors(value)]
        return all(t.untyped_storage().data_ptr() != storage for t in later)


def _tensors(value: Any) -> list[torch.Tensor]:
    return list(value) if isinstance(value, tuple | list) else [value] if hasattr(value, "untyped_storage") else []


def _copies(value: Any) -> Any:
    return [v.clone() for v in value] if isinstance(value, tuple | list) else value.contiguous().clone()


def _mapped(value: Any, held: dict[fx.Node, Any]) -> Any:
    from torch import fx

    return fx.node.map_arg(value, held.__getitem__)


def _returning(target: Any) -> tuple[Any, str]:
    """An operator that works in place as the one that returns its result, and its name."""
    import torch

    name = getattr(target, "_opname", target.__name__)
    if not name.endswith("_"):
        return target, name
    name = name[:-1]
    return getattr(getattr(torch.ops.aten, name), target._overloadname), name
