"""The sections of a run's configuration: every key with what is allowed, what it means and an example.

Knows values and their rules, not what stands behind them, nor how a file is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from hwnas._config_values import (
    DATABASE,
    ConfigSection,
    Count,
    DatabaseUrl,
    Natural,
    Positive,
    PrecisionName,
    Seed,
    Share,
    ShareFrom0,
    Sides,
    Text,
    Threads,
    listed,
    optional,
)
from hwnas._places import user_path
from hwnas.allowed import ACCURACY, EVALUATED, MACRO_F1, MEAN_IOU, R2, SCORE, Allowed, Between

_DEFAULT_EPOCHS = 20.0
_DEFAULT_DEVICE = "cpu"


def device_name(name_or_path: str) -> str:
    """What a device is called whose description is named so: a path's file name without its ending."""
    is_path = name_or_path.endswith(".toml") or len(Path(name_or_path).parts) > 1
    return Path(name_or_path).stem if is_path else name_or_path


TASK_METRICS: Mapping[str, str] = {
    "classification": ACCURACY,
    "multi_label": MACRO_F1,
    "regression": R2,
    "segmentation": MEAN_IOU,
}


def is_function(name: str) -> bool:
    """Whether a name means a function of the user's: `python:module:function`."""
    return name.startswith("python:")


def is_definition(name: str) -> bool:
    """Whether a space's name is the path of its definition: a JSON file."""
    return name.endswith(".json") and not is_function(name)


class DataConfig(ConfigSection):
    """The images to learn from."""

    source: Text = Field(
        default="digits",
        description="digits, idx:FOLDER, npz:FILE, folder:DIR?size=64, zoo:NAME, python:module:function",
    )
    labels: Literal["source", "network"] = Field(
        default="source",
        description="network: what the given network answers, for images whose labels do not fit it or that have none",
    )
    seed: Seed = Field(default=0, description="decides which images are set aside")
    validation_fraction: Share = Field(
        default=0.1, description="of the training images, if the source has no validation set"
    )
    test_fraction: Share = Field(default=0.2, description="of all images, if the source has no test set")


class TaskConfig(ConfigSection):
    """What networks are for."""

    name: Text = Field(
        default="classification",
        description="classification, multi_label, regression, segmentation, outputs, python:module:function",
    )
    class_weights: Literal["balanced"] | Annotated[tuple[Positive, ...], Field(strict=False)] | None = optional(
        "what errors of each class count in training: balanced, or one number a class; alike if left out",
        example='"balanced"',
    )

    @property
    def metric(self) -> str:
        """What networks are ranked by: of a task that is not shipped, its score."""
        return TASK_METRICS.get(self.name, SCORE)


class SpaceConfig(ConfigSection):
    """The networks to choose from; what is left out stays as the preset has it."""

    preset: Text = Field(default="mobilenet-tiny", description="see `hwnas spaces`; FILE.json, python:module:function")
    resolutions: tuple[Count, ...] | None = listed("input sides in pixels", example="[16, 24]")
    precisions: tuple[PrecisionName, ...] | None = listed(
        "per block: one of floats at most, and one of integers (`hwnas devices show` tells which)", example='["int8"]'
    )
    kernel_sizes: tuple[Count, ...] | None = listed("to search among; all are trained", example="[3, 5]")
    width_mults: tuple[Positive, ...] | None = listed("multipliers of all channels", example="[1.0]")
    activation: Text | None = optional("everywhere; relu6 suits int8", example='"relu6"')
    channel_divisor: Count | None = optional(
        "channels are multiples of it; some int8 kernels want 16 (`hwnas devices audit` tells)", example="16"
    )
    se: bool | None = optional("squeeze-and-excitation everywhere or nowhere", example="false")


ZOO = "zoo:"
MOST_EXPERTS = 4  # sets of weights
_OF_A_TRAINING = (
    *("steps", "epochs", "start_from", "strategy", "n_random", "accumulate", "feature_weight", "ema_decay"),
    *("quantized_fraction", "experts", "split_fraction", "batch_norm"),
)


def source_of_supernet(supernet: str) -> str:
    """The images that a trained supernet brings along, as a data source.

    Args:
        supernet: as train.supernet names it.
    """
    if supernet.startswith(ZOO):
        return supernet
    # a folder with a card comes first, though a supernet that ships may have its name
    is_folder = "/" not in supernet and "\0" not in supernet and user_path(supernet).joinpath("card.json").is_file()
    return f"{ZOO}./{supernet}" if is_folder else f"{ZOO}{supernet}"


