"""One thin function per command: read what was given, call the pipeline, show the result.

Must never know anything but the pipeline, the configuration, the listings and the doctor; each is loaded when a
command needs it, so that `hwnas --help`, `query`, `devices`, `spaces` and `doctor` load neither torch nor a runtime.
"""

from __future__ import annotations

import math
import tomllib
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas.errors import ConfigError, HwnasError

if TYPE_CHECKING:
    from hwnas._console import Console
    from hwnas.config import Config

_INTERRUPTED = 130

app = typer.Typer(
    name="hwnas",
    help="Train one supernet, then turn any device and budget into a verified, quantized network.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigArgument = Annotated[
    str, typer.Argument(metavar="[CONFIG]", help="A TOML file or the folder of a run; without it: the digits.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value: --set train.steps=2000. May be repeated."),
]
OutputOption = Annotated[str, typer.Option("--output", metavar="FOLDER", help="Where results are kept.")]
LimitOption = Annotated[
    list[str] | None,
    typer.Option("--limit", metavar="METRIC=VALUE", help="At most so much: --limit latency_ms=2. May be repeated."),
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="NAME", help="Only this one of the run's devices; without it: all.")
]
JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else there.")]
DebugFlag = Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")]


@contextmanager
def _speaking(*, json_output: bool, debug: bool) -> Iterator[Console]:
    """The console of a command; turns errors into one line and an exit status."""
    from hwnas._console import Console

    console = Console(json_output=json_output)
    try:
        yield console
    except KeyboardInterrupt:
        console.error("interrupted; run the same command again to go on")
        raise typer.Exit(_INTERRUPTED) from None
    except BrokenPipeError:  # whoever read our output has seen enough
        raise
    except (HwnasError, OSError) as e:
        if debug:
            traceback.print_exc()
        if isinstance(e, HwnasError):
            console.failure(e)
            raise typer.Exit(e.exit_status) from None
        console.error(f"{e}; run the same command again to go on")  # a full disk, a folder without permission
        raise typer.Exit(1) from None


def _configured(
    config: str, *, values: list[str] | None, output: str, limits: list[str] | None = None, device: str = ""
) -> Config:
    from hwnas.config import Config, load_config

    loaded = load_config(config) if config else Config.default_digits()
    changes = dict(_assignment(text, what="--set", example="train.steps=2000") for text in values or ())
    parsed: dict[str, object] = {key: _toml_value(value) for key, value in changes.items()}
    if output:
        parsed["output.folder"] = output
    loaded = loaded.replaced(parsed) if parsed else loaded
    loaded = loaded.with_limits(_limits(limits)) if limits else loaded
    return loaded.only(device) if device else loaded


