"""The commands: what they print where, and what they exit with. The pipeline is replaced."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from hwnas import audit, fleet, pipeline
from hwnas._console import Console
from hwnas.allowed import Between
from hwnas.cli import app
from hwnas.config import Config
from hwnas.errors import (
    ArtefactError,
    ConfigError,
    DataError,
    DivergenceError,
    HwnasError,
    InfeasibleError,
    VerificationError,
)
from hwnas.results import Shown
from hwnas.search import Problem, Sampling, save_study, search
from hwnas.spaces import CategoricalSpace
from tests.runs import MadeUp

STAGES = {
    "run": "run_all",
    "train": "train",
    "profile": "profile",
    "search": "search",
    "export": "export",
    "report": "report",
}


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


told: dict[str, object] = {}  # the options that the last command gave


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What the commands called, in order: every stage of the pipeline only notes its argument."""
    made: list[tuple[str, Any]] = []
    told.clear()

    def noting(name: str) -> Callable[..., MadeUp]:
        def stage(subject: Config | Path, *, console: Console, **options: object) -> MadeUp:
            made.append((name, subject))
            told.update(options)
            console.note("working")
            shown = Shown(title=name, rows=[("accuracy", 0.98125), ("path", Path("a/b"))])
            return MadeUp(told=shown, more={"extra": np.float32(0.5)})

        return stage

    for name in (*STAGES.values(), "verify"):
        monkeypatch.setattr(pipeline, name, noting(name))
    for name in fleet.STAGES:
        monkeypatch.setattr(fleet, name, noting(f"fleet.{name}"))
    return made


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def stage(config: Config, *, console: Console) -> MadeUp:
        raise error

    monkeypatch.setattr(pipeline, "train", stage, raising=False)


# ---------------------------------------------------------------- stages


@pytest.mark.parametrize("command", STAGES)
def test_a_stage_without_configuration_takes_the_supernet_that_ships(
    command: str, calls: list[tuple[str, Any]]
) -> None:
    assert invoke(command).exit_code == 0
    assert calls == [(STAGES[command], Config.quick_start())]


