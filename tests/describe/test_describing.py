"""New descriptions: from flags, from another one, by asking; what is refused; what is written."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hwnas import registry
from hwnas.describe.describing import NewDeviceOptions, new_device
from hwnas.devices import load_device
from hwnas.errors import ConfigError, HwnasError, UnknownNameError
from hwnas.types import Device, Option
from tests.runs import ReadConsole

PI = NewDeviceOptions(like="raspberry-pi-5", host="pi@board.invalid")


def make(folder: Path, name: str = "board", **arguments: Any) -> Device:
    """Describe a device without asking or looking, unless told to, and load what was written."""
    console = arguments.pop("console", None) or ReadConsole()
    arguments = {"given": NewDeviceOptions(), "look": False, **arguments}
    result = new_device(name, output=str(folder), console=console, **arguments)
    return load_device(result.path)


class Answers:
    """Answers questions that contain a word, takes the default elsewhere, and keeps what was asked."""

    def __init__(self, **answers: str) -> None:
        self._answers = answers
        self.asked: dict[str, str] = {}

    def __call__(self, question: str, default: str) -> str:
        self.asked[question] = default
        return next((answer for word, answer in self._answers.items() if word in question), default)


# ---------------------------------------------------------------- what is written


def test_without_options_it_is_this_machine_with_onnx_runtime(tmp_path: Path) -> None:
    device = make(tmp_path)
    assert (device.name, device.runtime, device.connection) == ("board", "onnxruntime", {})
    assert device.options == load_device("cpu").options


def test_flags_are_written(tmp_path: Path) -> None:
    given = NewDeviceOptions(
        runtime="onnxruntime",
        threads=3,
        precisions=("int8",),
        host="me@board",
        python="~/env/bin/python",
        options={"provider": "XnnpackExecutionProvider"},
        connection={"port": 2222},
        power_w=4.5,
        idle_w=1.5,
        description='a "board" of ours',
    )
    device = make(tmp_path, given=given)
    assert (device.threads, device.precisions) == (3, ("int8",))
    assert device.connection == {"transport": "ssh", "host": "me@board", "python": "~/env/bin/python", "port": 2222}
    assert device.options == {"provider": "XnnpackExecutionProvider"}
    assert (device.power_w, device.idle_w) == (4.5, 1.5)
    assert device.description == 'a "board" of ours'


def test_one_that_is_like_another_differs_in_what_was_said_only(tmp_path: Path) -> None:
    like, device = load_device("raspberry-pi-5"), make(tmp_path, given=PI)
    assert device.connection == {**like.connection, "host": "pi@board.invalid"}
    for field in ("runtime", "threads", "precisions", "options", "power_w", "description", "meter", "limits"):
        assert getattr(device, field) == getattr(like, field)
    assert device.known.split() == like.known.split()


def test_boards_of_a_kind_are_named_with_commas_between(tmp_path: Path) -> None:
    several = make(tmp_path, "several", given=NewDeviceOptions(like="raspberry-pi-5", host="pi@a, pi@b"))
    assert several.connection["hosts"] == ("pi@a", "pi@b")
    assert "host" not in several.connection
    like = str(tmp_path / "several.toml")
    answers = Answers()
    assert make(tmp_path, "same", given=NewDeviceOptions(like=like), ask=answers).connection == several.connection
    assert "pi@a, pi@b" in answers.asked.values()
    assert make(tmp_path, "one", given=NewDeviceOptions(like=like, host="pi@c")).connection["host"] == "pi@c"


@pytest.mark.parametrize("name", ["ethos-u55-128", "jetson-orin"])
def test_limits_and_meters_are_taken_over(name: str, tmp_path: Path) -> None:
    like, device = load_device(name), make(tmp_path, given=NewDeviceOptions(like=name, transport="local"))
    assert (device.limits, device.meter, device.meter_options) == (like.limits, like.meter, like.meter_options)


def test_another_runtime_than_that_of_the_description_gets_its_own_options(tmp_path: Path) -> None:
    device = make(tmp_path, given=NewDeviceOptions(like="raspberry-pi-5", host="pi@x", runtime="onnxruntime"))
    assert device.options == load_device("cpu").options


def test_a_phone_is_reached_by_its_serial(tmp_path: Path) -> None:
    device = make(tmp_path, given=NewDeviceOptions(like="pixel-8", serial="1A2B"))
    assert (device.connection["transport"], device.connection["serial"]) == ("adb", "1A2B")


def test_long_texts_are_written_in_lines_and_read_back_as_they_were(tmp_path: Path) -> None:
    text = 'a "quoted" word, a back\\slash and\ttabs ' * 12
    first = tmp_path / "first.toml"
    first.write_text('schema = 1\nruntime = "fake"\nknown = ' + json.dumps(text) + "\n")
    device = make(tmp_path, given=NewDeviceOptions(like=str(first)))
    assert device.known.split() == text.split()
    assert max(map(len, (tmp_path / "board.toml").read_text().splitlines())) <= 120


def test_the_file_tells_people_what_its_lines_are_for(tmp_path: Path) -> None:
    make(tmp_path, given=PI)
    text = (tmp_path / "board.toml").read_text()
    assert "like raspberry-pi-5" in text
    assert "# how the board is reached" in text
    assert tomllib.loads(text)["schema"] == 1


def test_the_result_says_what_to_do_next(tmp_path: Path) -> None:
    result = new_device("board", given=PI, output=str(tmp_path), look=False, console=ReadConsole())
    assert f"hwnas agent --check {tmp_path / 'board.toml'}" in result.shown.notes[0]
    assert any("hwnas devices audit" in note for note in result.shown.notes)
    assert any(f"device.name={tmp_path / 'board.toml'}" in note for note in result.shown.notes)


# ---------------------------------------------------------------- asking


def test_only_what_was_not_said_is_asked(tmp_path: Path) -> None:
    answers = Answers(threads="2", host="pi@there", where="ssh")
    device = make(tmp_path, given=NewDeviceOptions(runtime="onnxruntime", meter="none"), ask=answers)
    assert (device.threads, device.connection["host"]) == (2, "pi@there")
    assert not [q for q in answers.asked if q.startswith(("runtime", "energy"))]


def test_defaults_are_those_of_the_description_it_is_like(tmp_path: Path) -> None:
    answers = Answers()
    make(tmp_path, given=PI, ask=answers)
    assert answers.asked["threads"] == "4"
    assert answers.asked["precisions"] == "fp32, int8"
    assert answers.asked["Python there, which has the runtime"] == "~/hwnas/bin/python"


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"threads": "many"}, "threads is 'many'"),
        ({"threads": "0"}, "threads is 0"),
        ({"runtime:": "tensorflow"}, "runtime is 'tensorflow'; known"),
        ({"precisions": "fp8"}, "allowed: a list of one or more of fp32, tf32, fp16, bf16, int8"),
        ({"where": "telnet"}, "transport is 'telnet'; allowed: local"),
        ({"where": "ssh"}, "transport ssh needs --host"),
        ({"where": "ssh", "host": "-oProxyCommand=x"}, "host is '-oProxyCommand=x'"),
        ({"power": "lots"}, "power is 'lots'"),
        ({"meter": "eye"}, "meter is 'eye'; known"),
    ],
)
def test_a_wrong_answer_is_named_and_nothing_is_written(answers: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        make(tmp_path, ask=Answers(**answers))
    assert not list(tmp_path.iterdir())


class Wire:
    """A transport of somebody's own."""

    keys: Mapping[str, type] = {"socket": str, "host": str}
    named_by = "socket"
    setting_notes: Mapping[str, str] = {"socket": "the number on the rack"}

    def __init__(self, settings: Mapping[str, Option]) -> None:
        self.board = str(settings["socket"])


