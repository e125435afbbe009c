"""The configuration of a run: TOML in, validated values out, and back.

An unknown key is an error that names the known ones. A run may be for several devices and budgets; each pair is a
part of it, a configuration of its own (`Config.part`). Knows registered names, not what stands behind them: never
torch, data, spaces or devices.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from hwnas import registry
from hwnas._toml import Entry, format_section
from hwnas.errors import ConfigError, UnknownNameError

CONFIG_FILE = "config.toml"
_DEFAULT_EPOCHS = 20.0
_DEFAULT_DEVICE = "cpu"
_NO_BUDGETS = """\
# More than one budget: a table for each, see [limits]; with `device` for one device alone.
# [[budgets]]
# latency_fraction = 0.3  # for example
"""

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


def device_name(name_or_path: str) -> str:
    """What a device is called whose description is named so: a path's file name without its ending."""
    is_path = name_or_path.endswith(".toml") or len(Path(name_or_path).parts) > 1
    return Path(name_or_path).stem if is_path else name_or_path


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
    kernel_sizes: tuple[Count, ...] | None = _list("to search among; all are trained", example="[3, 5]")
    width_mults: tuple[Positive, ...] | None = _list("multipliers of all channels", example="[1.0]")
    activation: str | None = _optional("everywhere; relu6 suits int8", example='"relu6"')
    channel_divisor: Count | None = _optional(
        "channels are multiples of it; some int8 kernels want 16 (`hwnas devices audit` tells)", example="16"
    )
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
    """Where the network will run: see `hwnas devices`, or name the path of a description (.toml)."""

    name: str | None = _optional(f"give name or names; {_DEFAULT_DEVICE} if both are left out", example='"cpu"')
    names: tuple[str, ...] | None = _list("several devices, one supernet", example='["cpu", "boards/my-pi.toml"]')
    threads: Count | None = _optional("of the runtime; as described if left out", example="1")

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
    latency_fraction: Positive | None = _optional(
        "of the largest network's latency at the widest precision", example="0.5"
    )
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

    def given(self) -> dict[str, float]:
        """Key -> value of what was said, as in the file."""
        return {k: float(v) for k in LimitsConfig.model_fields if (v := getattr(self, k)) is not None}

    def absolute(self) -> dict[str, float]:
        """Metric -> limit, without `latency_fraction`, which needs a measured device."""
        return {k: v for k, v in self.given().items() if k != "latency_fraction"}


