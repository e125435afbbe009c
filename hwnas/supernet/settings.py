"""How a supernet is trained, in numbers. Knows optimisers and schedules by name; never networks or data."""

from __future__ import annotations

from dataclasses import dataclass

from hwnas.errors import ConfigError
from hwnas.supernet.descent import Descent, check_name
from hwnas.supernet.schedules import cosine_rate

MOST_EXPERTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How to train.

    Attributes:
        steps: optimiser steps in all.
        optimizer: `sgd` or `adamw`; see `hwnas.supernet.descent`.
        learning_rate: at its peak; what is left out of it and of the weight decay suits `sgd` (`Descent.of` knows what
            suits others).
        warmup_fraction: share of the steps with a linearly rising rate; a cosine to zero follows.
        weight_decay: on weights of convolutions and linear layers and the matrices between kernel sizes; on no bias or
            norm.
        label_smoothing: for the networks that learn from classes or labels.
        ema_decay: of the averaged weights that are kept in the end; ramps up as (1 + t) / (10 + t).
        quantized_fraction: share of the steps, the last ones, in which networks compute as integers will, too; 0: none.
            See `hwnas.supernet.quantized`.
        experts: copies of the weights that are mixed for each network; 1: there are the weights alone. See
            `hwnas.supernet.experts`.
        split_fraction: share of the steps before the networks are parted in two, each part with weights of its own; 0:
            they never are. See `hwnas.supernet.splitting`.
        feature_weight: where a given network teaches, of what its regions hand on, beside its answers, in the loss; see
            `hwnas.supernet.distillation`.
        accumulate: parts that a batch is cut into, one after the other, so that a step takes less memory; statistics of
            normalisation are those of a part.
        max_grad_norm: gradients are scaled down to this norm; 0 leaves them.
        seed: of the sub-networks that each step draws; order and augmentation have the stream's.
        checkpoint_every_s: seconds between checkpoints.
    """

    steps: int
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    warmup_fraction: float = 0.05
    weight_decay: float = 3e-5
    label_smoothing: float = 0.1
    ema_decay: float = 0.999
    quantized_fraction: float = 0.0
    experts: int = 1
    split_fraction: float = 0.0
    feature_weight: float = 0.0
    accumulate: int = 1
    max_grad_norm: float = 5.0
    seed: int = 0
    checkpoint_every_s: float = 60.0

    def __post_init__(self) -> None:
        check_name(self.optimizer)
        rules = {
            "steps": (self.steps >= 1, "at least 1"),
            "experts": (1 <= self.experts <= MOST_EXPERTS, f"from 1 to {MOST_EXPERTS}"),
            "split_fraction": (0 <= self.split_fraction < 1, "in [0, 1)"),
            "accumulate": (self.accumulate >= 1, "at least 1"),
            "learning_rate": (self.learning_rate > 0, "above 0"),
            "warmup_fraction": (0 <= self.warmup_fraction < 1, "in [0, 1)"),
            "label_smoothing": (0 <= self.label_smoothing < 1, "in [0, 1)"),
            "feature_weight": (self.feature_weight >= 0, "at least 0"),
            "ema_decay": (0 <= self.ema_decay < 1, "in [0, 1)"),
            "quantized_fraction": (0 <= self.quantized_fraction <= 1, "in [0, 1]"),
        }
        for name, (ok, allowed) in rules.items():
            if not ok:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be {allowed}")
        if self.experts > 1 and self.split_fraction:
            raise ConfigError(
                f"experts is {self.experts} and split_fraction {self.split_fraction}; each gives networks weights of "
                "their own: leave out one of the two"
            )

    @property
    def descent(self) -> Descent:
        """How the weights go down the loss."""
        return Descent(optimizer=self.optimizer, learning_rate=self.learning_rate, weight_decay=self.weight_decay)

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        warmup = max(1, round(self.steps * self.warmup_fraction))
        return cosine_rate(step, peak=self.learning_rate, steps=self.steps, warmup=warmup)

    @property
    def first_quantized(self) -> int:
        """The step from which on networks compute as integers will, too; there is one, where any share is asked for."""
        asked = round(self.steps * self.quantized_fraction)
        return self.steps - (max(1, asked) if self.quantized_fraction else 0)

    @property
    def split_step(self) -> int | None:
        """The step before which the networks are parted; None where they never are."""
        return min(round(self.steps * self.split_fraction), self.steps - 1) if self.split_fraction else None

    def decay(self, step: int) -> float:
        """What the averaged weights keep of themselves at a step."""
        return min(self.ema_decay, (1 + step) / (10 + step))
