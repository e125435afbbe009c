"""Odd commands, configurations and descriptions: each ends in one line and status 2 to 4, or is right for a reason.

They are made systematically: every key of a configuration and of a description, and every option of every command, with
every odd value; files as other systems save them; odd places. Stages stop once they have checked what they were given.
A few are tried as processes in odd surroundings. It must never know what a stage would do.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from _common import Benchmark, Figure, Outcome, script

# ---------------------------------------------------------------- what is odd

# as TOML; what a key takes of it is in TAKEN
VALUES = (
    *('""', '" "', '"x"', '"a\\u0000b"', '"ü日本"', '"\\u001b[31m"', f'"{"x" * 5000}"', '"-1"', "'1 ms'"),
    *("true", "0", "-1", "1", "3", "0.5", "1.5", "-0.0", "1e-320", "1e308", "nan", "inf", "-inf", "1e400"),
    *("18446744073709551616", "9223372036854775807", "9" * 400, "0x" + "f" * 5000, "1979-05-27", "07:32:00"),
    *("[]", "[[]]", '[""]', "[1, 'a']", "[nan]", "[0]", "[-1]", "{}", "{a = 1}", "[{a = 1}]"),
)
WORDS = ("", " ", "\t", "x\0y", "\udcff", "-1", "nan", "=", "a=", "=b", "a=b=c", "x" * 300, "x" * 5000, "{}", "ü日本")

_POSITIVE_FLOATS = {"1", "3", "0.5", "1.5", "1e-320", "1e308", "18446744073709551616", "9223372036854775807"}
_FLOATS_64 = _POSITIVE_FLOATS - {"18446744073709551616"}  # as a description takes them
_COUNTS = {"1", "3"}
_SEEDS = {"0", "1", "3", "9223372036854775807"}
_SHARES = {"0.5", "1e-320"}
_FROM_0 = {"0", "-0.0", *_SHARES}
_TEXTS = {'"x"', '"ü日本"', '"\\u001b[31m"', '"-1"', "'1 ms'"}
# key -> odd values that it takes, and rightly: they are what it is for
TAKEN: Mapping[str, set[str]] = {
    "data.seed": _SEEDS,
    "data.validation_fraction": {"0.5", "1e-320"},  # one of each class at least
    "data.test_fraction": {"0.5", "1e-320"},
    "space.se": {"true"},
    "space.channel_divisor": _COUNTS,
    "train.n_random": {"0", *_COUNTS},
    "train.steps": _COUNTS,
    "train.epochs": {"1", "3", "0.5", "1.5", "1e-320"},
    "train.batch_size": _COUNTS,
    "train.learning_rate": _POSITIVE_FLOATS,
    "train.warmup_fraction": _FROM_0,
    "train.weight_decay": {"0", "-0.0", *_POSITIVE_FLOATS},
    "train.label_smoothing": _FROM_0,
    "train.ema_decay": _FROM_0,
    "train.seed": _SEEDS,
    "train.threads": {"1"},
    "train.checkpoint_every_s": _POSITIVE_FLOATS,
    "device.threads": _COUNTS,
    "profile.confidence": {"0.5"},
    "profile.rounds": _COUNTS,
    "profile.tables": _TEXTS,
    "search.n_trials": _COUNTS,
    "search.population_size": {"3"},
    "search.seed": _SEEDS,
    "search.validation_samples": _COUNTS,
    "search.recalibration_samples": _COUNTS,
    "search.calibration_samples": _COUNTS,
    **{f"limits.{m}": _POSITIVE_FLOATS for m in ("latency_ms", "size_bytes", "macs", "parameters")},
    **{f"limits.{m}": _POSITIVE_FLOATS for m in ("peak_memory_bytes", "memory_bytes", "energy_mj")},
    "limits.latency_fraction": {"1", "0.5", "1.5", "1e-320"},
    "deploy.tolerance": _FROM_0,
    "deploy.finetune_steps": {"0", *_COUNTS},
    "deploy.finetune_learning_rate": _POSITIVE_FLOATS,
    "deploy.candidates": _COUNTS,
    "deploy.test_samples": _COUNTS,
    "deploy.torch_program": {"true"},
    "output.folder": _TEXTS,
    "budgets": {"[]"},  # none
}
DESCRIPTION_KEYS = (
    *(
        "schema",
        "runtime",
        "threads",
        "cores",
        "precisions",
        "description",
        "known",
        "unknown",
        "options",
        "connection",
    ),
    *("energy", "limits", "options.x", "options.noise", "options.speed", "options.seed", "connection.transport"),
    *("connection.host", "energy.meter", "energy.power_w", "energy.idle_w", "limits.size_bytes", "limits.memory_bytes"),
)
DESCRIBED: Mapping[str, set[str]] = {
    "schema": {"1"},
    "threads": _COUNTS,
    "cores": {"[]", "[0]"},
    **{key: {'""', '" "', '"a\\u0000b"', *_TEXTS, f'"{"x" * 5000}"'} for key in ("description", "known", "unknown")},
    **{key: {"{}"} for key in ("options", "connection", "energy", "limits")},
    "options.noise": {"0", "-0.0", *_FLOATS_64},
    "options.speed": _FLOATS_64,
    "options.seed": {"0", "1", "3", "-1", "9223372036854775807"},
    "energy.meter": {'""'},
    "energy.power_w": _FLOATS_64,
    "energy.idle_w": {"0", "-0.0", *_FLOATS_64},
    "limits.size_bytes": _FLOATS_64,
    "limits.memory_bytes": _FLOATS_64,
}
FILES: Mapping[str, tuple[bytes, bool]] = {  # content -> whether it can be read
    "empty": (b"", True),
    "comment alone": (b"# nothing", True),
    "byte order mark": (b"\xef\xbb\xbf[train]\nsteps = 2\n", True),
    "CRLF": (b"[train]\r\nsteps = 2\r\n", True),
    "CR": (b"[train]\rsteps = 2\r", False),
    "UTF-16": ("[train]\nsteps = 2\n".encode("utf-16"), False),
    "UTF-16 without mark": ("[train]\nsteps = 2\n".encode("utf-16-le"), False),
    "UTF-32": ("[train]\nsteps = 2\n".encode("utf-32"), False),
    "Latin-1": (b"[data]\nsource = 'npz:f\xfcr.npz'\n", False),
    "NUL": (b"[train]\nsteps = 2\n\0", False),
    "key twice": (b"[train]\nsteps = 2\nsteps = 2\n", False),
    "section twice": (b"[train]\nsteps = 2\n[train]\nseed = 1\n", False),
    "backslashes": (b'[data]\nsource = "C:\\data\\images"\n', False),
    "comma": (b"[limits]\nlatency_ms = 2,5\n", False),
    "unit": (b"[limits]\nlatency_ms = 2 ms\n", False),
    "capital section": (b"[Limits]\nlatency_ms = 2\n", False),
    "unknown section": (b"[nothing]\nx = 2\n", False),
    "section as value": (b"train = 3\n", False),
    "sections as list": (b"[[train]]\nsteps = 3\n", False),
    "brackets": (b"x = " + b"[" * 20_000, False),
    "dots": (b"a" + b".a" * 3000 + b" = 1", False),
    "huge": (b"# " + b"x" * (2 << 20), False),
    "JSON": (b'{"train": {"steps": 2}}', False),
    "YAML": (b"train:\n  steps: 2\n", False),
    "binary": (bytes(range(256)), False),
    "escape sequences": (b'[data]\nsource = "\x1b]0;x\x07"\n', False),
}


# ---------------------------------------------------------------- one of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """One odd command.

    Attributes:
        kind: what is odd about it.
        arguments: of the command.
        taken: whether it is right, so that it ends with 0.
        unprivileged: run as somebody who may not read what he does not own.
    """

    kind: str
    arguments: tuple[str, ...]
    taken: bool = False
    unprivileged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a command ended: its status, what it said, and whether that was a traceback."""

    status: int
    said: str
    traceback: bool = False


