"""The configuration of a run: TOML in, validated values out, and back.

An unknown key is an error that names the known ones. Knows registered names, not what stands behind
them: never torch, data, spaces or devices.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hwnas import registry
from hwnas._toml import Entry, format_section
from hwnas.errors import ConfigError, UnknownNameError

CONFIG_FILE = "config.toml"
_DEFAULT_EPOCHS = 20.0

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]  # both ends excluded
ShareFrom0 = Annotated[float, Field(ge=0, lt=1)]


def _list(comment: str, *, example: str) -> Any:
    """A list in TOML, absent by default; `strict` would refuse it for a tuple."""
    return Field(default=None, strict=False, min_length=1, description=comment, examples=[example])


def _optional(comment: str, *, example: str) -> Any:
    return Field(default=None, description=comment, examples=[example])


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class DataConfig(_Section):
    """The images to learn from."""

    source: str = Field(
        default="digits", description="digits, idx:FOLDER, npz:FILE, folder:DIR?size=64, python:module:function"
    )
    seed: Natural = Field(default=0, description="decides which images are set aside")
    validation_fraction: Share = Field(
        default=0.1, description="of the training images, if the source has no validation set"
    )
    test_fraction: Share = Field(default=0.2, description="of all images, if the source has no test set")


class SpaceConfig(_Section):
    """The networks to choose from; what is left out stays as the preset has it."""

    preset: str = Field(default="mobilenet-tiny", description="see `hwnas spaces`")
    resolutions: tuple[Count, ...] | None = _list("input sides in pixels", example="[16, 24]")
    precisions: tuple[Literal["fp32", "int8"], ...] | None = _list("per block", example='["int8"]')
    width_mults: tuple[Positive, ...] | None = _list("multipliers of all channels", example="[1.0]")
    activation: str | None = _optional("everywhere; relu6 suits int8", example='"relu6"')
    se: bool | None = _optional("squeeze-and-excitation everywhere or nowhere", example="false")


class TrainConfig(_Section):
    """How the supernet is trained."""

    strategy: str = Field(default="sandwich", description="which networks a step trains")
    n_random: Natural = Field(default=2, description="random networks a step, besides the largest and the smallest")
    steps: Count | None = _optional("how long: give steps or epochs", example="2000")
    epochs: Positive | None = _optional("passes over the training images", example=f"{_DEFAULT_EPOCHS:g}")
    batch_size: Count = Field(default=128, description="images")
    learning_rate: Positive = Field(default=0.1, description="at its peak")
    warmup_fraction: ShareFrom0 = Field(
        default=0.05, description="share of the steps with a rising rate; a cosine follows"
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(default=3e-5, description="on weights, not on biases and norms")
    label_smoothing: ShareFrom0 = Field(default=0.1, description="0: none")
    ema_decay: ShareFrom0 = Field(default=0.999, description="of the averaged weights that are kept; 0: no average")
    seed: Natural = Field(default=0, description="of weights, order and augmentation")
    threads: Count | None = _optional("of the processor; all if left out", example="2")
    checkpoint_every_s: Positive = Field(default=60.0, description="seconds between checkpoints")

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


class DeviceConfig(_Section):
    """Where the network will run."""

    name: str = Field(default="cpu", description="see `hwnas devices`; or the path of a description (.toml)")
    threads: Count | None = _optional("of the runtime; as described if left out", example="1")


class ProfileConfig(_Section):
    """How the device is measured."""

    n_networks: Annotated[int, Field(ge=4)] = Field(
        default=40, description="whole networks measured to correct sums of blocks"
    )
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = Field(default=0.9, description="with which upper bounds hold")
    rounds: Count | None = _optional("timed rounds at most; as many as are needed if left out", example="25")
    tables: str | None = _optional("folder of latency tables; the run's own if left out", example='"latency_tables"')


class SearchConfig(_Section):
    """How networks are looked for and ranked."""

    sampler: str = Field(default="nsga2", description="nsga2, nsga3, tpe, random, ...")
    n_trials: Count = Field(default=200, description="networks whose accuracy is measured")
    population_size: Annotated[int, Field(ge=2)] = Field(default=32, description="of evolutionary samplers")
    seed: Natural = Field(default=0, description="of the sampler")
    validation_samples: Count | None = _optional("images that rank a network; all if left out", example="2000")
    recalibration_samples: Count = Field(default=512, description="training images for BatchNorm statistics")
    calibration_samples: Count = Field(default=256, description="training images for int8 ranges")


class LimitsConfig(_Section):
    """What a network must keep: each line is a `<=`; none is needed."""

    latency_ms: Positive | None = _optional("at batch 1", example="2.0")
    latency_fraction: Positive | None = _optional("of the largest fp32 network's latency", example="0.5")
    size_bytes: Positive | None = _optional("of the file", example="300e3")
    macs: Positive | None = _optional("multiply-accumulates an image", example="5e6")
    parameters: Positive | None = _optional("weights and biases", example="200e3")
    peak_memory_bytes: Positive | None = _optional("of the activations, computed", example="100e3")
    memory_bytes: Positive | None = _optional("arena or SRAM, where the device tells", example="200e3")
    energy_mj: Positive | None = _optional("of one run, where the device has a meter or stated power", example="1.5")

    @model_validator(mode="after")
    def _one_latency(self) -> Self:
        if self.latency_ms is not None and self.latency_fraction is not None:
            raise ValueError("give latency_ms or latency_fraction, not both")
        return self

    def absolute(self) -> dict[str, float]:
        """Metric -> limit, without `latency_fraction`, which needs a measured device."""
        return {k: float(v) for k, v in self.model_dump(exclude={"latency_fraction"}, exclude_none=True).items()}


class DeployConfig(_Section):
    """How the chosen network becomes a file."""

    finetune_steps: Natural = Field(default=0, description="quantization-aware steps before export")
    finetune_learning_rate: Positive = Field(default=0.02, description="at its start; a cosine follows")
    candidates: Count = Field(default=5, description="networks tried at most until one keeps its limits when measured")
    test_samples: Count | None = _optional("test images run on the device; all if left out", example="2000")


class OutputConfig(_Section):
    """Where results are kept; a run goes on from what it finds there."""

    folder: str = Field(default="runs/default", min_length=1, description="made if missing")


class Config(_Section):
    """Everything a run needs to know; every section and every key may be left out."""

    data: DataConfig = DataConfig()
    space: SpaceConfig = SpaceConfig()
    train: TrainConfig = TrainConfig()
    device: DeviceConfig = DeviceConfig()
    profile: ProfileConfig = ProfileConfig()
    search: SearchConfig = SearchConfig()
    limits: LimitsConfig = LimitsConfig()
    deploy: DeployConfig = DeployConfig()
    output: OutputConfig = OutputConfig()

    @classmethod
    def default_digits(cls) -> Config:
        """The quick start: digits, int8, within half the latency of the largest fp32 network."""
        return cls(
            data=DataConfig(validation_fraction=0.2),  # a tenth is 144 images, too few to tell networks apart
            space=SpaceConfig(resolutions=(16,), precisions=("int8",)),
            train=TrainConfig(steps=600),
            search=SearchConfig(n_trials=100),
            limits=LimitsConfig(latency_fraction=0.5),
            deploy=DeployConfig(finetune_steps=60),
            output=OutputConfig(folder="runs/digits"),
        )

    def to_toml(self) -> str:
        """The configuration as TOML with comments; the inverse of `parse_config`."""
        sections = [
            format_section(
                name, _entries(getattr(self, name)), comment=(type(getattr(self, name)).__doc__ or "").strip()
            )
            for name in type(self).model_fields
        ]
        return "\n".join(["# A run of hwnas. Start it, or go on with it: hwnas run THIS_FILE\n", *sections])

    def replaced(self, values: Mapping[str, object]) -> Config:
        """The configuration with some values changed.

        Args:
            values: "section.key" -> value as TOML would give it; None removes the key.

        Raises:
            ConfigError: an unknown key or a value that is not allowed.
        """
        document = self.model_dump(exclude_none=True)
        for path, value in values.items():
            section, _, key = path.partition(".")
            if not key:
                raise ConfigError(f"{path!r} does not name a value; give SECTION.KEY, for example train.steps")
            document.setdefault(section, {})
            if value is None:
                document[section].pop(key, None)
            else:
                document[section][key] = value
        return _validated(document, where="the given values")

    def with_limits(self, limits: Mapping[str, float]) -> Config:
        """The configuration with these limits instead of its own.

        Raises:
            ConfigError: an unknown limit, or one that is not above zero.
        """
        document = self.model_dump(exclude_none=True)
        document["limits"] = dict(limits)
        return _validated(document, where="the given limits")


def _entries(section: BaseModel) -> Iterable[Entry]:
    for name, field in type(section).model_fields.items():
        example = str(field.examples[0]) if field.examples else ""
        yield Entry(key=name, value=getattr(section, name), comment=field.description or "", example=example)


def load_config(path: Path | str) -> Config:
    """Read a configuration.

    Args:
        path: of a TOML file, or of a run's folder: that run's `config.toml`, with the folder as it is
            named here as output, so that a run may be moved.

    Raises:
        ConfigError: the file is missing, not TOML, or has an unknown key or a value that is not allowed.
        UnknownNameError: a preset, strategy or sampler that nobody registered.
    """
    path = Path(path)
    file = path / CONFIG_FILE if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as e:
        hint = "; is this the folder of a run?" if path.is_dir() else "; `hwnas run` without one does the digits"
        raise ConfigError(f"there is no configuration {file}{hint}") from e
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"the configuration {file} cannot be read: {e}") from e
    config = parse_config(text, where=str(file))
    if path.is_dir():
        config = config.model_copy(update={"output": OutputConfig(folder=str(path))})
    return config


def parse_config(text: str, *, where: str = "the configuration") -> Config:
    """A configuration from TOML.

    Args:
        text: the TOML.
        where: it came from; named in errors.

    Raises:
        ConfigError: see `load_config`.
        UnknownNameError: see `load_config`.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{where} is not TOML: {e}") from e
    return _validated(document, where=where)