def _assignment(text: str, *, what: str, example: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ConfigError(f"{what} {text!r} is not of the form NAME=VALUE, for example {what} {example}")
    return name.strip(), value.strip()


def _toml_value(text: str) -> object:
    """A value as TOML would have it; text that is no TOML value is a string without its quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _limits(given: list[str] | None) -> dict[str, float]:
    limits: dict[str, float] = {}
    for text in given or ():
        name, value = _assignment(text, what="--limit", example="latency_ms=2")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ConfigError(f"--limit {text!r}: {value!r} is not a number; write for example size_bytes=300e3")
        if name in limits:
            raise ConfigError(f"--limit {name} is given twice")
        limits[name] = number
    return limits


# ---------------------------------------------------------------- the whole way and its stages


def _stage(name: str, subject: Config | Path, *, console: Console) -> None:
    from hwnas import pipeline  # now that the configuration was found good: most stages load torch

    result = getattr(pipeline, name)(subject, console=console)
    console.result(result)
    if result.get("exit_status"):  # the result tells of failures too: of one device among several
        raise typer.Exit(result["exit_status"])


@app.command()
def run(
    config: ConfigArgument = "",
    *,
    limit: LimitOption = None,
    values: SetOption = None,
    output: OutputOption = "",
    device: DeviceOption = "",
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """The whole way: train, profile, search, export, verify, report."""
    with _speaking(json_output=json_output, debug=debug) as console:
        _stage(
            "run_all", _configured(config, limits=limit, values=values, output=output, device=device), console=console
        )


@app.command()
def train(
    config: ConfigArgument = "",
    *,
    values: SetOption = None,
    output: OutputOption = "",
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Train the supernet."""
    with _speaking(json_output=json_output, debug=debug) as console:
        _stage("train", _configured(config, values=values, output=output), console=console)


@app.command()
def profile(
    config: ConfigArgument = "",
    *,
    values: SetOption = None,
    output: OutputOption = "",
    device: DeviceOption = "",
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Measure the device: every distinct block, and whole networks to correct their sums."""
    with _speaking(json_output=json_output, debug=debug) as console:
        _stage("profile", _configured(config, values=values, output=output, device=device), console=console)


@app.command()
def search(
    config: ConfigArgument = "",
    *,
    limit: LimitOption = None,
    values: SetOption = None,
    output: OutputOption = "",
    device: DeviceOption = "",
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Look for the networks that trade accuracy against cost best within the limits."""
    with _speaking(json_output=json_output, debug=debug) as console:
        _stage(
            "search", _configured(config, limits=limit, values=values, output=output, device=device), console=console
        )


@app.command()
def export(
    config: ConfigArgument = "",
    *,
    limit: LimitOption = None,
    values: SetOption = None,
    output: OutputOption = "",
    device: DeviceOption = "",
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Export the best network that keeps the limits, measured, as a deployment."""
    with _speaking(json_output=json_output, debug=debug) as console:
        _stage(
            "export", _configured(config, limits=limit, values=values, output=output, device=device), console=console
        )


@app.command()
def report(
    config: ConfigArgument = "",
    *,
    values: SetOption = None,
    output: OutputOption = "",
    device: DeviceOption = "",
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Write the report of a run as one HTML page."""
    with _speaking(json_output=json_output, debug=debug) as console:
        _stage("report", _configured(config, values=values, output=output, device=device), console=console)


@app.command()
def verify(
    deployment: Annotated[Path, typer.Argument(metavar="DEPLOYMENT", help="The folder of a deployment.")],
    *,
    here: Annotated[bool, typer.Option("--here", help="This machine is the board: do not connect to it.")] = False,
    device: Annotated[
        str, typer.Option("--device", metavar="DEVICE", help="Your own description of the board: connect to that.")
    ] = "",
    trust: Annotated[
        bool, typer.Option("--trust", help="Connect to the board that the deployment's manifest names.")
    ] = False,
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Check that a deployment keeps its promises on its device; needs the runtime, not torch."""
    with _speaking(json_output=json_output, debug=debug) as console:
        from hwnas import pipeline

        console.result(pipeline.verify(deployment, console=console, here=here, trust=trust, device=device))


# ---------------------------------------------------------------- questions


@app.command()
def query(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="The folder of a run, or a study's file.")],
    *,
    limit: LimitOption = None,
    metric: Annotated[str, typer.Option(help="What to be best in.")] = "accuracy",
    top: Annotated[int, typer.Option(help="How many networks.")] = 1,
    device: Annotated[str, typer.Option("--device", metavar="NAME", help="Of a run for several devices: which.")] = "",
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """The best networks of a finished search within limits, at once."""
    with _speaking(json_output=json_output, debug=debug) as console:
        from hwnas._listings import best_networks

        console.result(best_networks(study, limits=_limits(limit), metric=metric, top=top, device=device))


# ---------------------------------------------------------------- what there is


devices_app = typer.Typer(
    no_args_is_help=False, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
)
app.add_typer(devices_app, name="devices")


@devices_app.callback(invoke_without_command=True)
def devices(context: typer.Context, *, json_output: JsonFlag = False, debug: DebugFlag = False) -> None:
    """The devices that are described; show, describe or audit one."""
    if context.invoked_subcommand is not None:
        if json_output or debug:  # they are the sub-command's own, and would be lost here
            raise typer.BadParameter(f"give --json and --debug after {context.invoked_subcommand!r}")
        return
    with _speaking(json_output=json_output, debug=debug) as console:
        from hwnas._listings import all_devices

        console.result(all_devices())


@devices_app.command("show")
def devices_show(
    name: Annotated[str, typer.Argument(metavar="DEVICE", help="A name, or the path of a description.")],
    *,
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """All that a description says."""
    with _speaking(json_output=json_output, debug=debug) as console:
        from hwnas._listings import one_device

        console.result(one_device(name))


@devices_app.command("audit")
def devices_audit(
    name: Annotated[str, typer.Argument(metavar="DEVICE", help="A name, or the path of a description.")],
    *,
    output: Annotated[
        str, typer.Option("--output", metavar="FOLDER", help="For results; by default latency_tables/DEVICE/audit.")
    ] = "",
    again: Annotated[bool, typer.Option("--again", help="Measure anew what was measured before.")] = False,
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """What a device does badly: measure operator choices, and say which to leave out."""
    with _speaking(json_output=json_output, debug=debug) as console:
        from hwnas.pipeline.auditing import audit

        console.result(audit(name, output=output, again=again, console=console))


@devices_app.command("new")
def devices_new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the device, and of its file NAME.toml.")],
    *,
    like: Annotated[str | None, typer.Option(metavar="DEVICE", help="Begin with this description.")] = None,
    runtime: Annotated[str | None, typer.Option(help="What runs the networks there.")] = None,
    threads: Annotated[int | None, typer.Option(help="Of the runtime.")] = None,
    precision: Annotated[list[str] | None, typer.Option(help="fp32 or int8. May be repeated.")] = None,
    transport: Annotated[str | None, typer.Option(help="How it is reached: local, ssh, adb.")] = None,
    host: Annotated[str | None, typer.Option(help="For ssh: pi@board.local")] = None,
    serial: Annotated[str | None, typer.Option(help="For adb: as `adb devices` shows it.")] = None,
    python: Annotated[str | None, typer.Option(help="Python on the board, which has the runtime.")] = None,
    option: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Of the runtime.")] = None,
    connection: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="port=2222, ...")] = None,
    power_w: Annotated[float | None, typer.Option(help="Stated power while a network runs.")] = None,
    idle_w: Annotated[float | None, typer.Option(help="Stated power while nothing runs.")] = None,
    meter: Annotated[str | None, typer.Option(help="Energy meter, or none.")] = None,
    description: Annotated[str | None, typer.Option(help="For lists.")] = None,
    output: Annotated[str, typer.Option("--output", metavar="FOLDER", help="Where to write it.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Do not start its runtime to look at it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; take the defaults.")] = False,
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Describe a device of your own, from flags and by asking for the rest."""
    with _speaking(json_output=json_output, debug=debug) as console:
        from hwnas.pipeline.describing import Wishes, new_device

        wishes = Wishes(
            like=like,
            runtime=runtime,
            threads=threads,
            precisions=tuple(precision) if precision else None,
            transport=transport,
            host=host,
            serial=serial,
            python=python,
            options=_settings(option, what="--option", example="provider=CPUExecutionProvider"),
            connection=_settings(connection, what="--connection", example="port=2222"),
            power_w=power_w,
            idle_w=idle_w,
            meter=meter,
            description=description,
        )
        ask = None if yes or json_output else _ask
        result = new_device(name, wishes=wishes, output=output, force=force, look=not offline, ask=ask, console=console)
        console.result(result)


def _settings(given: list[str] | None, *, what: str, example: str) -> dict[str, str | int | float | bool]:
    pairs = (_assignment(text, what=what, example=example) for text in given or ())
    settings: dict[str, str | int | float | bool] = {}
    for key, text in pairs:
        value = _toml_value(text)
        settings[key] = value if isinstance(value, str | int | float | bool) else text
    return settings


def _ask(question: str, default: str) -> str:
    """On standard error, so that standard output keeps the result."""
    answer: str = typer.prompt(question, default=default, err=True)
    return answer


@app.command()
def spaces(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Show this one's choices.")] = "",
    *,
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """The search spaces, or the choices of one."""
    with _speaking(json_output=json_output, debug=debug) as console:
        from hwnas._listings import all_spaces, one_space

        console.result(one_space(name) if name else all_spaces())


@app.command()
def doctor(*, json_output: JsonFlag = False, debug: DebugFlag = False) -> None:
    """What works on this machine, and what to install."""
    with _speaking(json_output=json_output, debug=debug) as console:
        from hwnas.doctor import diagnose

        result = diagnose()
        console.result(result)
        if not result["ready"]:
            raise typer.Exit(ConfigError.exit_status)


@app.command()
def agent(
    *,
    check: Annotated[
        str, typer.Option("--check", metavar="DEVICE", help="Connect to this device's board and look at it.")
    ] = "",
    write: Annotated[
        Path | None, typer.Option("--write", metavar="FILE", help="Write the agent, to be put on a board by hand.")
    ] = None,
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """The program that measures on a board: check a board, or write the program to a file."""
    with _speaking(json_output=json_output, debug=debug) as console:
        from hwnas.doctor import diagnose_board, write_agent

        if bool(check) == (write is not None):
            raise ConfigError("give either --check DEVICE or --write FILE")
        result = write_agent(write) if write is not None else diagnose_board(check)
        console.result(result)
        if not result.get("ready", True):
            raise typer.Exit(ConfigError.exit_status)


def _show_version(wanted: bool) -> None:
    if wanted:
        from hwnas import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train one supernet, then turn any device and budget into a verified, quantized network."""


def main() -> None:
    """The entry point of the command `hwnas`."""
    app()