class BudgetConfig(LimitsConfig):
    """A deployment on each device: what is said here takes the place of the same in [limits].

    There may be any number of [[budgets]] tables; without one, [limits] is the only budget.
    """

    device: str | None = _optional("the only one it is for; all if left out", example='"my-pi"')

    @model_validator(mode="after")
    def _some_limit(self) -> Self:
        if not self.given():
            raise ValueError(f"a budget needs a limit: {', '.join(LimitsConfig.model_fields)}")
        return self


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
    budgets: tuple[BudgetConfig, ...] = Field(default=(), strict=False)

    _whole: Config | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _budgets_fit(self) -> Self:
        known = [device_name(n) for n in self.device.all]
        for budget in self.budgets:
            if budget.device is not None and device_name(budget.device) not in known:
                raise ValueError(f"a budget is for device {budget.device!r}; the run's: {', '.join(known)}")
        return self

    # ------------------------------------------------------------ several devices, several budgets

    @property
    def is_fleet(self) -> bool:
        """Whether the run is for several devices or budgets, and so consists of parts."""
        return self.device.names is not None or bool(self.budgets)

    @property
    def whole(self) -> Config:
        """The run this is a part of: what is kept in its folder. A run that is no part is its own."""
        return self._whole or self

    def budgets_of(self, device: str) -> tuple[LimitsConfig, ...]:
        """The budgets of one device, as complete limits, in the order of the file; at least one.

        Args:
            device: one of `device.all`.
        """
        mine = [b for b in self.budgets if b.device is None or device_name(b.device) == device_name(device)]
        if not mine:
            return (self.limits,)
        return tuple(_joined(self.limits, budget) for budget in mine)

    def part(self, device: str, limits: Mapping[str, float] | None = None) -> Config:
        """The run for one of its devices and one budget.

        Args:
            device: one of `device.all`.
            limits: key of [limits] -> value; None for those of the run.
        """
        chosen = self.model_copy(
            update={
                "device": DeviceConfig(name=device, threads=self.device.threads),
                "limits": self.limits if limits is None else LimitsConfig(**limits),
                "budgets": (),
            }
        )
        chosen._whole = self.whole
        return chosen

    def only(self, device: str) -> Config:
        """The run for one of its devices, with all budgets of that device.

        Args:
            device: the name of one of the run's devices, or its path. In a run for one device, that one.

        Raises:
            UnknownNameError: the run is not for this device; lists those it is for.
        """
        for name in self.device.all:
            if device in (name, device_name(name)):
                break
        else:
            raise UnknownNameError("device of this run", device, map(device_name, self.device.all))
        if self.device.names is None:
            return self
        budgets = tuple(b for b in self.budgets if b.device is None or device_name(b.device) == device_name(name))
        chosen = self.model_copy(
            update={"device": DeviceConfig(names=(name,), threads=self.device.threads), "budgets": budgets}
        )
        chosen._whole = self.whole
        return chosen

    # ------------------------------------------------------------ TOML

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
            format_section(name, _entries(section), comment=_summary_line(type(section)))
            for name, section in self
            if name != "budgets"
        ]
        budgets = [
            format_section(
                "[budgets]", (e for e in _entries(b) if e.value is not None), comment=_summary_line(BudgetConfig)
            )
            for b in self.budgets
        ]
        heading = "# A run of hwnas. Start it, or go on with it: hwnas run THIS_FILE\n"
        return "\n".join([heading, *sections, *(budgets or [_NO_BUDGETS])])

    def replaced(self, values: Mapping[str, object]) -> Config:
        """The configuration with some values changed. Of a part it makes a run of its own: change the whole instead.

        Args:
            values: "section.key" or "budgets" -> value as TOML would give it; None removes the key.

        Raises:
            ConfigError: an unknown key or a value that is not allowed.
        """
        document = self.model_dump(exclude_none=True)
        for path, value in values.items():
            section, _, key = path.partition(".")
            if path == "budgets":
                document["budgets"] = () if value is None else value
                continue
            if not key:
                raise ConfigError(f"{path!r} does not name a value; give SECTION.KEY, for example train.steps")
            document.setdefault(section, {})
            if value is None:
                document[section].pop(key, None)
            else:
                document[section][key] = value
        return _validated(document, where="the given values")

    def with_limits(self, limits: Mapping[str, float]) -> Config:
        """The configuration with these limits instead of its own limits and budgets.

        Raises:
            ConfigError: an unknown limit, or one that is not above zero.
        """
        document = self.model_dump(exclude_none=True, exclude={"budgets"})
        document["limits"] = dict(limits)
        return _validated(document, where="the given limits")


def _joined(limits: LimitsConfig, budget: LimitsConfig) -> LimitsConfig:
    """The limits with those of a budget in their place; one latency takes the place of the other."""
    mine, general = budget.given(), limits.given()
    latencies = {"latency_ms", "latency_fraction"}
    if latencies & set(mine):
        general = {k: v for k, v in general.items() if k not in latencies}
    return LimitsConfig(**(general | mine))


def _summary_line(section: type[BaseModel]) -> str:
    return (section.__doc__ or "").strip().partition("\n")[0]


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
        section: type[BaseModel] = Config
        if len(location) > 1:
            section = BudgetConfig if location[0] == "budgets" else type(getattr(Config(), location[0]))
        known = list(section.model_fields)
        near = difflib.get_close_matches(location[-1], known, n=1)
        return (
            f"unknown {'key' if len(location) > 1 else 'section'} {name!r}"
            + (f", did you mean {near[0]!r}?" if near else ";")
            + f" known: {', '.join(known)}"
        )
    if kind == "value_error":
        return f"{name}: {error['ctx']['error']}" if name else str(error["ctx"]["error"])
    if location == ["budgets"]:
        return f"budgets is {error['input']!r}, but should be tables: write [[budgets]] and its keys below, for each"
    own_words = {
        "tuple_type": "should be a list",
        "too_short": "should not be empty",
        "model_type": f"is a section: write [{name}] and its keys below",
        "int_type": "should be a whole number",
        "int_from_float": "should be a whole number",
    }
    message = own_words.get(kind) or error["msg"].removeprefix("Input ").replace("valid ", "")
    return f"{name} is {error['input']!r}, but {message}"