class TrainConfig(ConfigSection):
    """How the supernet is trained."""

    supernet: Text | None = optional(
        "a trained one that is taken instead: zoo:NAME (`hwnas zoo`), or the folder of one",
        example='"zoo:cifar10-mobilenet"',
    )
    start_from: Text | None = optional(
        "a trained one whose weights the training begins with: the folder of a run, or zoo:NAME", example='"runs/old"'
    )
    strategy: Text = Field(default="sandwich", description="which networks a step trains; see docs/training.md")
    n_random: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=2, description="random networks a step, besides the largest and the smallest"
    )
    steps: Natural | None = optional("how long: give steps or epochs; 0: a given network as it is", example="2000")
    epochs: Annotated[float, Field(gt=0, le=1e6)] | None = optional(
        "passes over the training images", example=f"{_DEFAULT_EPOCHS:g}"
    )
    batch_size: Count = Field(default=128, description="images")
    accumulate: Count = Field(default=1, description="parts of a batch, one after the other, where memory is short")
    optimizer: Literal["sgd", "adamw"] | None = optional(
        "sgd or adamw; if left out adamw for spaces of transformers, else sgd", example='"adamw"'
    )
    learning_rate: Positive | None = optional("at its peak; 0.1 of sgd, 0.0005 of adamw if left out", example="0.05")
    warmup_fraction: ShareFrom0 = Field(
        default=0.05, description="share of the steps with a rising rate; a cosine follows"
    )
    weight_decay: Annotated[float, Field(ge=0)] | None = optional(
        "on weights, not on biases and norms; 3e-5 of sgd, 0.05 of adamw if left out", example="1e-4"
    )
    label_smoothing: ShareFrom0 = Field(default=0.1, description="0: none")
    feature_weight: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="of what a given network's regions hand on, beside its answers; 0: answers alone"
    )
    ema_decay: ShareFrom0 = Field(default=0.999, description="of the averaged weights that are kept; 0: no average")
    quantized_fraction: ShareFrom0 = Field(
        default=0.0,
        description="share of the steps, the last, in which networks compute as int8 will, too; 0: none",
    )
    experts: Annotated[int, Field(ge=1, le=MOST_EXPERTS)] = Field(
        default=1,
        description="sets of weights that are mixed for each network, by its architecture; memory grows with them",
    )
    split_fraction: ShareFrom0 = Field(
        default=0.0,
        description="share of the steps before networks are parted in two, each with weights of its own; 0: never",
    )
    batch_norm: Literal["recalibrated", "frozen"] = Field(
        default="recalibrated",
        description="statistics of each network: of training images it is shown; frozen: those of the given network",
    )
    watch_share: Annotated[float, Field(ge=0, le=0.5)] = Field(
        default=0.03, description="of the time at most, for accuracies of three networks on the way; 0: none"
    )
    tensorboard: bool = Field(
        default=False, description="also write losses and accuracies for TensorBoard, in the run's tensorboard/"
    )
    seed: Seed = Field(default=0, description="of weights, order and augmentation")
    threads: Threads | None = optional("of the processor; all if left out", example="2")
    checkpoint_every_s: Positive = Field(default=60.0, description="seconds between checkpoints")

    @model_validator(mode="after")
    def _parts_of_a_batch(self) -> Self:
        if self.accumulate > self.batch_size:
            raise ValueError(
                f"accumulate is {self.accumulate}, and a batch has {self.batch_size} images; give at most those"
            )
        return self

    @model_validator(mode="after")
    def _one_reason_for_more_weights(self) -> Self:
        if self.experts > 1 and self.split_fraction:
            raise ValueError(
                f"experts is {self.experts} and split_fraction {self.split_fraction:g}; each gives networks weights of "
                "their own: leave out one of the two"
            )
        return self

    @model_validator(mode="after")
    def _nothing_of_a_training(self) -> Self:
        """Beside a trained supernet, what would only be of its training is no setting that has an effect."""
        for key in _OF_A_TRAINING if self.supernet is not None else ():
            default = type(self).model_fields[key].default
            if getattr(self, key) != default:
                raise ValueError(
                    f"{key} is of a training, and supernet names one that is trained; leave out one of the two"
                )
        return self

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("give steps or epochs, not both")
        return self

    def total_steps(self, n_images: int) -> int:
        """Optimiser steps for that many training images; 20 epochs if nothing was said."""
        if self.steps is not None:
            return self.steps
        epochs = _DEFAULT_EPOCHS if self.epochs is None else self.epochs
        return max(1, math.ceil(epochs * n_images / self.batch_size))