def fault(odd: Odd, ending: Ending) -> str:
    """What is wrong with the end of an odd command; empty if nothing is."""
    if ending.traceback or "Traceback" in ending.said:
        return "traceback"
    if ending.status == 0:
        return "" if odd.taken else "accepted"
    if ending.status not in (2, 3, 4):
        return "status"
    if odd.taken:
        return "refused"
    lines = [line for line in ending.said.splitlines() if not line.startswith("warning: ")]
    return "" if len(lines) == 1 and lines[0].startswith("error: ") and len(lines[0]) > 20 else "lines"


def configurations(folder: Path) -> Iterator[Odd]:
    """Every key with every odd value, and files as people save them."""
    from hwnas.config import Config

    for section, values in Config():
        if values is None:
            continue
        keys = [f"{section}.{key}" for key in type(values).model_fields] if section != "budgets" else ["budgets"]
        for key in keys:
            for i, value in enumerate(VALUES):
                path = folder / f"{key}.{i}.toml"
                path.write_text(f"{key} = {value}\n", encoding="utf-8")
                yield Odd(kind="configuration", arguments=("train", str(path)), taken=value in TAKEN.get(key, set()))
        near = keys[0][:-1] + "z"
        yield Odd(kind="configuration", arguments=("train", "--set", f"{near}=1"))
    for name, (content, taken) in FILES.items():
        path = folder / f"{name}.toml"
        path.write_bytes(content)
        yield Odd(kind="file", arguments=("train", str(path)), taken=taken)


