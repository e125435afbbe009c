"""One thin function per command: read what was given, call the room that does it, show the result.

Must never know anything but the rooms `pipeline`, `fleet`, `audit`, `catalogue`, `comparison`, `serve` and `describe`,
the configuration and the doctor. Each is loaded when a command needs it, so that `hwnas --help`, `query`, `devices`,
`spaces` and `doctor` load neither torch nor a runtime.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas._adapt_command import adapt
from hwnas._arguments import (
    DebugFlag,
    JsonFlag,
    LimitOption,
    OutputOption,
    SetOption,
    changes,
    given,
    numbers,
    read_architecture,
)
from hwnas._arguments import limits as parse_limits
from hwnas._commands import Commands, signals, speak_any_language, speaking, stdout_for_result
from hwnas._completion import device_names, strategy_names
from hwnas._device_commands import audit_file, devices_app
from hwnas._places import user_path
from hwnas._question_commands import query, serve
from hwnas._zoo_commands import zoo_app
from hwnas.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hwnas._console import Console
    from hwnas.config import Config
    from hwnas.results import Result

app = typer.Typer(
    name="hwnas",
    cls=Commands,
    help="Train one supernet, then turn any device and budget into a verified, quantized network.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="CONFIG",
        help="A TOML file or the folder of a run; without it: a supernet that ships (see `hwnas zoo`).",
        callback=given,
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="Only this one of the run's devices; without it: all.",
        callback=given,
        autocompletion=device_names,
    ),
]


# settings that ask for a supernet of one's own; those of [train] do, but for some
_OF_A_TRAINING = ("data.source", "space.preset", "model.", "train.")
_OF_ANY_RUN = {
    f"train.{name}" for name in ("batch_size", "checkpoint_every_s", "seed", "tensorboard", "threads", "watch_share")
}


def _configure(
    config: str | None,
    *,
    values: list[str] | None,
    output: str | None,
    limits: list[str] | None = None,
    device: str | None = None,
    any_device: bool = False,
    supernet: str | None = None,
    data: str | None = None,
    options: Mapping[str, tuple[str, object]] | None = None,
) -> Config:
    from hwnas.config import load_config

    changed = changes(values)
    asked_for = {*changed, *(key for key, value in (options or {}).values() if value is not None)}
    named = supernet if supernet is not None else str(changed.get("train.supernet") or "") or None
    loaded = load_config(config) if config else _without_file(named, data, asked_for)
    # options that stand for one value of the configuration
    asked = {
        "--output": ("output.folder", output or None),
        "--supernet": ("train.supernet", supernet),
        "--data": ("data.source", data),
    }
    for option, (key, value) in {**asked, **(options or {})}.items():
        if value is not None:
            if key in changed:
                raise ConfigError(f"give {option} or --set {key}, not both")
            changed[key] = value
    loaded = loaded.replaced(changed) if changed else loaded
    loaded = loaded.with_limits(parse_limits(limits)) if limits else loaded
    if device and any_device and not loaded.is_for(device):
        return loaded.part(device)
    return loaded.only(device) if device else loaded


def _without_file(supernet: str | None, data: str | None, asked_for: Iterable[str]) -> Config:
    """What a run is of that names no configuration: a supernet that ships, unless something is to be trained."""
    from hwnas.config import Config

    if supernet is not None:
        return Config.of_supernet(supernet)
    trains = any(key.startswith(_OF_A_TRAINING) and key not in _OF_ANY_RUN for key in asked_for)
    if data is None and not trains:
        return Config.quick_start()
    return Config.default_digits() if data in (None, "digits") else Config()


# ---------------------------------------------------------------- the whole way and its stages


def _end(result: Result, *, console: Console) -> None:
    """Show a result, and exit with its status: it may tell of failures too, as of one device among several."""
    console.result(result)
    if result.exit_status:
        raise typer.Exit(result.exit_status)


def _stage(name: str, config: Config, *, console: Console) -> None:
    from hwnas import fleet, pipeline  # now that the configuration was found good: most stages load torch

    room = fleet if config.is_fleet and name in fleet.STAGES else pipeline  # all devices share one training
    _end(getattr(room, name)(config, console=console), console=console)


@app.command()
def run(
    config: ConfigArgument = None,
    *,
    limit: LimitOption = None,
    values: SetOption = None,
    output: OutputOption = None,
    device: DeviceOption = None,
    supernet: Annotated[
        str | None,
        typer.Option(
            "--supernet",
            metavar="NAME",
            help="Train nothing: take one that is trained, zoo:NAME (see `hwnas zoo`) or a folder.",
            callback=given,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="SOURCE",
            help="Images: digits, folder:DIR?size=64, ...; `--data digits` alone trains a small supernet on those.",
            callback=given,
        ),
    ] = None,
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """The whole way: train, profile, search, export, verify, report."""
    with speaking(json_output=json_output, debug=debug) as console:
        asked = _configure(
            config, limits=limit, values=values, output=output, device=device, supernet=supernet, data=data
        )
        _stage("run_all", asked, console=console)


@app.command()
def train(
    config: ConfigArgument = None,
    *,
    start_from: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN",
            help="Begin with a trained supernet: the folder of a run, or zoo:NAME; it may have fewer classes, be "
            "narrower or shallower.",
            callback=given,
        ),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy",
            metavar="NAME",
            help="Which networks a step trains; see docs/training.md.",
            callback=given,
            autocompletion=strategy_names,
        ),
    ] = None,
    values: SetOption = None,
    output: OutputOption = None,
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Train the supernet."""
    with speaking(json_output=json_output, debug=debug) as console:
        options = {"--from": ("train.start_from", start_from), "--strategy": ("train.strategy", strategy)}
        _stage("train", _configure(config, values=values, output=output, options=options), console=console)