def test_a_run_takes_a_trained_supernet_or_other_images(calls: list[tuple[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text('[data]\nsource = "npz:a.npz"\n')
    for arguments, wanted in (
        (("--supernet", "zoo:cifar10-mobilenet"), Config.quick_start()),
        (("--supernet", "my/own"), Config.of_supernet("my/own")),
        (("--data", "digits"), Config.default_digits()),
        (("--data", "npz:a.npz"), Config().replaced({"data.source": "npz:a.npz"})),
        (("--set", "train.steps=5"), Config.default_digits().replaced({"train.steps": 5})),
        ((tmp_path / "my.toml", "--data", "npz:b.npz"), Config().replaced({"data.source": "npz:b.npz"})),
        (
            (tmp_path / "my.toml", "--supernet", "my/own"),
            Config().replaced({"data.source": "npz:a.npz", "train.supernet": "my/own"}),
        ),
    ):
        calls.clear()
        assert invoke("run", *arguments).exit_code == 0
        assert calls == [(STAGES["run"], wanted)]
    assert Config.of_supernet("my/own").output.folder == "runs/own"


def test_an_option_and_the_value_it_stands_for_are_not_both_given() -> None:
    found = invoke("run", "--supernet", "my/own", "--set", "train.supernet=my/other")
    assert found.exit_code == 2
    assert "give --supernet or --set train.supernet, not both" in found.stderr


@pytest.mark.parametrize("command", STAGES)
def test_a_stage_reads_the_configuration_of_a_run(command: str, calls: list[tuple[str, Any]], tmp_path: Path) -> None:
    config = Config().replaced({"train.steps": 7})
    (tmp_path / "config.toml").write_text(config.to_toml())
    assert invoke(command, tmp_path).exit_code == 0
    assert calls == [(STAGES[command], config.replaced({"output.folder": str(tmp_path)}))]


def test_values_can_be_changed_on_the_command_line(calls: list[tuple[str, Any]]) -> None:
    changes = ("--set", "train.steps=7", "--set", "data.source=npz:a.npz", "--set", "space.resolutions=[8, 16]")
    assert invoke("train", *changes, "--output", "there").exit_code == 0
    config = calls[0][1]
    assert (config.train.steps, config.data.source, config.space.resolutions) == (7, "npz:a.npz", (8, 16))
    assert config.output.folder == "there"


@pytest.mark.parametrize("command", ["run", "search", "export"])
def test_given_limits_take_the_place_of_the_configured(command: str, calls: list[tuple[str, Any]]) -> None:
    assert invoke(command, "--limit", "latency_ms=2", "--limit", "size_bytes=300e3").exit_code == 0
    assert calls[0][1].limits.absolute() == {"latency_ms": 2.0, "size_bytes": 300e3}
    assert calls[0][1].limits.latency_fraction is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["latency_ms>=1"], {"latency_ms": Between(at_least=1.0)}),
        (["latency_ms >= 1", "latency_ms<=2"], {"latency_ms": Between(at_least=1.0, at_most=2.0)}),
        (["accuracy=0.9"], {"accuracy": Between(at_least=0.9)}),
    ],
)
def test_a_limit_is_given_from_either_side(
    given: list[str], expected: dict[str, Between], calls: list[tuple[str, Any]]
) -> None:
    assert invoke("search", *(word for text in given for word in ("--limit", text))).exit_code == 0
    assert calls[0][1].limits.absolute() == expected


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["latency_ms>=1", "latency_ms>=2"], "given twice"),
        (["latency_ms=1", "latency_ms>=2"], "'latency_ms>=...' and 'latency_ms<=...'"),
        (["latency_ms>=1", "latency_ms=2"], "'latency_ms>=...' and 'latency_ms<=...'"),
        (["latency_ms>=3", "latency_ms<=2"], "allows nothing"),
        (["latency_ms<>=3"], "is not of the form"),
        ([">=3"], "is not of the form"),
    ],
)
def test_limits_that_say_no_one_thing_are_refused(given: list[str], said: str) -> None:
    result = invoke("search", *(word for text in given for word in ("--limit", text)))
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


TWO_DEVICES = ("--set", 'device.names=["cpu", "boards/pi.toml"]')


@pytest.mark.parametrize("command", [c for c in STAGES if c != "train"])
def test_one_of_several_devices_is_chosen_by_name(command: str, calls: list[tuple[str, Any]]) -> None:
    assert invoke(command, *TWO_DEVICES, "--device", "pi").exit_code == 0
    config = calls[0][1]
    assert config.device.names == ("boards/pi.toml",)
    assert config.whole.device.names == ("cpu", "boards/pi.toml")


@pytest.mark.parametrize("command", STAGES)
def test_the_stages_of_several_devices_are_the_fleets_but_for_the_training(
    command: str, calls: list[tuple[str, Any]]
) -> None:
    assert invoke(command, *TWO_DEVICES).exit_code == 0
    assert [name for name, _ in calls] == ["train" if command == "train" else f"fleet.{STAGES[command]}"]


def test_a_device_that_the_run_is_not_for_is_refused(calls: list[tuple[str, Any]]) -> None:
    result = invoke("run", *TWO_DEVICES, "--device", "phone")
    assert result.exit_code == 2
    assert "known: cpu, pi" in result.stderr
    assert not calls


