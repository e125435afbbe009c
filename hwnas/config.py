"""The configuration of a run: TOML in, validated values out, and back.

An unknown key is an error that names the known ones. A run may be for several devices and budgets; each pair is a
part of it, a configuration of its own (`Config.part`). Knows registered names, not what stands behind them: never
torch, data, spaces or devices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, Field, PrivateAttr, ValidationError, model_validator

from hwnas import registry
from hwnas._config_errors import in_our_words
from hwnas._config_model import (
    ElasticConfig,
    ModelConfig,
    is_onnx,
    is_source,
    model_name,
    refuse_without_network,
)
from hwnas._config_sections import (
    MOST_EXPERTS,
    ZOO,
    BudgetConfig,
    DataConfig,
    DeployConfig,
    DeviceConfig,
    LimitsConfig,
    OutputConfig,
    ProfileConfig,
    SearchConfig,
    SpaceConfig,
    TaskConfig,
    TrainConfig,
    device_name,
    is_definition,
    is_function,
    source_of_supernet,
)
from hwnas._config_values import ConfigSection
from hwnas._places import user_path
from hwnas._toml import Entry, format_section, parse_toml, read_toml
from hwnas.allowed import AGREEMENT, Limits
from hwnas.errors import ConfigError, UnknownNameError
from hwnas.precision_data import INTEGERS

__all__ = [
    "CONFIG_FILE",
    "MOST_EXPERTS",
    "BudgetConfig",
    "Config",
    "DataConfig",
    "DeployConfig",
    "DeviceConfig",
    "ElasticConfig",
    "LimitsConfig",
    "ModelConfig",
    "OutputConfig",
    "ProfileConfig",
    "SearchConfig",
    "SpaceConfig",
    "TaskConfig",
    "TrainConfig",
    "device_name",
    "is_definition",
    "is_function",
    "is_onnx",
    "is_source",
    "load_config",
    "model_name",
    "parse_config",
]

CONFIG_FILE = "config.toml"
_OF_ANY_NETWORK = {"precisions", "resolutions", "kernel_sizes"}  # keys of [space] that are for one's own network too
_OF_ANY_SUPERNET = {*_OF_ANY_NETWORK, "width_mults"}  # and for one that is trained
_SPACE_OF_A_SUPERNET = "Fewer of the supernet's networks to choose from, and in which precisions."
_SPACE_OF_ONES_OWN = "Fewer parts of the network to choose from, and in which precisions."
_QUICK_START = "zoo:cifar10-mobilenet"
_NO_BUDGETS = """\
# More than one budget: a table for each, see [limits]; with `device` for one device alone.
# [[budgets]]
# latency_fraction = 0.3  # for example
"""


class Config(ConfigSection):
    """Everything a run needs to know; every section and every key may be left out."""

    data: DataConfig = DataConfig()
    task: TaskConfig = TaskConfig()
    model: ModelConfig | None = None
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

    @model_validator(mode="before")
    @classmethod
    def _images_of_supernet(cls, values: object) -> object:
        """A trained supernet brings images along, where no others are named."""
        if not isinstance(values, Mapping):
            return values
        data, train = values.get("data", {}), values.get("train", {})
        supernet = train.supernet if isinstance(train, TrainConfig) else _value(train, "supernet")
        if not isinstance(supernet, str) or not supernet.strip():
            return values
        source = source_of_supernet(supernet)
        if isinstance(data, DataConfig) and "source" not in data.model_fields_set:
            return {**values, "data": data.model_copy(update={"source": source})}
        if isinstance(data, Mapping) and "source" not in data:
            return {**values, "data": {**data, "source": source}}
        return values

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        for where, limits in (("limits", self.limits), *(("budgets", b) for b in self.budgets)):
            limits.refuse_other_than(self.ranked_by, where=where)
        known = [device_name(n) for n in self.device.all]
        for budget in self.budgets:
            if budget.device is not None and device_name(budget.device) not in known:
                raise ValueError(f"a budget is for device {budget.device!r}; the run's: {', '.join(known)}")
        return self

    @model_validator(mode="after")
    def _one_source_of_networks(self) -> Self:
        if self.model is None:
            refuse_without_network(self.data, self.train)
        given = {key for key in self.space.model_fields_set if getattr(self.space, key) is not None}
        if self.train.supernet is not None:
            if self.model is not None:
                raise ValueError("train.supernet has networks, and so has [model]; leave out one of the two")
            if of_preset := sorted(given - _OF_ANY_SUPERNET):
                raise ValueError(
                    f"space.{of_preset[0]} is of a preset, and train.supernet brings the space that it was trained on; "
                    "leave out one of the two"
                )
        if self.model is None:
            return self
        if self.train.start_from is not None:
            raise ValueError("train.start_from is for a preset; a supernet of [model] begins with the network itself")
        if self.train.experts > 1 or self.train.split_fraction:
            key = "experts" if self.train.experts > 1 else "split_fraction"
            raise ValueError(
                f"train.{key} is for a preset; the weights of [model] are those of the network; leave it out"
            )
        if of_preset := sorted(given - _OF_ANY_NETWORK):
            raise ValueError(
                f"space.{of_preset[0]} is of a preset, and with [model] the networks are parts of your own; leave out "
                "one of the two. What may be smaller is said in [model.elastic]"
            )
        return self

    @property
    def ranked_by(self) -> str:
        """What networks are evaluated for: their task's metric; where a network's answers are the labels, agreement."""
        return AGREEMENT if self.data.labels == "network" else self.task.metric

    # ------------------------------------------------------------ several devices, several budgets

    @property
    def is_fleet(self) -> bool:
        """Whether the run is for several devices or budgets, and so consists of parts."""
        return self.device.names is not None or bool(self.budgets)

    @property
    def single(self) -> Config:
        """The configuration itself, if it is for one device and budget.

        Raises:
            ConfigError: it is for several.
        """
        if self.is_fleet:
            raise ConfigError(
                f"the run is for several devices or budgets, of {', '.join(self.device.all)}; "
                "take one with `Config.part`, or the stages of hwnas.fleet"
            )
        return self

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
        return tuple(_join(self.limits, budget) for budget in mine)

    def part(self, device: str, limits: Limits | None = None) -> Config:
        """The run for one of its devices and one budget.

        Args:
            device: one of `device.all`.
            limits: key of [limits] -> value; None for those of the run.
        """
        chosen = self.model_copy(
            update={
                "device": DeviceConfig(name=device, threads=self.device.threads),
                "limits": self.limits if limits is None else LimitsConfig.model_validate(dict(limits)),
                "budgets": (),
            }
        )
        chosen._whole = self.whole
        return chosen

    def is_for(self, device: str) -> bool:
        """Whether a device, by name or path, is one of the run's."""
        return any(device in (name, device_name(name)) for name in self.device.all)

    def part_for(self, device: str = "") -> Config:
        """The run for one device, of its own or another, within its general limits.

        Args:
            device: a name or the path of a description; empty: the run's only device.

        Raises:
            ConfigError: it is empty, and the run is for several.
        """
        if not device and len(self.device.all) > 1:
            raise ConfigError(f"the run is for several devices; give --device {' or '.join(self.device.all)}")
        entries = [name for name in self.device.all if device in ("", name, device_name(name))]
        return self.part(next(iter(entries), device))

    def beside(self, device: str, precisions: Sequence[str]) -> Config:
        """The run on a device of which only the costs are asked for: it has no limits of its own.

        Args:
            device: a name or the path of a description.
            precisions: that its networks may have, as they are offered.
        """
        entry = next((name for name in self.whole.device.all if device in (name, device_name(name))), device)
        chosen = self.model_copy(
            update={
                "device": DeviceConfig(name=entry),
                "limits": LimitsConfig(),
                "budgets": (),
                "space": self.space.model_copy(update={"precisions": tuple(precisions)}),
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
    def quick_start(cls) -> Config:
        """A supernet that ships: int8, within half the latency of the largest fp32 network."""
        return cls.of_supernet(_QUICK_START)

    @classmethod
    def of_supernet(cls, named: str) -> Config:
        """A trained supernet, in int8, within half the latency of the largest fp32 network.

        Args:
            named: as in train.supernet.
        """
        name = user_path(named.removeprefix(ZOO)).resolve().name
        return cls(
            space=SpaceConfig(precisions=(INTEGERS,)),
            train=TrainConfig(supernet=named),
            search=SearchConfig(n_trials=60),
            limits=LimitsConfig(latency_fraction=0.5),
            output=OutputConfig(folder=f"runs/{name}"),
        )

    @classmethod
    def default_digits(cls) -> Config:
        """A training that takes seconds: digits, int8, within half the latency of the largest fp32 network."""
        return cls(
            data=DataConfig(validation_fraction=0.2),  # a tenth is 144 images, too few to tell networks apart
            space=SpaceConfig(resolutions=(16,), precisions=(INTEGERS,)),
            train=TrainConfig(steps=600),
            search=SearchConfig(n_trials=100),
            limits=LimitsConfig(latency_fraction=0.5),
            deploy=DeployConfig(finetune_steps=60),
            output=OutputConfig(folder="runs/digits"),
        )

    def to_toml(self) -> str:
        """The configuration as TOML with comments; the inverse of `parse_config`."""
        # with a network of one's own or a trained supernet, what is of a preset has no place in [space]
        without: Iterable[str] = ()
        comments: dict[str, str] = {}
        if self.model is not None:
            without, comments = SpaceConfig.model_fields.keys() - _OF_ANY_NETWORK, {"space": _SPACE_OF_ONES_OWN}
        elif self.train.supernet is not None:
            without, comments = SpaceConfig.model_fields.keys() - _OF_ANY_SUPERNET, {"space": _SPACE_OF_A_SUPERNET}
        sections = [
            format_section(name, _entries(section, without=without), comment=comments.get(name, _summary(section)))
            for name, section in self._sections()
        ]
        budgets = [
            format_section("[budgets]", (e for e in _entries(b) if e.value is not None), comment=_summary(b))
            for b in self.budgets
        ]
        heading = "# A run of hwnas. Start it, or go on with it: hwnas run THIS_FILE\n"
        return "\n".join([heading, *sections, *(budgets or [_NO_BUDGETS])])

    def _sections(self) -> Iterator[tuple[str, BaseModel]]:
        """Those that are written, by name, and those within them after them."""
        for name, section in self:
            if isinstance(section, BaseModel):
                yield name, section
                yield from ((f"{name}.{key}", below) for key, below in section if isinstance(below, ConfigSection))

    def _document(self) -> dict[str, Any]:
        """Everything that is set, as a file would have it; a preset and a source of images only if they were named."""
        found = self.model_dump(exclude_none=True)
        for section, key in (("space", "preset"), ("data", "source")):
            if key not in getattr(self, section).model_fields_set:
                del found[section][key]
        if self.train.supernet is not None and found["data"].get("source") == source_of_supernet(self.train.supernet):
            del found["data"]["source"]  # it goes with the supernet
        return found

    def replaced(self, values: Mapping[str, object]) -> Config:
        """The configuration with some values changed. Of a part it makes a run of its own: change the whole instead.

        Args:
            values: "section.key" or "budgets" -> value as TOML would give it; None removes the key.

        Raises:
            ConfigError: an unknown key or a value that is not allowed.
        """
        # by way of the document: `model_copy` would check no value, and a key without one must be as if absent
        document = self._document()
        for path, value in values.items():
            section, _, key = path.partition(".")
            if path == "budgets":
                document["budgets"] = () if value is None else value
                continue
            if not key:
                raise ConfigError(f"{path!r} does not name a value; give SECTION.KEY, for example train.steps")
            place = document.setdefault(section, {})
            if section == "model" and key.startswith("elastic."):
                place, key = place.setdefault("elastic", {}), key.removeprefix("elastic.")
            if value is None:
                place.pop(key, None)
            else:
                place[key] = value
        return _validate(document, where="the given values")

    def with_limits(self, limits: Limits) -> Config:
        """The configuration with these limits instead of its own limits and budgets.

        Raises:
            ConfigError: an unknown limit, or one that is not above zero.
        """
        document = {**self._document(), "limits": dict(limits)}
        del document["budgets"]
        return _validate(document, where="the given limits")


def _value(section: object, key: str) -> object:
    return section.get(key) if isinstance(section, Mapping) else None


def _join(limits: LimitsConfig, budget: LimitsConfig) -> LimitsConfig:
    """The limits with those of a budget in their place; one latency takes the place of the other."""
    mine, general = budget.given(), limits.given()
    latencies = {"latency_ms", "latency_fraction"}
    if latencies & set(mine):
        general = {k: v for k, v in general.items() if k not in latencies}
    return LimitsConfig.model_validate(general | mine)


def _summary(section: BaseModel) -> str:
    return (type(section).__doc__ or "").strip().partition("\n")[0]


def _entries(section: BaseModel, *, without: Iterable[str] = ()) -> Iterator[Entry]:
    """The keys of a section, but for the sections within it."""
    values = section.model_dump(exclude_none=True)
    for name, field in type(section).model_fields.items():
        if name in without or isinstance(getattr(section, name), ConfigSection):
            continue
        example = str(field.examples[0]) if field.examples else ""
        value = values.get(name)
        yield Entry(key=name, value=None if value == {} else value, comment=field.description or "", example=example)


def load_config(path: Path | str) -> Config:
    """Read a configuration.

    Args:
        path: of a TOML file, or of a run's folder: that run's `config.toml`, with the folder as it is
            named here as output, so that a run may be moved.

    Raises:
        ConfigError: the file is missing, not TOML, or has an unknown key or a value that is not allowed.
        UnknownNameError: a preset, strategy or sampler that nobody registered.
    """
    path = user_path(path)
    is_run = path.is_dir()
    file = path / CONFIG_FILE if is_run else path
    if not file.exists():
        hint = "; is this the folder of a run?" if is_run else "; `hwnas run` without one takes a supernet that ships"
        raise ConfigError(f"there is no configuration {file}{hint}")
    config = _validate(read_toml(file, what="configuration"), where=str(file))
    return config.replaced({"output.folder": str(path)}) if is_run else config


def parse_config(text: str, *, where: str = "the configuration") -> Config:
    """A configuration from TOML.

    Args:
        text: the TOML.
        where: it came from; named in errors.

    Raises:
        ConfigError: see `load_config`.
        UnknownNameError: see `load_config`.
    """
    return _validate(parse_toml(text, where=where), where=where)


def _validate(document: Mapping[str, object], *, where: str) -> Config:
    try:
        config = Config.model_validate(document)
    except ValidationError as e:
        raise ConfigError(f"{in_our_words(e, Config)} (in {where})") from e
    for kind, what, name in (
        ("spaces", "space", config.space.preset),
        ("strategies", "training strategy", config.train.strategy),
        ("samplers", "sampler", config.search.sampler),
        ("tasks", "task", config.task.name),
    ):
        if kind in ("spaces", "tasks") and is_function(name):
            continue
        if kind == "spaces" and is_definition(name):
            continue
        if name not in registry.names(kind):
            raise UnknownNameError(what, name, registry.names(kind))
    return config
