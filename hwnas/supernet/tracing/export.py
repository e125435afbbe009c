"""Modules as torch exports them: before anything is taken apart for gradients, on a batch of a telling size.

It knows torch's exporter and what goes wrong in it; never operators.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import count

import torch
from torch import Tensor, nn

from hwnas.errors import GraphError

_FIRST = 1009  # samples in a traced batch, at least: few sizes of networks are multiples of it


def checked_inputs(example_inputs: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The examples as a tuple.

    Raises:
        GraphError: there is none, one is no tensor, or they are not of one batch.
    """
    given = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
    if not given:
        raise GraphError("no example input was given; give one tensor for each input, such as (images[:1],)")
    odd = [type(x).__name__ for x in given if not isinstance(x, Tensor)]
    if odd:
        raise GraphError(f"an example input is a {odd[0]}; give tensors, in the order in which forward takes them")
    if any(x.dim() == 0 or not x.shape[0] for x in given):
        raise GraphError(
            "an example input has no samples; the first axis of each must be the batch's, of size 1 or more"
        )
    sizes = [x.shape[0] for x in given]
    if len(set(sizes)) > 1:
        raise GraphError(
            f"example inputs of {', '.join(map(str, sizes))} samples were given; all must have as many along axis 0"
        )
    return given


def telling_size(module: nn.Module, inputs: Sequence[Tensor]) -> int:
    """A number of samples by which an axis of a traced tensor shows that samples lie in it.

    A prime number that divides no size of the module's tensors or inputs. So what is a multiple of it comes from the
    batch, as the 64 n windows of n images do. A symbol for the batch would say the same and takes 1.7 times as long,
    and modules that compute with sizes (`int(windows / (h * w / 49))`) turn it into a constant.
    """
    tensors = (*module.parameters(), *module.buffers(), *(x[0] for x in inputs))
    sizes = {n for t in tensors for n in t.shape}
    primes = (n for n in count(_FIRST) if all(n % d for d in range(2, int(n**0.5) + 1)))
    return next(p for p in primes if all(n % p for n in sizes if n))  # 0, of an empty buffer, every number divides


def copied(module: nn.Module, *, tensors: Mapping[int, Tensor] | None = None) -> nn.Module:
    """The same module on the same tensors, so that nothing that forward notes for itself stays in the user's own.

    Args:
        module: any.
        tensors: id of a tensor -> what the copy has in its place; None: parameters and buffers are shared.

    Raises:
        GraphError: it holds what cannot be copied.
    """
    if tensors is None:
        tensors = {id(t): t for t in (*module.parameters(), *module.buffers())}
    try:
        return copy.deepcopy(module, dict(tensors))
    except (TypeError, RuntimeError, AttributeError, copy.Error) as e:
        raise GraphError(
            f"{type(module).__name__} cannot be copied ({e}); a module is traced as a copy. Keep files, locks and "
            "results of computations out of its attributes"
        ) from e


def exported(module: nn.Module, inputs: Sequence[Tensor], *, samples: int) -> torch.export.ExportedProgram:
    """The module as torch exports it in its present mode.

    Args:
        module: a copy of the user's.
        inputs: one example each.
        samples: of the batch it is called on; no number is computed.

    Raises:
        GraphError: it cannot be exported; says why and what to do.
    """
    # nothing is read of it or written to it, so none of the memory is taken: 0.6 GB of images of 224 pixels
    batch = tuple(x.new_empty(samples, *x.shape[1:]) for x in inputs)
    try:
        # As it trains: a `torch.no_grad()` around the caller must not change the graph. `strict=False` runs forward
        # itself; the strict way reads Python's bytecode, and refuses more modules.
        with _quiet(), warnings.catch_warnings(), torch.enable_grad():
            warnings.filterwarnings("ignore", ".*(was|were) assigned during export")  # of the copy, which goes
            return torch.export.export(module, batch, strict=False)
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError) as e:
        raise GraphError(_reason(module, batch, e)) from e


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from logging where in itself it failed: the error that is raised says it."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def _reason(module: nn.Module, batch: Sequence[Tensor], error: Exception) -> str:
    name = type(module).__name__
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__).rstrip(".")
    if any(word in str(error) for word in ("data-dependent", "Data-dependent", "DataDependent")):
        return (
            f"{name} cannot be traced: what it does depends on the numbers it computes ({first}); a graph does "
            "the same for every input. Replace `if` and loops on tensors (torch.where), or trace the modules inside it"
        )
    shapes = ", ".join(str(tuple(x.shape[1:])) for x in batch)
    return (
        f"{name} cannot be traced on samples of {shapes}: {first}. Check that it computes on tensors of these shapes "
        "and any number of samples, and that torch.export.export(module, inputs, strict=False) takes it"
    )