def test_a_result_that_tells_of_a_failure_is_shown_and_gives_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    def stage(config: Config, *, console: Console) -> MadeUp:
        return MadeUp(told=Shown(title="Fleet", rows=[("pi", "failed")]), exit_status=3)

    monkeypatch.setattr(pipeline, "run_all", stage)
    result = invoke("run", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["rows"] == [["pi", "failed"]]


def test_verify_takes_the_folder_of_a_deployment(calls: list[tuple[str, Any]], tmp_path: Path) -> None:
    assert invoke("verify", tmp_path).exit_code == 0
    assert calls == [("verify", tmp_path)]
    assert told == {"here": False, "trust": False, "device": ""}


@pytest.mark.parametrize(
    ("given", "expected"),
    [(["--here"], {"here": True}), (["--trust"], {"trust": True}), (["--device", "pi.toml"], {"device": "pi.toml"})],
)
def test_verify_is_told_which_board_it_may_contact(
    calls: list[tuple[str, Any]], tmp_path: Path, given: list[str], expected: dict[str, object]
) -> None:
    assert invoke("verify", tmp_path, *given).exit_code == 0
    assert told == {"here": False, "trust": False, "device": "", **expected}


# ---------------------------------------------------------------- output


def test_the_result_is_a_table_on_standard_output(calls: list[tuple[str, Any]]) -> None:
    result = invoke("train")
    assert "0.9812" in result.stdout
    assert "working" in result.stderr
    assert "working" not in result.stdout


def test_json_is_one_document_and_all_there_is_on_standard_output(calls: list[tuple[str, Any]]) -> None:
    result = invoke("train", "--json")
    assert json.loads(result.stdout) == {
        "title": "train",
        "rows": [["accuracy", 0.98125], ["path", "a/b"]],
        "notes": [],
        "extra": 0.5,
    }
    assert "working" in result.stderr


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("no"), 2),
        (DataError("no"), 2),
        (ArtefactError("no"), 2),
        (InfeasibleError("no", metric="latency_ms", limit=1.0), 3),
        (VerificationError("no"), 4),
        (DivergenceError(3, float("nan"), None), 1),
        (OSError(28, "No space left on device"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_the_exit_status_tells_what_happened(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int
) -> None:
    failing(monkeypatch, error)
    assert invoke("train").exit_code == status


def test_an_error_is_one_line_on_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, DataError("the folder [a] is missing " + "and so on " * 30))
    result = invoke("train")
    assert result.stderr.startswith("error: the folder [a] is missing and so on")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_debug_shows_the_traceback_and_keeps_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, DataError("no"))
    result = invoke("train", "--debug")
    assert "Traceback" in result.stderr
    assert result.exit_code == 2


def test_a_bug_is_not_dressed_up_as_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, ZeroDivisionError("our fault"))
    assert isinstance(invoke("train").exception, ZeroDivisionError)


def test_an_interrupt_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    assert "interrupted; run the same command again to go on" in invoke("train").stderr


def test_json_holds_the_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    reachable = InfeasibleError("no", metric="latency_ms", limit=1.0, reachable=7.3, architecture={"depth": 1})
    failing(monkeypatch, reachable)
    document = json.loads(invoke("train", "--json").stdout)
    assert document["exit_status"] == 3
    assert document["error"]["reachable"] == 7.3
    assert document["error"]["architecture"] == {"depth": 1}


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "/no/such/file.toml"),
        ("train", "--set", "steps"),
        ("train", "--set", "train.stesp=3"),
        ("train", "--set", "train.steps=many"),
        ("export", "--limit", "latency_ms"),
        ("export", "--limit", "latency_ms=fast"),
        ("export", "--limit", "latency_ms=nan"),
        ("export", "--limit", "latency_ms=1", "--limit", "latency_ms=2"),
        ("export", "--limit", "joy=1"),
        ("spaces", "no-such-space"),
        ("query", "/no/such/study"),
        ("devices", "show", "no-such-device"),
        ("devices", "audit", "no-such-device"),
        ("devices", "audit", "raspberry-pi-5"),
        ("devices", "--json", "show", "cpu"),
        ("devices", "new", "cpu", "--yes"),
        ("devices", "new", "board", "--option", "provider", "--yes"),
        ("train", "--no-such-option"),
        ("no-such-command",),
        ("verify",),
    ],
)
def test_wrong_input_is_refused_before_any_work(arguments: tuple[str, ...], calls: list[tuple[str, Any]]) -> None:
    assert invoke(*arguments).exit_code == 2
    assert not calls