@app.command()
def profile(
    config: ConfigArgument = None,
    *,
    values: SetOption = None,
    output: OutputOption = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="NAME",
            help="Only this one of the run's devices, or another one, to ask the run about it; without it: all.",
            callback=given,
            autocompletion=device_names,
        ),
    ] = None,
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Measure the device: every distinct block, and whole networks and pairs of blocks to correct their sums."""
    with speaking(json_output=json_output, debug=debug) as console:
        asked = _configure(config, values=values, output=output, device=device, any_device=True)
        _stage("profile", asked, console=console)


@app.command()
def search(
    config: ConfigArgument = None,
    *,
    limit: LimitOption = None,
    values: SetOption = None,
    output: OutputOption = None,
    device: DeviceOption = None,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="Only the network that a linear model of the known accuracies predicts to be best within the limits, "
            "by integer programming; it is evaluated and joins the study.",
        ),
    ] = False,
    most: Annotated[
        str | None,
        typer.Option(
            "--most",
            metavar="WHAT",
            help="With --exact: the network with the most of accuracy (the default), macs or entropy; the last two "
            "need nothing but a profiled device.",
            callback=given,
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", metavar="N", help="Let so many evaluate at once.")] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray", metavar="ADDRESS", help="Evaluate on a Ray cluster: auto, HOST:PORT, local.", callback=given
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option("--storage", metavar="URL", help="A database whose studies other machines share.", callback=given),
    ] = None,
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Look for the networks that trade accuracy against cost best within the limits."""
    with speaking(json_output=json_output, debug=debug) as console:
        asked = _configure(
            config,
            limits=limit,
            values=values,
            output=output,
            device=device,
            options={
                "--workers": ("search.workers", workers),
                "--ray": ("search.ray", ray),
                "--storage": ("search.storage", storage),
            },
        )
        if most is not None and not exact:
            raise ConfigError("--most says what an exact search looks for: give --exact too")
        if not exact:
            _stage("search", asked, console=console)
            return
        from hwnas import pipeline

        if most in (None, asked.ranked_by):
            _end(pipeline.search_exact(asked, console=console), console=console)
        else:
            _end(pipeline.most_within(asked, most=most, console=console), console=console)