def descriptions(folder: Path) -> Iterator[Odd]:
    """Every key of a device's description with every odd value, and files as people save them."""
    for key in DESCRIPTION_KEYS:
        base = {"schema": "1", "runtime": '"fake"'}
        base.pop(key, None)
        for i, value in enumerate(VALUES):
            path = folder / f"{key}.{i}.toml"
            lines = [*(f"{k} = {v}" for k, v in base.items()), f"{key} = {value}", ""]
            path.write_text("\n".join(lines), encoding="utf-8")
            yield Odd(
                kind="description", arguments=("devices", "show", str(path)), taken=value in DESCRIBED.get(key, set())
            )
    for name, (content, _) in FILES.items():
        path = folder / f"file {name}.toml"
        path.write_bytes(content)
        yield Odd(kind="file", arguments=("devices", "show", str(path)))  # none has a schema


def places(folder: Path) -> dict[str, str]:
    """Name -> an odd place, made in a folder."""
    (folder / "file").write_text("", encoding="utf-8")
    (folder / "empty").mkdir()
    (folder / "loop").symlink_to("loop")
    (folder / "closed").mkdir()
    (folder / "closed").chmod(0)
    return {
        "missing": str(folder / "none" / "x"),
        "below a file": str(folder / "file" / "x"),
        "a loop": str(folder / "loop"),
        "below a loop": str(folder / "loop" / "x"),
        "too long": str(folder / ("x" * 300)),
        "too deep": str(folder.joinpath(*["xxxxxxxxxx"] * 500)),
        "a NUL": f"{folder}/a\0b",
        "no such home": "~no-such-user/x",
        "/dev/null": "/dev/null/x",
        "closed": str(folder / "closed" / "x"),
    }


def reading(folder: Path) -> Iterator[Odd]:
    """Commands that read from odd places."""
    odd = places(folder)
    commands: tuple[tuple[str, ...], ...] = (
        *(("run",), ("train",), ("profile",), ("search",), ("export",), ("report",), ("verify",), ("query",)),
        *(("devices", "show"), ("devices", "audit"), ("agent", "--check")),
    )
    for command in commands:
        ending = ".toml" if command[0] in ("devices", "agent") else ""
        for name, place in {**odd, "a file": str(folder / "file"), "a folder": str(folder / "empty")}.items():
            if name == "a file" and command[0] in ("run", "train", "profile", "search", "export", "report"):
                continue  # an empty configuration
            unprivileged = name == "closed"
            yield Odd(kind="place", arguments=(*command, place + ending), unprivileged=unprivileged)
    for source in ("npz", "folder", "idx"):
        for place in odd.values():
            yield Odd(kind="place", arguments=("train", "--set", f"data.source={source}:{place}"))
    for device in odd.values():
        yield Odd(kind="place", arguments=("profile", "--set", f"device.name={device}.toml"))


def writing(folder: Path) -> Iterator[Odd]:
    """Commands that write to odd places."""
    odd = {**places(folder), "a file": str(folder / "file")}
    for name in ("missing", "closed"):
        odd.pop(name)  # what is missing is made
    for place in odd.values():
        yield Odd(kind="place", arguments=("train", "--output", place))
        yield Odd(kind="place", arguments=("profile", "--output", place))
        yield Odd(kind="place", arguments=("devices", "new", "x", "--yes", "--offline", "--output", place))
        yield Odd(kind="place", arguments=("devices", "audit", "fake", "--output", place))
        yield Odd(
            kind="place",
            arguments=("agent", "--write", f"{place}/x" if place.endswith("file") else place),
            taken=place.endswith("/loop"),
        )  # in its place