def test_a_transport_of_ones_own_is_asked_for_what_names_a_board_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_REGISTERED", {"transports": {"a-wire": Wire}})
    answers = Answers(where="a-wire", socket="7")
    device = make(tmp_path, given=NewDeviceOptions(runtime="onnxruntime", meter="none"), ask=answers)
    assert device.connection["socket"] == "7"
    assert "socket (the number on the rack)" in answers.asked
    assert "  # the number on the rack\n" in (tmp_path / "board.toml").read_text()


def test_a_host_means_ssh_even_if_another_transport_has_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hosts(Wire):
        named_by = "host"

    monkeypatch.setattr(registry, "_REGISTERED", {"transports": {"a-wire": Hosts}})
    device = make(
        tmp_path, given=NewDeviceOptions(host="pi@there", runtime="onnxruntime", python="python3", meter="none")
    )
    assert device.connection["transport"] == "ssh"


# ---------------------------------------------------------------- refusals


def test_a_file_that_is_there_is_kept_unless_forced(tmp_path: Path) -> None:
    make(tmp_path, given=NewDeviceOptions(threads=2))
    with pytest.raises(ConfigError, match="--force"):
        make(tmp_path, given=NewDeviceOptions(threads=3))
    assert load_device(tmp_path / "board.toml").threads == 2
    assert make(tmp_path, given=NewDeviceOptions(threads=3), force=True).threads == 3


@pytest.mark.parametrize("name", ["", "../board", "a b", "-x", "cpu", "cpu.toml"])
def test_a_name_that_cannot_be_or_is_taken_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        make(tmp_path, name)


@pytest.mark.parametrize(
    "given",
    [
        NewDeviceOptions(like="no-such-device"),
        NewDeviceOptions(host="x", connection={"prot": 22}),
        NewDeviceOptions(transport="local", host="x"),
        NewDeviceOptions(runtime="no-such-runtime"),
        NewDeviceOptions(power_w=-1.0),
        NewDeviceOptions(meter="no-such-meter"),
        NewDeviceOptions(threads=-1),
    ],
)
def test_a_wrong_option_is_refused_and_nothing_is_written(given: NewDeviceOptions, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, UnknownNameError)):
        make(tmp_path, given=given)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- looking


def test_what_the_runtime_says_it_runs_on_is_noted_once(tmp_path: Path) -> None:
    first = make(tmp_path, "first", given=NewDeviceOptions(like="fake", transport="local"), look=True)
    assert "Seen: simulated processor, fake 1" in first.known
    again = make(tmp_path, "again", given=NewDeviceOptions(like=str(tmp_path / "first.toml")), look=True)
    assert again.known == first.known


def test_a_board_that_does_not_answer_is_described_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hwnas.measure import Worker

    def refusing(self: Worker) -> None:
        assert float(self.device.connection["reconnect_s"]) < 10  # nobody waits minutes for a board that is off
        raise HwnasError("no route to host")

    monkeypatch.setattr(Worker, "context", refusing)
    console = ReadConsole()
    device = make(tmp_path, given=PI, look=True, console=console)
    assert "no route to host" in console.said
    assert "reconnect_s" not in device.connection
