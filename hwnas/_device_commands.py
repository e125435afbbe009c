"""The commands about devices: `hwnas devices`, and `show`, `audit` and `new` under it.

As `hwnas/cli.py`, of which it is a part: one thin function per command, which knows the rooms `audit` and `describe`.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hwnas._arguments import DebugFlag, JsonFlag, finite, given, names_a_subcommand, settings
from hwnas._commands import speaking
from hwnas._completion import device_names
from hwnas.errors import ConfigError

devices_app = typer.Typer(
    no_args_is_help=False, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
)


@devices_app.callback(invoke_without_command=True)
def devices(context: typer.Context, *, json_output: JsonFlag = False, debug: DebugFlag = False) -> None:
    """The devices that are described; show, describe or audit one."""
    if names_a_subcommand(context, json_output=json_output, debug=debug):
        return
    with speaking(json_output=json_output, debug=debug) as console:
        from hwnas.describe import all_devices

        console.result(all_devices())


@devices_app.command("show")
def devices_show(
    name: Annotated[
        str, typer.Argument(metavar="DEVICE", help="A name, or the path of a description.", callback=given)
    ],
    *,
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """All that a description says."""
    with speaking(json_output=json_output, debug=debug) as console:
        from hwnas.describe import one_device

        console.result(one_device(name))


@devices_app.command("audit")
def devices_audit(
    name: Annotated[
        str, typer.Argument(metavar="DEVICE", help="A name, or the path of a description.", callback=given)
    ],
    *,
    space: Annotated[
        str | None,
        typer.Option(
            "--space", metavar="SPACE", help="Audit its kinds of block; by default all that are known.", callback=given
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", metavar="FOLDER", help="For results; by default latency_tables/DEVICE/audit.", callback=given
        ),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure anew what was measured before.")] = False,
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """What a device does badly: measure operator choices, and say which to leave out."""
    with speaking(json_output=json_output, debug=debug) as console:
        from hwnas.audit import audit

        console.result(audit(name, space=space or "", output=output or "", again=again, console=console))


def audit_file(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A .tflite file.", callback=given)],
    *,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="DEVICE",
            help="Time its operators there: cpu-litert, ...",
            callback=given,
            autocompletion=device_names,
        ),
    ] = None,
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """What a .tflite file is made of, and where its time goes on a device."""
    with speaking(json_output=json_output, debug=debug) as console:
        from hwnas.audit import audit_file as looked_into

        console.result(looked_into(file, device=device or "", console=console))


def _text(description: str, *, flag: str = "", metavar: str | None = None) -> Any:
    """An option that takes a text, or several where its type says so."""
    names = (flag,) if flag else ()
    return typer.Option(*names, help=description, metavar=metavar, callback=given)


def _number(description: str) -> Any:
    return typer.Option(help=description, callback=finite)


# as many options as a description has fields: whoever scripts it names each by itself
@devices_app.command("new")
def devices_new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Of the device, and of its file NAME.toml.", callback=given)
    ],
    *,
    like: Annotated[str | None, _text("Begin with this description.", metavar="DEVICE")] = None,
    runtime: Annotated[str | None, _text("What runs the networks there.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the runtime.")] = None,
    precision: Annotated[
        list[str] | None, _text("What it may compute in: fp32, int8, fp16, ... May be repeated.")
    ] = None,
    transport: Annotated[str | None, _text("How it is reached: local, ssh, adb.")] = None,
    host: Annotated[str | None, _text("For ssh: pi@board.local. Boards of a kind: pi@a,pi@b")] = None,
    serial: Annotated[str | None, _text("For adb: as `adb devices` shows it. Boards of a kind: A,B")] = None,
    python: Annotated[str | None, _text("Python on the board, which has the runtime.")] = None,
    option: Annotated[list[str] | None, _text("Of the runtime.", metavar="KEY=VALUE")] = None,
    connection: Annotated[list[str] | None, _text("port=2222, ...", metavar="KEY=VALUE")] = None,
    power_w: Annotated[float | None, _number("Stated power while a network runs.")] = None,
    idle_w: Annotated[float | None, _number("Stated power while nothing runs.")] = None,
    meter: Annotated[str | None, _text("Energy meter, or none.")] = None,
    description: Annotated[str | None, _text("For lists.")] = None,
    output: Annotated[str | None, _text("Where to write it.", flag="--output", metavar="FOLDER")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Do not start its runtime to look at it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; take the defaults.")] = False,
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Describe a device of your own, from flags and by asking for the rest."""
    with speaking(json_output=json_output, debug=debug) as console:
        from hwnas.describe import NewDeviceOptions, new_device

        options = NewDeviceOptions(
            like=like,
            runtime=runtime,
            threads=threads,
            precisions=tuple(precision) if precision else None,
            transport=transport,
            host=host,
            serial=serial,
            python=python,
            options=settings(option, what="--option", example="provider=CPUExecutionProvider"),
            connection=settings(connection, what="--connection", example="port=2222"),
            power_w=power_w,
            idle_w=idle_w,
            meter=meter,
            description=description,
        )
        ask = None if yes or json_output else _ask
        result = new_device(
            name, given=options, output=output or "", force=force, look=not offline, ask=ask, console=console
        )
        console.result(result)


def _ask(question: str, default: str) -> str:
    """On standard error, so that standard output keeps the result."""
    try:
        answer: str = typer.prompt(question, default=default, err=True)
    except typer.Abort as e:
        if isinstance(e.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise ConfigError(f"nobody answers {question!r}; give it as an option, or take the defaults with --yes") from e
    return answer