def _validated(document: Mapping[str, object], *, where: str) -> Config:
    try:
        config = Config.model_validate(document)
    except ValidationError as e:
        places = [error["loc"] for error in e.errors()]
        # a list is also "too short" when its items are wrong: only the innermost error says something
        inner = [x for x in e.errors() if not any(p[: len(x["loc"])] == x["loc"] != p for p in places)]
        raise ConfigError("; ".join(map(_describe, inner)) + f" (in {where})") from e
    for kind, what, name in (
        ("spaces", "space", config.space.preset),
        ("strategies", "training strategy", config.train.strategy),
        ("samplers", "sampler", config.search.sampler),
    ):
        if name not in registry.names(kind):
            raise UnknownNameError(what, name, registry.names(kind))
    return config


def _describe(error: Any) -> str:
    """One of pydantic's errors in our words: what was given, what is allowed."""
    location = [str(part) for part in error["loc"]]
    name, kind = ".".join(location), error["type"]
    if kind == "extra_forbidden":
        section: type[BaseModel] = type(getattr(Config(), location[0])) if len(location) > 1 else Config
        known = list(section.model_fields)
        near = difflib.get_close_matches(location[-1], known, n=1)
        return (
            f"unknown {'key' if len(location) > 1 else 'section'} {name!r}"
            + (f", did you mean {near[0]!r}?" if near else ";")
            + f" known: {', '.join(known)}"
        )
    if kind == "value_error":
        return f"{name}: {error['ctx']['error']}"
    own_words = {
        "tuple_type": "should be a list",
        "too_short": "should not be empty",
        "model_type": f"is a section: write [{name}] and its keys below",
        "int_type": "should be a whole number",
        "int_from_float": "should be a whole number",
    }
    message = own_words.get(kind) or error["msg"].removeprefix("Input ").replace("valid ", "")
    return f"{name} is {error['input']!r}, but {message}"