# an option's odd words that it takes, and rightly
_NAMED = {"-1", "nan", "=", "a=", "=b", "a=b=c", "x" * 300, "{}", "ü日本", "x" * 5000}
WORDS_TAKEN: Mapping[str, set[str]] = {
    "--description": _NAMED,
    "--python": _NAMED,
    "--host": {"nan"},  # a name as any other
    "--serial": {"nan"},
    "--output": {"-1", "nan", "=", "a=", "=b", "a=b=c", "{}", "ü日本"},
    "--write": {"-1", "nan", "=", "a=", "=b", "a=b=c", "{}", "ü日本", "\udcff"},
}
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "devices new": ("board", "--yes", "--offline", "--force"),
    "devices show": ("cpu",),
    "devices audit": ("fake",),
    "verify": ("none",),
    "query": ("none",),
}


def options() -> Iterator[Odd]:
    """Every option of every command with every odd word, without a value, and options that do not exist."""

    def walk(group: Any, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        for name, command in group.commands.items():
            yield (*names, name), command
            if hasattr(command, "commands"):
                yield from walk(command, (*names, name))

    for names, command in walk(commands(), ()):
        words = (*names, *REQUIRED.get(" ".join(names), ()))
        yield Odd(kind="option", arguments=(*words, "--no-such-option"))
        yield Odd(kind="option", arguments=(*words, *["more"] * 9))
        for parameter in command.params:
            option = parameter.opts[-1]
            if not option.startswith("--") or getattr(parameter, "is_flag", False) or option == "--help":
                continue
            yield Odd(kind="option", arguments=(*words, option))
            for word in WORDS:
                taken = word in WORDS_TAKEN.get(option, set())
                if names == ("devices", "new") and option == "--python":
                    taken = False  # of a board, and this is none
                if names == ("devices", "new") and (option, word) == ("--output", "\udcff"):
                    taken = True  # a folder's name, which no file of ours holds
                yield Odd(kind="option", arguments=(*words, option, word), taken=taken)


# ---------------------------------------------------------------- how they are tried


class _Checked(Exception):  # noqa: N818  (no error)
    """A stage has checked what it was given, and would begin its work."""


@contextlib.contextmanager
def checking_only() -> Iterator[None]:
    """Let every stage end once it has checked its configuration, and nothing be measured."""
    from hwnas import fleet, pipeline
    from hwnas.audit import auditing
    from hwnas.pipeline.memory import refuse_too_large
    from hwnas.torch_process import prepare_torch
    from hwnas.workspace import Workspace

    def stage(config: Any, *, console: Any) -> Outcome:
        parts = [config.part(name) for name in config.device.all]
        for part in parts:
            work = Workspace(part)
            _ = work.device, work.training_space, work.space
        prepare_torch(config.train.threads)
        refuse_too_large(Workspace(config))
        with Workspace(config).alone("training"):
            Workspace(config).begin()
        return Outcome(title="checked", figures=(), notes=())

    def measuring(*_: object, **__: object) -> object:
        raise _Checked

    with contextlib.ExitStack() as stack:
        for name in ("run_all", "train", "profile", "search", "export", "report"):
            stack.enter_context(mock.patch.object(pipeline, name, stage))
        for name in fleet.STAGES:
            stack.enter_context(mock.patch.object(fleet, name, stage))
        stack.enter_context(mock.patch.object(auditing, "Worker", measuring))
        yield


@contextlib.contextmanager
def unprivileged(wanted: bool) -> Iterator[None]:
    """As nobody, where this process may be that."""
    if not wanted or os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@cache
def commands() -> Any:
    """The commands as `hwnas` runs them, made once."""
    import typer

    from hwnas.cli import app

    return typer.main.get_command(app)


def tried(odd: Odd) -> Ending:
    """The end of a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        unprivileged(odd.unprivileged),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "stdin", io.StringIO()),
    ):
        try:
            commands().main(args=list(odd.arguments), prog_name="hwnas")
        except SystemExit as e:
            return Ending(status=int(e.code or 0), said=err.getvalue())
        except _Checked:
            return Ending(status=0, said="")
        except Exception as e:  # noqa: BLE001  what no command may end with
            return Ending(status=1, said=repr(e), traceback=True)
    return Ending(status=0, said=err.getvalue())


SURROUNDINGS: Mapping[str, tuple[dict[str, str | None], str]] = {
    "C locale": ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, ""),
    "ASCII terminal": ({"PYTHONIOENCODING": "ascii"}, ""),
    "one column": ({"COLUMNS": "1"}, ""),
    "no home": ({"HOME": None, "XDG_CACHE_HOME": None}, ""),
    "home that is missing": ({"HOME": "/nonexistent"}, ""),
    "no temporary folder": ({"TMPDIR": "/nonexistent"}, ""),
    "dumb terminal": ({"TERM": "dumb", "NO_COLOR": "1"}, ""),
    "closed standard input": ({}, "<&-"),
    "closed standard output": ({}, ">&-"),
}


def tried_as_process(words: Sequence[str], changes: Mapping[str, str | None], redirection: str, cwd: Path) -> Ending:
    """The end of a command as a process of its own, in odd surroundings."""
    environment = {**os.environ, **{k: v for k, v in changes.items() if v is not None}}
    for name in (k for k, v in changes.items() if v is None):
        environment.pop(name, None)
    command = ["bash", "-c", f'"$0" -m hwnas "$@" {redirection}', sys.executable, *words]
    done = subprocess.run(command, capture_output=True, env=environment, cwd=cwd, timeout=120, check=False)
    return Ending(status=done.returncode, said=done.stderr.decode(errors="replace"))


def processes(*, smoke: bool) -> Iterator[tuple[Odd, dict[str, str | None], str]]:
    """Commands in odd surroundings: one that is right, and one that is not."""
    for name, (changes, redirection) in list(SURROUNDINGS.items())[: 1 if smoke else None]:
        for words, taken in ((("devices",), True), (("train", "nö.toml"), False)):
            yield Odd(kind=f"process: {name}", arguments=words, taken=taken), changes, redirection


def main(argv: Sequence[str] | None = None) -> int:
    """Try them all, and tell which did not end as they should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="try each n-th only (%(default)s)")
    benchmark = Benchmark("odd_commands", parser, argv)
    every = 60 if benchmark.smoke else benchmark.options.every
    faults: list[dict[str, object]] = []
    counts: Counter[str] = Counter()

    def judge(odd: Odd, ending: Ending) -> None:
        counts[odd.kind.partition(":")[0]] += 1
        found = fault(odd, ending)
        if found:
            words = [word if len(word) < 200 else f"{word[:60]}..." for word in odd.arguments]
            faults.append(
                {
                    "fault": found,
                    "kind": odd.kind,
                    "arguments": words,
                    "status": ending.status,
                    "said": ending.said[-300:],
                }
            )

    with tempfile.TemporaryDirectory(prefix="hwnas-odd-") as temporary, checking_only():
        top = Path(temporary).resolve()
        top.chmod(0o755)
        before = Path.cwd()
        makers: Mapping[str, Callable[[Path], Iterator[Odd]]] = {
            "configurations": configurations,
            "descriptions": descriptions,
            "reading": reading,
            "writing": writing,
            "options": lambda _: options(),
        }
        for name, make in makers.items():
            folder, working = top / name, top / f"{name}, working"
            folder.mkdir()
            working.mkdir()
            os.chdir(working)
            try:
                with benchmark.console.progress(name) as progress:
                    made = list(make(folder))[::every]
                    for i, odd in enumerate(made):
                        os.chdir(tempfile.mkdtemp(dir=working))
                        judge(odd, tried(odd))
                        progress(i + 1, len(made), "")
            finally:
                os.chdir(before)
        for odd, changes, redirection in processes(smoke=benchmark.smoke):
            judge(odd, tried_as_process(odd.arguments, changes, redirection, top))
    by_fault = Counter(str(f["fault"]) for f in faults)
    return benchmark.publish(
        [
            Figure(name="odd_commands", value=sum(counts.values()), at_least=1000),
            *(Figure(name=f"of_{kind}", value=n) for kind, n in counts.items()),
            *(Figure(name=name, value=by_fault[name], at_most=0) for name in ("traceback", "status", "lines")),
            *(Figure(name=name, value=by_fault[name], at_most=0) for name in ("accepted", "refused")),
        ],
        details={"faults": faults},
    )


if __name__ == "__main__":
    script(main)