class DeviceConfig(ConfigSection):
    """Where the network will run: see `hwnas devices`, or name the path of a description (.toml)."""

    name: Text | None = optional(f"give name or names; {_DEFAULT_DEVICE} if both are left out", example='"cpu"')
    names: tuple[Text, ...] | None = listed("several devices, one supernet", example='["cpu", "boards/my-pi.toml"]')
    threads: Threads | None = optional("of the runtime; as described if left out", example="1")

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        if self.name is not None and self.names is not None:
            raise ValueError("give name or names, not both")
        called = [device_name(n) for n in self.all]
        twice = [n for n in called if called.count(n) > 1]
        if twice:
            raise ValueError(f"names has {twice[0]!r} twice; tables and studies are kept under this name")
        return self

    @property
    def all(self) -> tuple[str, ...]:
        """Every device as it is named in the file."""
        return self.names or (self.name or _DEFAULT_DEVICE,)


class ProfileConfig(ConfigSection):
    """How the device is measured."""

    n_networks: Annotated[int, Field(ge=4, le=100_000)] = Field(
        default=40, description="whole networks measured to correct sums of blocks"
    )
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = Field(default=0.9, description="with which upper bounds hold")
    rounds: Count | None = optional("timed rounds at most; as many as are needed if left out", example="25")
    tables: Text | None = optional("folder of latency tables; the run's own if left out", example='"latency_tables"')


class SearchConfig(ConfigSection):
    """How networks are looked for and ranked."""

    sampler: Text = Field(
        default="predictor", description="predictor, nsga2, regularised-evolution, tpe, random, ...; see docs/search.md"
    )
    n_trials: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        default=200, description="networks whose accuracy is measured"
    )
    stop_early: bool = Field(
        default=True, description="end when the front has stopped to grow; of the sampler predictor"
    )
    sensitivities: bool = Field(
        default=False, description="measure first how much accuracy each region loses in each precision"
    )
    population_size: Annotated[int, Field(ge=2, le=100_000)] = Field(default=32, description="of evolutionary samplers")
    seed: Seed = Field(default=0, description="of the sampler")
    workers: Threads | None = optional(
        "how many evaluate at once, in processes that share train.threads; one if left out, all that `ray` has",
        example="4",
    )
    ray: Text | None = optional("Ray cluster that evaluates: auto, HOST:PORT; local: this machine", example='"auto"')
    storage: DatabaseUrl | None = optional(
        "database that machines share; a journal in the run's folder if left out", example=f'"{DATABASE}"'
    )
    validation_samples: Count | None = optional("images that rank a network; all if left out", example="2000")
    recalibration_samples: Count = Field(
        default=512, description="training images for BatchNorm statistics, drawn from all"
    )
    calibration_samples: Count = Field(default=256, description="training images for int8 ranges")


_LARGEST_FRACTION = 2.0  # of the largest network's latency: int8 may be slower, but not a percentage


class OtherDeviceLimits(ConfigSection):
    """What the same network must keep on a device that is not the run's own."""

    latency_ms: Sides | None = None
    size_bytes: Sides | None = None
    memory_bytes: Sides | None = None
    energy_mj: Sides | None = None

    def given(self) -> dict[str, Allowed]:
        """Metric -> what was said."""
        return {k: v for k in type(self).model_fields if (v := getattr(self, k)) is not None}