def test_every_error_has_a_status_that_is_documented() -> None:
    def tree(error: type[HwnasError]) -> list[type[HwnasError]]:
        return [error, *(e for sub in error.__subclasses__() for e in tree(sub))]

    assert {e.exit_status for e in tree(HwnasError)} == {1, 2, 3, 4}


# ---------------------------------------------------------------- questions


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    space = CategoricalSpace({"a": (1, 2, 3), "b": (1, 2, 3)})
    study = search(
        Problem(
            space,
            {"accuracy": "maximize", "latency_ms": "minimize"},
            n_trials=9,
            closed_form={"latency_ms": lambda encodings: encodings.sum(axis=1) + 1.0},
        ),
        lambda architecture: {"accuracy": float(architecture["a"]) / 10},
        sampling=Sampling(sampler="random"),
    )
    folder = tmp_path_factory.mktemp("run")
    save_study(study, folder / "study.safetensors")
    return folder


def test_query_answers_with_the_best_network_within_a_limit(run_folder: Path) -> None:
    result = invoke("query", run_folder, "--limit", "latency_ms=2", "--json")
    (answer,) = json.loads(result.stdout)["answers"]
    assert answer["architecture"] == {"a": 2, "b": 1}
    assert answer["values"]["accuracy"] == pytest.approx(0.2)


def test_query_takes_a_study_file_and_gives_as_many_as_asked(run_folder: Path) -> None:
    result = invoke("query", run_folder / "study.safetensors", "--top", 3, "--json")
    assert len(json.loads(result.stdout)["answers"]) == 3


def test_query_answers_between_two_limits(run_folder: Path) -> None:
    result = invoke("query", run_folder, "--limit", "latency_ms>=2", "--limit", "latency_ms<=2", "--json")
    document = json.loads(result.stdout)
    assert document["limits"] == {"latency_ms": {"at_least": 2.0, "at_most": 2.0}}
    assert document["answers"][0]["architecture"] == {"a": 2, "b": 1}


def test_what_conflicts_is_told_to_programs(run_folder: Path) -> None:
    asked = ("--limit", "latency_ms<=2", "--limit", "accuracy>=0.3")
    result = invoke("query", run_folder, *asked, "--json")
    assert result.exit_code == 3
    conflict = json.loads(result.stdout)["error"]["conflict"]
    assert {(x["metric"], x["floor"], x["limit"]) for x in conflict} == {
        ("latency_ms", False, 2.0),
        ("accuracy", True, 0.3),
    }
    told = {x["metric"]: x["reachable"] for x in conflict}
    loosened = ("--limit", f"latency_ms<={told['latency_ms']}", "--limit", "accuracy>=0.3")
    assert invoke("query", run_folder, *loosened).exit_code == 0


def test_query_for_the_impossible_exits_with_3(run_folder: Path) -> None:
    result = invoke("query", run_folder, "--limit", "latency_ms=0.5")
    assert result.exit_code == 3
    assert "latency_ms" in result.stderr


def test_query_of_a_folder_without_study_says_what_makes_one(tmp_path: Path) -> None:
    result = invoke("query", tmp_path)
    assert result.exit_code == 2
    assert "hwnas search" in result.stderr


@pytest.fixture
def fleet_folder(run_folder: Path, tmp_path: Path) -> Path:
    for device in ("cpu", "pi"):
        (tmp_path / "search" / device).mkdir(parents=True)
        shutil.copy(run_folder / "study.safetensors", tmp_path / "search" / device)
    return tmp_path


def test_query_asks_the_study_of_one_device(fleet_folder: Path) -> None:
    (fleet_folder / "search" / "cpu" / "study.safetensors").write_text("damaged")
    assert invoke("query", fleet_folder, "--device", "pi").exit_code == 0
    assert invoke("query", fleet_folder, "--device", "cpu").exit_code == 2


@pytest.mark.parametrize("device", [(), ("--device", "phone")])
def test_query_of_several_devices_lists_them(device: tuple[str, ...], fleet_folder: Path) -> None:
    result = invoke("query", fleet_folder, *device)
    assert result.exit_code == 2
    assert "give --device cpu or pi" in result.stderr


