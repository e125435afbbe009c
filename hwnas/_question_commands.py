"""The commands that ask a finished run about budgets: `hwnas query` and `hwnas serve`.

As `hwnas/cli.py`, of which it is a part: one thin function per command, which knows the rooms `catalogue` and `serve`
and the configuration.
"""

from __future__ import annotations

from typing import Annotated

import typer

from hwnas._arguments import DebugFlag, JsonFlag, LimitOption, given
from hwnas._arguments import limits as parse_limits
from hwnas._commands import speaking
from hwnas._completion import device_names
from hwnas._places import user_path


def query(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="The folder of a run, or a study's file.", callback=given)
    ],
    *,
    limit: LimitOption = None,
    metric: Annotated[
        str | None,
        typer.Option(help="What to be best in; what networks were evaluated for if left out.", callback=given),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many networks.")] = 1,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="How much worse a cheaper network may be; by default one standard error; 0: equal ones only."
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="NAME",
            help="Which of the run's devices, or another that is profiled for its space.",
            callback=given,
            autocompletion=device_names,
        ),
    ] = None,
    predicted: Annotated[
        int,
        typer.Option(
            "--predicted", min=0, help="So many networks too that were not evaluated but are predicted to be better."
        ),
    ] = 0,
    measured: Annotated[
        bool, typer.Option("--measured", help="Evaluate and time what is named, on the device: takes a while.")
    ] = False,
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """The best networks of a finished search within limits, at once."""
    with speaking(json_output=json_output, debug=debug) as console:
        from hwnas.catalogue import answer_budget

        console.result(
            answer_budget(
                user_path(study),
                limits=parse_limits(limit),
                metric=metric or "",
                top=top,
                device=device or "",
                tolerance=tolerance,
                n_predicted=predicted,
                measured=measured,
                console=console,
            )
        )


def serve(
    run_folder: Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run.", callback=given)],
    *,
    host: Annotated[
        str | None,
        typer.Option("--host", help="An address of this machine; by default no other machine can ask.", callback=given),
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")] = 8765,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="TEXT",
            help="What requests must bear; made if others can ask and none is named.",
            callback=given,
        ),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            "--device",
            metavar="NAME",
            help="Beside the run's devices: another one that is profiled for it. May be repeated.",
            callback=given,
            autocompletion=device_names,
        ),
    ] = None,
    debug: DebugFlag = False,
) -> None:
    """Budgets of a finished run on a page, and as an HTTP API."""
    with speaking(json_output=False, debug=debug) as console:
        from hwnas.config import load_config
        from hwnas.serve import serve as serve_run
        from hwnas.serve.running import LOCAL, Address

        address = Address(host=host or LOCAL, port=port, token=token or "")
        serve_run(load_config(run_folder), console=console, address=address, devices=device or ())
