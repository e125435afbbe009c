"""The configuration: what is read, what is refused and how, and the way back to TOML."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from hwnas.allowed import Between
from hwnas.config import (
    BudgetConfig,
    Config,
    DataConfig,
    DeviceConfig,
    ElasticConfig,
    LimitsConfig,
    ModelConfig,
    OutputConfig,
    SpaceConfig,
    TrainConfig,
    load_config,
    parse_config,
)
from hwnas.errors import ConfigError, UnknownNameError
from hwnas.given_inputs import InputShape, parse_inputs
from hwnas.precisions import KNOWN

MODEL = {"source": "python:nets:make", "input": [3, 224, 224]}


def sections() -> Iterator[tuple[str, BaseModel]]:
    for name, section in Config(model=ModelConfig.model_validate(MODEL)):
        if isinstance(section, BaseModel):  # [[budgets]] are tables, none by default
            yield name, section
            yield from ((f"{name}.{key}", below) for key, below in section if isinstance(below, BaseModel))


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, where="my.toml")
    return str(caught.value)


def test_an_empty_file_is_the_default() -> None:
    assert parse_config("") == Config()


def test_a_value_is_read_and_the_others_stay() -> None:
    config = parse_config("[train]\nbatch_size = 64\n[limits]\nlatency_ms = 2\n")
    assert config == Config(train=TrainConfig(batch_size=64), limits=LimitsConfig(latency_ms=2.0))


def test_an_unknown_key_names_the_nearest_and_the_known() -> None:
    message = refused("[train]\nbatch_siez = 64")
    assert "unknown key 'train.batch_siez', did you mean 'batch_size'? known: supernet, " in message
    assert message.endswith("(in my.toml)")


def test_an_unknown_section_names_the_nearest_and_the_known() -> None:
    assert "unknown section 'trian', did you mean 'train'? known: data, task, model, space" in refused("[trian]\nx = 1")


def test_every_error_of_a_file_is_reported_at_once() -> None:
    message = refused("[train]\nbatch_size = 0\nlearning_rate = -1.0\n[serach]\n")
    assert all(name in message for name in ("train.batch_size", "train.learning_rate", "serach"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[train]\nsteps = '5'", "train.steps is '5', but should be a whole number"),
        ("[train]\nsteps = 2.5", "train.steps is 2.5, but should be a whole number"),
        ("[train]\nsteps = 0", "train.steps is 0, which is for a network that is given trained"),
        (
            "[train]\nbatch_norm = 'frozen'",
            "train.batch_norm is 'frozen', which is for a network that is given trained",
        ),
        (
            "[train]\nfeature_weight = 0.5",
            "train.feature_weight is 0.5, which is for a network that is given trained",
        ),
        ("[train]\nlearning_rate = nan", "should be a finite number"),
        ("[train]\nsteps = 1\nepochs = 1", "train: give steps or epochs, not both"),
        (
            "[limits]\nlatency_fraction = 50",
            "0.5 means half of it; did you mean 0.5 (50 %)? For a limit above 2 times give latency_ms",
        ),
        (
            "[[budgets]]\nlatency_fraction = 30",
            "budgets.0.latency_fraction: 30 means 30 times the latency of the largest",
        ),
        ("[limits]\nlatency_ms = 1\nlatency_fraction = 0.5", "limits: give latency_ms or latency_fraction, not both"),
        ("[limits]\nlatency_ms = 0", "should be greater than 0"),
        ("[limits]\nlatency_ms = { at_least = 0 }", "should be greater than 0"),
        ("[limits]\nlatency_ms = { at_least = 3, at_most = 2 }", "limits.latency_ms: { at_least = 3, at_most = 2 } al"),
        ("[limits]\nlatency_ms = { min = 3 }", "limits.latency_ms is {'min': 3}, but has at_least, at_most or both"),
        ("[limits]\naccuracy = 90", "limits.accuracy is 90.0, but should be a share of 1: 0.9 means 90 %"),
        ("[data]\ntest_fraction = 1.0", "should be less than 1"),
        ("[space]\nresolutions = 16", "space.resolutions is 16, but should be a list"),
        ("[space]\nresolutions = []", "should not be empty"),
        ("[space]\nse = 1", "should be a boolean"),
        ("train = 3", "write [train] and its keys below"),
        ("[device]\nname = 'a'\nnames = ['b']", "device: give name or names, not both"),
        ("[device]\nnames = []", "device.names is [], but should not be empty"),
        ("[device]\nnames = ['pi', 'boards/pi.toml']", "device: names has 'pi' twice"),
        ("[[budgets]]\ndevice = 'pi'\nlatency_ms = 1", "a budget is for device 'pi'; the run's: cpu"),
        ("[[budgets]]\ndevice = 'cpu'", "budgets.0: a budget needs a limit: latency_ms, "),
        ("[[budgets]]\nlatency_ms = 1\nlatency_fraction = 1", "budgets.0: give latency_ms or latency_fraction"),
        ("[budgets]\nlatency_ms = 1", "should be tables: for each, write [[budgets]]"),
        ("[train", "my.toml is not TOML"),
        ("[train]\nseed = 18446744073709551616", "train.seed is 18446744073709551616, but should be less than"),
        ("[data]\nseed = 9223372036854775808", "data.seed is 9223372036854775808, but should be less than"),
        ("[train]\nsteps = 99999999999999999999999", "should be less than or equal to 1000000000"),
        ("[train]\nepochs = 1e308", "should be less than or equal to 1000000"),
        ("[train]\nsteps = " + "9" * 5000, "my.toml is not TOML that can be read"),
        ("[train]\nsteps = 0x" + "f" * 5000, "train.steps is a value too large to show, but should be"),
        ("x = " + "[" * 9999, "my.toml is not TOML that can be read"),
        ("[output]\nfolder = ''", "output.folder is '', but should not be blank"),
        ("[output]\nfolder = ' '", "output.folder is ' ', but should not be blank"),
        ('[output]\nfolder = "a\\u0000b"', "output.folder is 'a\\x00b', but should have no NUL character"),
        ("[data]\nsource = ''", "data.source is '', but should not be blank"),
        ("[profile]\ntables = ''", "profile.tables is '', but should not be blank"),
        ("[device]\nname = ''", "device.name is '', but should not be blank"),
        ("[device]\nnames = ['cpu', '']", "device.names.1 is '', but should not be blank"),
        ("budgets = [3]", "budgets is 3, but should be tables"),
    ],
)
def test_a_wrong_value_is_shown_with_what_is_allowed(text: str, expected: str) -> None:
    assert expected in refused(text)


def test_a_wrong_item_of_a_list_is_reported_once() -> None:
    message = refused("[space]\nprecisions = ['fp8']")
    assert message == f"space.precisions.0 is 'fp8', but should be one of {', '.join(KNOWN)} (in my.toml)"


@pytest.mark.parametrize("text", ["[search]\nsampler = 'x'", "[space]\npreset = 'x'", "[train]\nstrategy = 'x'"])
def test_a_name_that_nobody_registered_lists_the_known(text: str) -> None:
    with pytest.raises(UnknownNameError, match="known: "):
        parse_config(text)


@pytest.mark.parametrize("name", KNOWN)
def test_a_space_may_have_any_precision_that_is_known(name: str) -> None:
    assert parse_config(f"[space]\nprecisions = ['{name}']").space.precisions == (name,)


# ---------------------------------------------------------------- files


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no configuration"):
        load_config(tmp_path / "none.toml")


def test_a_folder_that_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is this the folder of a run"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xff\xfe\x00", "it is UTF-16; save it as UTF-8"),
        ("[data]\nseed = 1".encode("utf-16"), "it is UTF-16; save it as UTF-8"),
        (b"[data]\nsource = 'npz:f\xfcr.npz'", "line 2 is not UTF-8; save it as UTF-8"),
        (b"#" * (1 << 20) + b"#", "it is larger than 1,048,576 bytes"),
    ],
)
def test_a_file_that_is_not_text_is_refused(content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        load_config(tmp_path / "c.toml")
    assert expected in str(caught.value)


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf[train]\nsteps = 7\n", b"[train]\r\nsteps = 7\r\n"])
def test_a_file_as_other_systems_save_it_is_read(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes(content)
    assert load_config(tmp_path / "c.toml").train.steps == 7


def test_a_folder_whose_name_is_not_utf_8_cannot_be_written_down_and_says_so() -> None:
    with pytest.raises(ConfigError, match="should be UTF-8: rename what it names"):
        Config().replaced({"output.folder": "caf\udce9"})


def test_a_path_with_a_nul_is_refused() -> None:
    with pytest.raises(ConfigError, match="it has a NUL character"):
        load_config("a\0b.toml")


def test_without_a_home_a_tilde_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    with pytest.raises(ConfigError, match="the home folder is not known; write the whole path"):
        load_config("~no-such-user/run.toml")


def test_a_run_that_was_moved_stays_in_its_new_folder(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(Config(output=OutputConfig(folder="old/place")).to_toml())
    assert load_config(tmp_path).output.folder == str(tmp_path)
    assert load_config(tmp_path / "config.toml").output.folder == "old/place"


# ---------------------------------------------------------------- the way back


def test_the_quick_start_survives_the_way_to_toml_and_back() -> None:
    assert parse_config(Config.default_digits().to_toml()) == Config.default_digits()
    assert parse_config(Config.quick_start().to_toml()) == Config.quick_start()


@given(
    text=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).filter(str.strip),
    number=st.floats(min_value=1e-300, allow_nan=False, allow_infinity=False),
    count=st.integers(1, 2**62),
    sides=st.none() | st.lists(st.integers(1, 512), min_size=1),
    devices=st.none() | st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), min_size=1, unique=True),
    flag=st.none() | st.booleans(),
)
@settings(deadline=None)
def test_any_configuration_survives_the_way_to_toml_and_back(
    text: str, number: float, count: int, sides: list[int] | None, devices: list[str] | None, flag: bool | None
) -> None:
    config = Config(
        data=DataConfig(source=text, seed=count),
        space=SpaceConfig(resolutions=tuple(sides) if sides else None, se=flag),
        device=DeviceConfig(names=tuple(devices) if devices else None),
        limits=LimitsConfig(macs=number),
        output=OutputConfig(folder=text),
        budgets=(BudgetConfig(macs=number), BudgetConfig(latency_ms=number, device=devices[0])) if devices else (),
    )
    assert parse_config(config.to_toml()) == config


def test_a_limit_has_one_side_or_both() -> None:
    text = "[limits]\nlatency_ms = { at_least = 2, at_most = 5 }\nmacs = { at_least = 1e6 }\naccuracy = 0.9\n"
    config = parse_config(text)
    assert config.limits.given() == {
        "latency_ms": Between(at_least=2.0, at_most=5.0),
        "macs": Between(at_least=1e6),
        "accuracy": 0.9,
    }
    assert parse_config(config.to_toml()) == config
    assert config.replaced({"train.steps": 3}).limits == config.limits
    assert Config().with_limits(config.limits.given()).limits == config.limits


def test_an_accuracy_is_limited_from_below() -> None:
    assert parse_config("[limits]\naccuracy = 0.9").limits.absolute() == {"accuracy": Between(at_least=0.9)}


@pytest.mark.parametrize("model", [None, ModelConfig.model_validate(MODEL)])
def test_every_key_is_written_with_a_comment(model: ModelConfig | None) -> None:
    text, _, _ = Config(model=model).to_toml().partition("# [[budgets]]")
    lines = [line for line in text.splitlines() if " = " in line]
    assert all("  # " in line for line in lines)
    counts = {name: len(type(section).model_fields) for name, section in sections()}
    if model is None:
        del counts["model"], counts["model.elastic"]
    else:
        # the section within it is no key; of [space] what is not of a preset is left
        counts["model"], counts["space"] = counts["model"] - 1, 3
    assert len(lines) == sum(counts.values())


def given_model(mean: list[float], std: list[float], shape: list[int]) -> ModelConfig:
    return ModelConfig.model_validate({**MODEL, "input": shape, "mean": mean, "std": std})


def test_one_mean_of_samples_that_are_no_images_is_that_of_every_channel() -> None:
    assert given_model([103.0], [2.0], [3, 8]).normalisation(3, are_images=False) == ((103.0,) * 3, (2.0,) * 3)
    several = given_model([1.0, 2.0], [1.0, 1.0], [2])
    assert several.normalisation(2, are_images=False) == ((1.0, 2.0), (1.0, 1.0))


@pytest.mark.parametrize(
    ("mean", "shape", "channels", "told"),
    [([103.9, 116.8, 123.7], [3, 8, 8], 3, "model.mean is of pixels from 0 to 1, and is (103.9, 116.8, 123.7)"),
     ([0.5], [3, 8, 8], 3, "have 1 and 1 numbers, and samples have 3 channels; give one each"),
     ([0.5, 0.5, 0.5], [3, 8, 8], 1, "have 3 and 3 numbers, and samples have 1 channels; give one each")],
)  # fmt: skip
def test_means_that_no_image_has_are_refused(mean: list[float], shape: list[int], channels: int, told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        given_model(mean, [2.0] * len(mean), shape).normalisation(channels, are_images=True)


TASK_OF = {
    "macro_f1": "multi_label",
    "r2": "regression",
    "mean_iou": "segmentation",
    "score": "python:my_package.tasks:make",
}


def test_every_example_is_a_value_that_is_allowed() -> None:
    beside = {"model.mean": {"std": [1.0, 1.0, 1.0]}, "model.std": {"mean": [0.5, 0.5, 0.5]}}
    for name, section in sections():
        for key, field in type(section).model_fields.items():
            for example in field.examples or ():
                given = tomllib.loads(f"{key} = {example}")
                if name == "model.elastic":
                    document = {"model": {**MODEL, "elastic": given}}
                elif name == "model":
                    document = {"model": {**MODEL, **given, **beside.get(f"{name}.{key}", {})}}
                else:
                    document = {name: given}
                if key == "agreement":  # with a given network
                    document |= {"model": MODEL, "data": {"labels": "network"}}
                if name == "limits":
                    document |= {"task": {"name": TASK_OF.get(key, "classification")}}
                Config.model_validate(document)


# ---------------------------------------------------------------- a network of one's own

MODEL_TOML = """
[model]
source = "python:my_package.models:make"
weights = "trained.safetensors"
input = [3, 224, 224]
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
[model.elastic]
width = [0.5, 1.0]
resolutions = [160, 192, 224]
fixed = ["head"]
"""


def test_without_a_network_of_ones_own_there_is_no_such_section() -> None:
    assert Config().model is None
    assert "[model" not in Config().to_toml()


def test_a_network_of_ones_own_is_read_and_written() -> None:
    config = parse_config(MODEL_TOML)
    assert config.model == ModelConfig(
        source="python:my_package.models:make",
        weights="trained.safetensors",
        input=(InputShape((3, 224, 224)),),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        elastic=ElasticConfig(width=(0.5, 1.0), residual=(1.0,), resolutions=(160, 192, 224), fixed=("head",)),
    )
    text = config.to_toml()
    assert "input = [3, 224, 224] " in text
    assert "preset =" not in text
    assert parse_config(text) == config


@pytest.mark.parametrize(
    ("written", "inputs"),
    [
        ("[3, 32, 32]", "3x32x32"),
        ("[[3, 32, 32]]", "3x32x32"),
        ("[[3, 32, 32], [16]]", "3x32x32,16"),
        ('"3x32x32,16"', "3x32x32,16"),
        ('"128:int64"', "128:int64"),
        ('["128:int64", [4]]', "128:int64,4"),
    ],
)
def test_inputs_are_lists_or_texts_and_survive_the_way_to_toml_and_back(written: str, inputs: str) -> None:
    config = parse_config(f"[model]\nsource = 'python:a:b'\ninput = {written}")
    assert config.model is not None
    assert config.model.input == parse_inputs(inputs)
    assert parse_config(config.to_toml()) == config
    assert config.replaced({"train.steps": 7}).model == config.model


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("input = []", "model.input is [], but should be the sizes of one sample: [3, 224, 224]; of several"),
        ("input = 224", "model.input is 224, but should be the sizes of one sample"),
        ("input = [3, 2.5]", "model.input: has [3, 2.5], but sizes are whole numbers"),
        ("input = [3, true]", "model.input: has [3, True], but sizes are whole numbers"),
        ("input = [[3, 4], 5]", "sizes are whole numbers"),
        ("input = ['3,4']", "sizes are whole numbers"),
        ("input = [3, 0, 4]", "model.input: an input cannot have the shape (3, 0, 4)"),
        ("input = '3x'", "model.input: the input '3x' is not of the form"),
        ("source = 'resnet18'", "model.source is 'resnet18', but should be python:module:function or onnx:FILE"),
        (
            "weights = 'a.pth'\nsource = 'onnx:net.onnx'",
            "weights is 'a.pth', and the weights of an ONNX file are in it",
        ),
        ("task = 'detection'", "task is 'detection', and what a network is for is said in"),
        ("weights = ''", "model.weights is '', but should not be blank"),
        ("mean = [0.5, 0.5, 0.5]", "model: give mean and std, or neither"),
        ("mean = [0.5, 0.5]\nstd = [0.5, 0.5]", "model: mean has 2 values, and the input 3 channels; give one each"),
        ("std = [0, 1, 1]", "model.std.0 is 0, but should be greater than 0"),
        (
            "input = [16]\nmean = [0.5, 0.5]\nstd = [0.5, 0.5]",
            "mean has 2 values, and the input 16 channels; give one each, or one for all",
        ),
        (
            "input = [[3, 4, 4], [2]]\nmean = [0.5, 0.5, 0.5]\nstd = [1, 1, 1]",
            "mean has 3 values, and the input 50 channels; give one each, or one for all",
        ),
        (
            "input = [16]\nelastic.resolutions = [16]",
            "elastic.resolutions are of images, and the input is 16",
        ),
        ("input = [3, 32, 24]\nelastic.resolutions = [32]", "are sides of square images, and the input is 3x32x24"),
        ("elastic.width = [0.5]", "model.elastic.width is [0.5], but should end with 1.0: the largest network is"),
        ("elastic.width = []", "model.elastic.width is [], but should not be empty"),
        ("elastic.width = [0.5, 0.5, 1.0]", "model.elastic.width is [0.5, 0.5, 1.0], but should ascend"),
        ("elastic.width = [0.0, 1.0]", "model.elastic.width.0 is 0.0, but should be greater than 0"),
        ("elastic.residual = [1.0, 1.5]", "model.elastic.residual.1 is 1.5, but should be less than or equal to 1"),
        ("elastic.residual = [nan, 1.0]", "model.elastic.residual.0 is nan, but should be"),
        ("elastic.width = ['0.5', 1.0]", "model.elastic.width.0 is '0.5', but should be a number"),
        ("elastic.resolutions = [16, 24]", "elastic.resolutions ends with 24, and the input is 3x32x32"),
        ("elastic.resolutions = [32, 16]", "model.elastic.resolutions is [32, 16], but should ascend"),
        ("elastic.resolutions = [0]", "model.elastic.resolutions.0 is 0, but should be greater than or equal to 1"),
        ("elastic.depth = 1", "model.elastic.depth is 1, but should be a boolean"),
        ("elastic.multiple_of = 0", "model.elastic.multiple_of is 0, but should be greater than or equal to 1"),
        ("elastic.fixed = ['']", "model.elastic.fixed.0 is '', but should not be blank"),
        ("elastic.widht = [1.0]", "unknown key 'model.elastic.widht', did you mean 'width'? known: width, residual, "),
        ("elastic = 3", "model.elastic is 3, but is a section: write [model.elastic] and its keys below"),
    ],
)
def test_a_wrong_value_of_the_network_is_shown_with_what_is_allowed(text: str, expected: str) -> None:
    given = {line.partition(" ")[0] for line in text.splitlines()}
    needed = {"source": "source = 'python:a:b'", "input": "input = [3, 32, 32]"}
    assert expected in refused("\n".join(["[model]", text, *(v for k, v in needed.items() if k not in given)]))


def test_what_a_network_of_ones_own_needs_is_asked_for_with_an_example() -> None:
    message = refused("[model]\nweights = 'a.pth'")
    assert 'model.source is missing; give for example source = "python:my_nets:make"' in message
    assert "model.input is missing; give for example input = [3, 224, 224]" in message


def test_an_onnx_file_says_itself_what_it_takes() -> None:
    config = parse_config('[model]\nsource = "onnx:net.onnx"\nmean = [0.5]\nstd = [0.5]')
    assert config.model is not None
    assert config.model.input is None
    assert parse_config(config.to_toml()) == config


@pytest.mark.parametrize(
    "key", ["preset = 'mobilenet-tiny'", "width_mults = [1.0]", "se = true", "activation = 'relu'"]
)
def test_what_is_of_a_preset_does_not_go_with_a_network_of_ones_own(key: str) -> None:
    message = refused(f"{MODEL_TOML}\n[space]\n{key}")
    assert (
        f"space.{key.partition(' ')[0]} is of a preset, and with [model] the networks are parts of your own" in message
    )


def test_what_is_of_any_network_goes_with_one_of_ones_own() -> None:
    config = parse_config(f"{MODEL_TOML}\n[space]\nprecisions = ['int8']\nresolutions = [160]\nkernel_sizes = [3]")
    assert parse_config(config.to_toml()) == config


def test_values_of_the_network_and_of_what_is_elastic_can_be_replaced() -> None:
    config = Config().replaced({"model.source": "python:a:b", "model.input": "3x32x32", "model.elastic.depth": False})
    assert config.model == ModelConfig(
        source="python:a:b", input=parse_inputs("3x32x32"), elastic=ElasticConfig(depth=False)
    )
    assert config.replaced({"model.elastic.depth": None}).model == ModelConfig(
        source="python:a:b", input=parse_inputs("3x32x32")
    )


# ---------------------------------------------------------------- several devices, several budgets

FLEET = """
[device]
names = ["cpu", "boards/pi.toml"]
threads = 2
[limits]
size_bytes = 300e3
latency_fraction = 0.9
[[budgets]]
latency_fraction = 0.3
[[budgets]]
device = "pi"
latency_ms = 20
size_bytes = 1e5
"""


def test_one_device_and_its_limits_are_no_fleet() -> None:
    assert not Config().is_fleet
    assert Config().device.all == ("cpu",)
    assert Config().budgets_of("cpu") == (LimitsConfig(),)


@pytest.mark.parametrize("text", ["[device]\nnames = ['cpu']", "[[budgets]]\nlatency_ms = 1"])
def test_a_list_of_devices_or_a_budget_makes_a_fleet(text: str) -> None:
    assert parse_config(text).is_fleet


def test_without_budgets_every_device_keeps_the_limits() -> None:
    config = parse_config("[device]\nnames = ['a', 'b']\n[limits]\nlatency_ms = 2")
    assert [config.budgets_of(d) for d in ("a", "b")] == [(LimitsConfig(latency_ms=2.0),)] * 2


def test_a_budget_takes_the_place_of_the_same_limits_and_keeps_the_others() -> None:
    config = parse_config(FLEET)
    everywhere = LimitsConfig(latency_fraction=0.3, size_bytes=300e3)
    assert config.budgets_of("cpu") == (everywhere,)
    assert config.budgets_of("boards/pi.toml") == (everywhere, LimitsConfig(latency_ms=20.0, size_bytes=1e5))


def test_a_part_is_for_one_device_and_knows_its_whole() -> None:
    config = parse_config(FLEET)
    part = config.part("boards/pi.toml", {"latency_ms": 3.0})
    assert part.device == DeviceConfig(name="boards/pi.toml", threads=2)
    assert part.limits == LimitsConfig(latency_ms=3.0)
    assert not part.is_fleet
    assert part.whole == config.whole == config


@pytest.mark.parametrize("name", ["pi", "boards/pi.toml"])
def test_one_device_of_a_fleet_is_chosen_by_its_name_or_path(name: str) -> None:
    config = parse_config(FLEET)
    one = config.only(name)
    assert one.device == DeviceConfig(names=("boards/pi.toml",), threads=2)
    assert one.budgets_of("boards/pi.toml") == config.budgets_of("boards/pi.toml")
    assert one.whole == one.part("boards/pi.toml").whole == config


def test_budgets_of_other_devices_do_not_follow_the_one_that_is_chosen() -> None:
    assert [b.device for b in parse_config(FLEET).only("cpu").budgets] == [None]


def test_a_device_the_run_is_not_for_lists_those_it_is_for() -> None:
    with pytest.raises(UnknownNameError, match=r"'phone'; known: cpu, pi"):
        parse_config(FLEET).only("phone")


def test_given_limits_take_the_place_of_all_budgets() -> None:
    config = parse_config(FLEET).with_limits({"latency_ms": 2})
    assert config.budgets == ()
    assert config.budgets_of("cpu") == (LimitsConfig(latency_ms=2.0),)


def test_budgets_can_be_replaced_and_removed() -> None:
    config = parse_config(FLEET).replaced({"budgets": [{"latency_ms": 4}]})
    assert config.budgets == (BudgetConfig(latency_ms=4.0),)
    assert config.replaced({"budgets": None}).budgets == ()


def test_an_unknown_key_of_a_budget_names_the_nearest() -> None:
    message = refused("[[budgets]]\nlatency = 1")
    assert "unknown key 'budgets.0.latency', did you mean 'latency_ms'? known: latency_ms, " in message


# ---------------------------------------------------------------- changes


def test_values_can_be_replaced_and_removed() -> None:
    config = Config.default_digits().replaced({"train.steps": None, "train.epochs": 2, "data.seed": 7})
    assert (config.train.steps, config.train.epochs, config.data.seed) == (None, 2.0, 7)
    assert config.search == Config.default_digits().search


@pytest.mark.parametrize("values", [{"steps": 1}, {"train.stesp": 1}, {"nothing.steps": 1}, {"train.steps": "x"}])
def test_a_replacement_that_does_not_fit_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Config().replaced(values)


def test_given_limits_take_the_place_of_all_limits() -> None:
    config = Config.default_digits().with_limits({"size_bytes": 300e3})
    assert config.limits.absolute() == {"size_bytes": 300e3}
    assert config.limits.latency_fraction is None


def test_a_limit_on_an_unknown_metric_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="did you mean 'latency_ms'"):
        Config().with_limits({"latency": 2.0})


def test_steps_follow_from_epochs_and_images() -> None:
    assert TrainConfig(epochs=3, batch_size=100).total_steps(250) == 8
    assert TrainConfig(steps=5).total_steps(10**6) == 5
    assert TrainConfig(batch_size=100).total_steps(1000) == 200


def test_a_fraction_a_little_above_one_is_allowed_where_int8_is_slower_than_the_largest_fp32_network() -> None:
    assert parse_config("[limits]\nlatency_fraction = 1.2").limits.latency_fraction == 1.2


# ---------------------------------------------------------------- its JSON schema


def schema_of(section: str, key: str) -> dict[str, Any]:
    """What the JSON schema of the configuration says of a key, an absent value aside."""
    of_key = Config.model_json_schema()["$defs"][section]["properties"][key]
    (*_, last) = of_key["anyOf"]
    assert last == {"type": "null"}
    return {"anyOf": of_key["anyOf"][:-1]}


def test_the_schema_says_that_a_limit_is_a_number_or_a_table_of_sides() -> None:
    number, table = schema_of("LimitsConfig", "latency_ms")["anyOf"]
    assert number == {"type": "number", "exclusiveMinimum": 0}
    assert table["properties"] == {"at_least": number, "at_most": number}
    assert table["additionalProperties"] is False


def test_the_schema_lists_the_precisions() -> None:
    (precisions,) = schema_of("SpaceConfig", "precisions")["anyOf"]
    assert {"fp32", "int8", "int8-pt"} <= {*precisions["items"]["enum"]}


def test_the_schema_says_that_inputs_are_sizes_or_a_text() -> None:
    kinds = schema_of("ModelConfig", "input")["anyOf"]
    assert [kind["type"] for kind in kinds] == ["array", "array", "string"]


# ---------------------------------------------------------------- more than one set of weights


def test_experts_and_a_split_contradict_each_other_and_a_network_of_ones_own() -> None:
    with pytest.raises(ConfigError, match=r"experts is 2 and split_fraction 0\.3; each gives networks weights"):
        parse_config("[train]\nexperts = 2\nsplit_fraction = 0.3")
    for key, value in (("experts", 2), ("split_fraction", 0.3)):
        own = f'[train]\n{key} = {value}\n[model]\nsource = "python:a:b"\ninput = [3, 8, 8]'
        with pytest.raises(ConfigError, match=rf"train\.{key} is for a preset"):
            parse_config(own)


@pytest.mark.parametrize(("key", "value"), [("experts", 0), ("experts", 5), ("split_fraction", 1.0)])
def test_more_weights_than_are_allowed_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=key):
        parse_config(f"[train]\n{key} = {value}")