def test_query_of_a_fleet_with_one_study_asks_that(fleet_folder: Path) -> None:
    shutil.rmtree(fleet_folder / "search" / "cpu")
    assert invoke("query", fleet_folder).exit_code == 0


def test_query_for_a_device_in_a_run_for_one_says_so(run_folder: Path) -> None:
    assert "ask it without --device" in invoke("query", run_folder, "--device", "cpu").stderr


# ---------------------------------------------------------------- what there is


def test_spaces_lists_the_presets_with_their_sizes() -> None:
    rows = json.loads(invoke("spaces", "--json").stdout)["rows"]
    assert {"mobilenet-tiny", "mobilenet-v3-large"} <= {row[0] for row in rows}
    assert all(row[1] > 1 for row in rows)


def test_a_space_shows_its_choices() -> None:
    document = json.loads(invoke("spaces", "test-tiny", "--json").stdout)
    assert all(len(options) > 1 for _, options in document["rows"])


def test_devices_lists_this_machine() -> None:
    assert "cpu" in {row[0] for row in json.loads(invoke("devices", "--json").stdout)["rows"]}


def test_devices_tells_which_are_to_be_named_first() -> None:
    rows = {row[0]: row for row in json.loads(invoke("devices", "--json").stdout)["rows"]}
    assert rows["cpu"][3] == "this machine"
    assert rows["raspberry-pi-5"][3] == "ssh, host not set"


def test_a_device_shows_all_its_description_says() -> None:
    document = json.loads(invoke("devices", "show", "raspberry-pi-5", "--json").stdout)
    assert "Cortex-A76" in dict(document["rows"])["known"]
    assert document["device"]["threads"] == 4
    assert "hwnas devices new my-raspberry-pi-5 --like raspberry-pi-5" in document["notes"][0]


def test_a_new_device_is_written_from_flags_alone(tmp_path: Path) -> None:
    flags = ("--like", "raspberry-pi-5", "--host", "pi@there", "--connection", "port=2222", "--precision", "int8")
    result = invoke("devices", "new", "my-pi", *flags, "--output", tmp_path, "--offline", "--yes", "--json")
    assert result.exit_code == 0, result.stderr
    path = json.loads(result.stdout)["path"]
    device = json.loads(invoke("devices", "show", path, "--json").stdout)["device"]
    assert (device["connection"]["host"], device["connection"]["port"]) == ("pi@there", 2222)
    assert device["precisions"] == ["int8"]


def test_a_new_device_is_asked_about_on_standard_error(tmp_path: Path) -> None:
    arguments = ["devices", "new", "board", "--output", str(tmp_path), "--offline"]
    result = CliRunner().invoke(app, arguments, input="ssh\npi@there\n\n\n3\n\n\n\n\n")
    assert result.exit_code == 0, result.stderr
    assert "threads" in result.stderr
    assert "threads" not in result.stdout
    device = json.loads(invoke("devices", "show", tmp_path / "board.toml", "--json").stdout)["device"]
    assert (device["threads"], device["connection"]["host"]) == (3, "pi@there")


def test_an_audit_is_shown_as_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def auditing(device: str, *, space: str, output: str, again: bool, console: Console) -> MadeUp:
        return MadeUp(told=Shown(title=f"{device} {space} {output} {again}", rows=[("hswish", "leave out")]))

    monkeypatch.setattr(audit, "audit", auditing)
    result = invoke("devices", "audit", "cpu", "--space", "resnet20", "--output", "there", "--again")
    assert "cpu resnet20 there True" in result.stdout
    assert "leave out" in result.stdout


def test_the_version_is_that_of_the_package() -> None:
    import hwnas

    assert invoke("--version").stdout.strip() == hwnas.__version__


def test_every_command_explains_itself() -> None:
    groups = [["devices", command] for command in ("show", "audit", "new")]
    for command in (*([c] for c in (*STAGES, "verify", "query", "devices", "spaces", "doctor")), *groups):
        result = invoke(*command, "--help")
        assert result.exit_code == 0
        assert "--json" in result.stdout