class LimitsConfig(ConfigSection):
    """What a network must keep: each number is the most; a table may have at_least, at_most or both."""

    latency_ms: Sides | None = optional("at batch 1", example="2.0")
    latency_fraction: Positive | None = optional(
        "of the largest network's latency at the widest precision; 0.5: half", example="0.5"
    )
    size_bytes: Sides | None = optional("of the file", example="300e3")
    macs: Sides | None = optional("multiply-accumulates an image", example="{ at_least = 1e6, at_most = 5e6 }")
    parameters: Sides | None = optional("weights and biases", example="200e3")
    peak_memory_bytes: Sides | None = optional("of the activations, computed", example="100e3")
    memory_bytes: Sides | None = optional("arena or SRAM, where the device tells", example="200e3")
    energy_mj: Sides | None = optional("of one run, where the device has a meter or stated power", example="1.5")
    accuracy: Sides | None = optional("at least this share of the validation images", example="0.9")
    agreement: Sides | None = optional('likewise, where data.labels is "network"', example="0.95")
    macro_f1: Sides | None = optional("likewise, of a multi-label task", example="0.8")
    r2: Sides | None = optional("likewise, of a regression", example="0.9")
    mean_iou: Sides | None = optional("likewise, of a segmentation", example="0.7")
    score: Sides | None = optional("likewise, of a task of your own", example="0.9")
    others: dict[str, OtherDeviceLimits] = Field(
        default_factory=dict,
        description="the same network on other devices, by name or path",
        examples=["{ my-pi = { latency_ms = 9.0 } }"],
    )

    @model_validator(mode="before")
    @classmethod
    def _named_devices(cls, values: object) -> object:
        """`"my-pi".latency_ms = 9` in [limits], and `my-pi.latency_ms` in one word, are limits on another device."""
        if not isinstance(values, Mapping):
            return values
        own = {k: v for k, v in values.items() if k in cls.model_fields}
        others = {k: dict(v) if isinstance(v, Mapping) else v for k, v in dict(own.pop("others", {})).items()}
        for key, value in values.items():
            device, dot, metric = str(key).rpartition(".")
            if key in cls.model_fields:
                continue
            if isinstance(value, Mapping):
                others.setdefault(key, {}).update(value)
            elif dot:
                others.setdefault(device, {})[metric] = value
            else:
                own[key] = value
        return {**own, "others": others} if others else own

    @field_validator("latency_fraction")
    @classmethod
    def _a_share(cls, value: float | None) -> float | None:
        """A number that was meant as per cent is refused; a little above 1 binds where int8 is slower than fp32."""
        if value is None or value <= _LARGEST_FRACTION:
            return value
        raise ValueError(
            f"{value:g} means {value:g} times the latency of the largest network, and 0.5 means half of it; did you "
            f"mean {value / 100:g} ({value:g} %)? For a limit above {_LARGEST_FRACTION:g} times give latency_ms"
        )

    @model_validator(mode="after")
    def _one_latency(self) -> Self:
        if self.latency_ms is not None and self.latency_fraction is not None:
            raise ValueError("give latency_ms or latency_fraction, not both")
        return self

    @field_validator(*EVALUATED)
    @classmethod
    def _a_share_of_images(cls, value: Allowed | None) -> Allowed | None:
        """A number that was meant as per cent is refused."""
        sides = value.to_json().values() if isinstance(value, Between) else () if value is None else (value,)
        if any(side > 1 for side in sides):
            raise ValueError(f"is {value}, but should be a share of 1: 0.9 means 90 %")
        return value

    def refuse_other_than(self, metric: str, *, where: str) -> None:
        """Hold that of accuracy, agreement and their like only what networks are evaluated for is limited.

        Raises:
            ValueError: another one is.
        """
        for other in EVALUATED:
            if other != metric and getattr(self, other) is not None:
                raise ValueError(
                    f"{where} has {other}, but by task.name and data.labels networks are evaluated for their {metric}; "
                    f"give {metric} instead"
                )

    def given(self) -> dict[str, Allowed]:
        """Key -> what was said, as in the file."""
        own = {k: v for k in LimitsConfig.model_fields if k != "others" and (v := getattr(self, k)) is not None}
        return own | {f"{d}.{k}": v for d, limits in self.others.items() for k, v in limits.given().items()}

    def absolute(self) -> dict[str, Allowed]:
        """Metric -> limit, without `latency_fraction`, which needs a measured device.

        A number is a ceiling for every metric: one that means a floor in the file is written as such. What another
        device must keep is called by that device's name: `my-pi.latency_ms`.
        """
        found = {}
        for key, value in self.given().items():
            device, dot, metric = key.rpartition(".")
            found[f"{device_name(device)}.{metric}" if dot else key] = value
        found.pop("latency_fraction", None)
        for metric in EVALUATED:
            if (least := found.get(metric)) is not None and not isinstance(least, Between):
                found[metric] = Between(at_least=least)
        return found


class BudgetConfig(LimitsConfig):
    """A deployment on each device: what is said here takes the place of the same in [limits].

    There may be any number of [[budgets]] tables; without one, [limits] is the only budget.
    """

    device: Text | None = optional("the only one it is for; all if left out", example='"my-pi"')

    @model_validator(mode="after")
    def _some_limit(self) -> Self:
        if not self.given():
            raise ValueError(f"a budget needs a limit: {', '.join(LimitsConfig.model_fields)}")
        return self


class DeployConfig(ConfigSection):
    """How the chosen network becomes a file."""

    train_steps: Natural = Field(default=0, description="of the chosen network alone, in floats; before fine-tuning")
    train_learning_rate: Positive | None = optional(
        "of these steps at its peak; train.learning_rate if left out", example="0.08"
    )
    finetune_steps: Natural = Field(default=0, description="quantization-aware steps before export")
    finetune_learning_rate: Positive = Field(default=0.02, description="at its start; a cosine follows")
    candidates: Count = Field(default=5, description="networks tried at most until one keeps its limits when measured")
    tolerance: ShareFrom0 | None = optional(
        "of accuracy that a cheaper network may lack; the standard error of the validation images if left out",
        example="0.0",
    )
    test_samples: Count | None = optional("test images run on the device; all if left out", example="2000")
    torch_program: bool = Field(default=True, description="the network beside its file as model.pt2, to go on in torch")


class OutputConfig(ConfigSection):
    """Where results are kept; a run goes on from what it finds there."""

    folder: Text = Field(default="runs/default", description="made if missing")
