"""How a rule sees an ONNX operator while a network runs, and the list of all rules.

A rule is a function of one `Call`, registered under the ONNX operators that it covers; it computes with torch what the
tracer has a rule for in turn. It raises `Unsupported` for a form of the operator that it does not cover.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hwnas.types import Array

Operand = Tensor | Array | None
Result = Tensor | Sequence[Tensor]


class Unsupported(Exception):  # noqa: N818 - what a rule says; the network names the node
    """A rule does not cover this form of its operator."""


@dataclass(frozen=True)
class Call:
    """An operator with what it reads.

    Attributes:
        kind: of the operator.
        operands: tensors, arrays of numbers that are known before any tensor is, or None where one is left out.
        attributes: that the file gives.
        opset: ONNX's version of the operators.
        training: whether the network is in training.
        first: shape of the first operand for one sample of the file's own size; None while that is recorded.
        samples: in the batch.
        outputs: that the operator has.
    """

    kind: str
    operands: Sequence[Operand]
    attributes: Mapping[str, Any]
    opset: int
    training: bool = False
    first: tuple[int, ...] | None = None
    samples: int = 1
    outputs: int = 1

    @property
    def x(self) -> Tensor:
        """The first operand."""
        return self.tensor(0)

    def has(self, i: int) -> bool:
        """Whether an operand is given."""
        return i < len(self.operands) and self.operands[i] is not None

    def tensor(self, i: int) -> Tensor:
        """An operand as a tensor.

        Raises:
            Unsupported: it is left out.
        """
        value = self.operands[i] if i < len(self.operands) else None
        if value is None:
            raise Unsupported(f"its input {i} is left out")
        return torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value

    def optional(self, i: int) -> Tensor | None:
        """The same; None where it is left out."""
        return self.tensor(i) if self.has(i) else None

    def known(self, i: int, attribute: str = "") -> Array | None:
        """An operand that must not depend on the network's input, or an attribute that older versions had for it.

        Raises:
            Unsupported: it is computed from the input.
        """
        if not self.has(i):
            value = self.attributes.get(attribute)
            return None if value is None else np.asarray(value)
        value = self.operands[i]
        if isinstance(value, Tensor):
            raise Unsupported(f"its input {i} ({attribute or 'a parameter'}) depends on the network's input")
        return value

    def numbers(self, i: int, attribute: str = "") -> list[int] | None:
        """The same as whole numbers."""
        value = self.known(i, attribute)
        return None if value is None else [int(n) for n in value.reshape(-1)]

    def number(self, i: int) -> Tensor | float:
        """An operand of an element-wise operator: a constant of one number as that."""
        value = self.operands[i]
        rank = max((o.ndim for o in self.operands if isinstance(o, Tensor)), default=0)
        if isinstance(value, np.ndarray) and value.size == 1 and value.ndim <= rank:
            number = value.reshape(-1)[0].item()
            return float(number) if isinstance(number, float) else number
        return self.tensor(i)

    def attribute(self, name: str, default: Any) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)


Rule = Callable[[Call], Result]
RULES: dict[str, Rule] = {}
# operator -> what its constant inputs are as tensors of a module; None: the input stays a number
ROLES: dict[str, Mapping[int, str]] = {}
STATISTICS = frozenset({"running_mean", "running_var"})  # no parameters


def rule(*kinds: str, roles: Sequence[str | None] = (), tensors: bool = False) -> Callable[[Rule], Rule]:
    """Register a rule.

    Args:
        kinds: ONNX operators.
        roles: of inputs that are weights where they are constant.
        tensors: constants of several numbers are weights, whichever input they are.
    """

    def register(function: Rule) -> Rule:
        held = {i: role for i, role in enumerate(roles) if role}
        RULES.update(dict.fromkeys(kinds, function))
        ROLES.update(dict.fromkeys(kinds, dict.fromkeys(range(64), "value") if tensors else held))
        return function

    return register
