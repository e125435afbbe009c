"""Optimisers by name, the settings that suit them, and their state as named tensors.

Knows parameters; nothing of networks, batches or schedules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hwnas.errors import ConfigError

_MOMENTUM = "momentum"


@dataclass(frozen=True, slots=True, kw_only=True)
class Descent:
    """How weights go down a loss.

    Attributes:
        optimizer: `sgd` with Nesterov momentum 0.9, which convolutions with BatchNorm learn well by; `adamw`
            (Loshchilov & Hutter, 2019) with betas of 0.9 and 0.999, which transformers need.
        learning_rate: at its peak.
        weight_decay: on parameters of two axes and more: on no bias or norm. Of `adamw` it is decoupled, so that a
            step takes the learning rate times it.

    Raises:
        ConfigError: there is no such optimiser.
    """

    optimizer: str = "sgd"
    learning_rate: float = 0.1
    weight_decay: float = 3e-5

    def __post_init__(self) -> None:
        check_name(self.optimizer)

    @classmethod
    def of(cls, optimizer: str, *, learning_rate: float | None = None, weight_decay: float | None = None) -> Descent:
        """With what suits an optimiser where nothing is asked for.

        Args:
            optimizer: by name.
            learning_rate: None: 0.1 of `sgd`, 0.0005 of `adamw` (DeiT, Touvron et al., 2021, table 9).
            weight_decay: None: 3e-5 of `sgd`, 0.05 of `adamw` (the same).
        """
        check_name(optimizer)
        rate, decay = _SUITABLE[optimizer]
        return cls(
            optimizer=optimizer,
            learning_rate=rate if learning_rate is None else learning_rate,
            weight_decay=decay if weight_decay is None else weight_decay,
        )

    def make(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser of some parameters; its rate is set by a schedule (`hwnas.supernet.schedules`)."""
        parameters = list(parameters)
        groups = [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
        ]
        groups = [g for g in groups if g["params"]]
        if self.optimizer == "adamw":
            return torch.optim.AdamW(groups)
        return torch.optim.SGD(groups, momentum=0.9, nesterov=True)


_SUITABLE: Mapping[str, tuple[float, float]] = {"sgd": (0.1, 3e-5), "adamw": (5e-4, 0.05)}  # rate, weight decay


def check_name(optimizer: str) -> None:
    """Refuse the name of an optimiser that there is not.

    Raises:
        ConfigError: there is none of this name.
    """
    if optimizer not in _SUITABLE:
        raise ConfigError(f"there is no optimiser {optimizer!r}; there are {', '.join(_SUITABLE)}")


_KEYS: Mapping[str, str] = {  # of torch's state -> in files
    "momentum_buffer": _MOMENTUM,
    "exp_avg": "mean",
    "exp_avg_sq": "square",
    "step": "updates",
}


def state_tensors(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """What an optimiser remembers of its parameters, as `<kind>.<name of the parameter>`."""
    return {
        f"{_KEYS[key]}.{name}": value
        for name, p in parameters.items()
        for key, value in optimizer.state.get(p, {}).items()
        if isinstance(value, Tensor)
    }


def restore_state(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """Let an optimiser go on from what `state_tensors` gave; what was never updated has no state."""
    for name, p in parameters.items():
        found = dict(_state_of(name, p, tensors))
        if found:
            optimizer.state[p].update(found)


def _state_of(name: str, p: nn.Parameter, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for key, kept in _KEYS.items():
        value = tensors.get(f"{kept}.{name}")
        if value is None:
            continue
        if key == "step":  # a counter, which torch keeps beside the processor
            yield key, value.clone()
        else:  # laid out in memory as the weight is (channels last), which the file does not keep
            yield key, torch.empty_like(p).copy_(value)