@app.command()
def export(
    config: ConfigArgument = None,
    *,
    limit: LimitOption = None,
    values: SetOption = None,
    output: OutputOption = None,
    device: DeviceOption = None,
    architecture: Annotated[
        str | None,
        typer.Option(
            "--architecture",
            metavar="FILE",
            help="Exactly this network: a JSON object of choices, as `hwnas query --json` tells it. With it, --device "
            "may be any that is profiled.",
            callback=given,
        ),
    ] = None,
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Export the best network that keeps the limits, measured, as a deployment."""
    with speaking(json_output=json_output, debug=debug) as console:
        if architecture is None:
            asked = _configure(config, limits=limit, values=values, output=output, device=device)
            _stage("export", asked, console=console)
            return
        wanted = read_architecture(architecture)
        part = _configure(config, limits=limit, values=values, output=output).part_for(device or "")
        from hwnas import pipeline

        _end(pipeline.export_network(part, wanted, console=console), console=console)


@app.command()
def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CONFIG",
            help="A TOML file or the folder of a run; several folders, or files of studies: their searches compared.",
            callback=given,
        ),
    ] = None,
    *,
    values: SetOption = None,
    output: OutputOption = None,
    device: DeviceOption = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            "--reference",
            metavar="METRIC=VALUE",
            help="For a comparison: the worst value that counts for the hypervolume. May be repeated.",
            callback=given,
        ),
    ] = None,
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Write the report of a run as one HTML page, or compare the searches of several runs on one."""
    with speaking(json_output=json_output, debug=debug) as console:
        if len(runs or ()) < 2:
            if reference:
                raise ConfigError("--reference is for a comparison: name two runs or more")
            config = runs[0] if runs else None
            _stage("report", _configure(config, values=values, output=output, device=device), console=console)
            return
        if values:
            raise ConfigError("--set changes one run; a comparison of several takes none")
        from hwnas.comparison import compare_studies

        console.result(
            compare_studies(
                [user_path(run) for run in runs or ()],
                device=device or "",
                reference=numbers(reference, what="--reference"),
                folder=user_path(output) if output else None,
            )
        )


@app.command()
def verify(
    deployment: Annotated[
        str, typer.Argument(metavar="DEPLOYMENT", help="The folder of a deployment.", callback=given)
    ],
    *,
    here: Annotated[bool, typer.Option("--here", help="This machine is the board: do not connect to it.")] = False,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="DEVICE",
            help="Your own description of the board: connect to that.",
            callback=given,
            autocompletion=device_names,
        ),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Connect to the board that the deployment's manifest names.")
    ] = False,
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Check that a deployment keeps its promises on its device; needs the runtime, not torch."""
    with speaking(json_output=json_output, debug=debug) as console:
        from hwnas import pipeline

        result = pipeline.verify(user_path(deployment), console=console, here=here, trust=trust, device=device or "")
        console.result(result)


# ---------------------------------------------------------------- questions


app.command()(adapt)
app.command()(query)
app.command()(serve)


# ---------------------------------------------------------------- what there is


app.add_typer(devices_app, name="devices")
app.command("audit")(audit_file)
app.add_typer(zoo_app, name="zoo")


@app.command()
def predict(
    folder: Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run.", callback=given)],
    *,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="NAME",
            help="Which device, if there are several.",
            callback=given,
            autocompletion=device_names,
        ),
    ] = None,
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Learn accuracies from a run's evaluated networks, and tell how well others are predicted."""
    with speaking(json_output=json_output, debug=debug) as console:
        from hwnas.catalogue import predict as learn
        from hwnas.config import load_config

        console.result(learn(load_config(user_path(folder)), device=device or ""))


@app.command()
def spaces(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show this one's choices.", callback=given)
    ] = None,
    *,
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """The search spaces, or the choices of one."""
    with speaking(json_output=json_output, debug=debug) as console:
        from hwnas.describe import all_spaces, one_space

        console.result(one_space(name) if name else all_spaces())


@app.command()
def doctor(*, json_output: JsonFlag = False, debug: DebugFlag = False) -> None:
    """What works on this machine, and what to install."""
    with speaking(json_output=json_output, debug=debug) as console:
        from hwnas.doctor import diagnose

        _end(diagnose(), console=console)


@app.command()
def agent(
    *,
    check: Annotated[
        str | None,
        typer.Option(
            "--check", metavar="DEVICE", help="Connect to this device's board and look at it.", callback=given
        ),
    ] = None,
    write: Annotated[
        str | None,
        typer.Option("--write", metavar="FILE", help="Write the agent, to be put on a board by hand.", callback=given),
    ] = None,
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """The program that measures on a board: check a board, or write the program to a file."""
    with speaking(json_output=json_output, debug=debug) as console:
        from hwnas.doctor import diagnose_board, write_agent

        if write is not None and check is None:
            _end(write_agent(user_path(write)), console=console)
        elif check is not None and write is None:
            _end(diagnose_board(check), console=console)
        else:
            raise ConfigError("give either --check DEVICE or --write FILE")


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
    speak_any_language()
    sys.stdout = stdout_for_result()
    with signals():
        app()
