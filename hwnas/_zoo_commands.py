"""The commands about trained supernets: `hwnas zoo`, and `show`, `pack` and `import` under it.

As `hwnas/cli.py`, of which it is a part: one thin function per command.
"""

from __future__ import annotations

from typing import Annotated

import typer

from hwnas._arguments import DebugFlag, JsonFlag, given, names_a_subcommand
from hwnas._commands import speaking
from hwnas._places import user_path

_HELP = {"help_option_names": ["-h", "--help"]}
zoo_app = typer.Typer(no_args_is_help=False, rich_markup_mode=None, context_settings=_HELP)
import_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, context_settings=_HELP)
zoo_app.add_typer(
    import_app, name="import", help="Write a supernet that others trained as a folder to take networks from."
)


@zoo_app.callback(invoke_without_command=True)
def zoo(context: typer.Context, *, json_output: JsonFlag = False, debug: DebugFlag = False) -> None:
    """The trained supernets that ship; show one, pack your own, or import one of others."""
    if names_a_subcommand(context, json_output=json_output, debug=debug):
        return
    with speaking(json_output=json_output, debug=debug) as console:
        from hwnas.zoo import all_entries

        console.result(all_entries())


@zoo_app.command("show")
def zoo_show(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Of one that ships, or the folder of one that was packed.", callback=given),
    ],
    *,
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """All that is known of a trained supernet: data, recipe, accuracies, licence."""
    with speaking(json_output=json_output, debug=debug) as console:
        from hwnas.zoo import one_entry

        console.result(one_entry(name))


@zoo_app.command("pack")
def zoo_pack(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run.", callback=given)],
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="To write into; its last part is the name.", callback=given)
    ],
    *,
    title: Annotated[str, typer.Option("--title", metavar="TEXT", help="What it is, in a line.")] = "",
    about_data: Annotated[
        str, typer.Option("--about-data", metavar="TEXT", help="What it was trained on, and who made that.")
    ] = "",
    licence: Annotated[
        str, typer.Option("--licence", metavar="TEXT", help="Of the weights and of the images.")
    ] = "not stated",
    class_name: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="NAME",
            help="Of each class, in the order of the labels, where the run's data has numbers. May be repeated.",
            callback=given,
        ),
    ] = None,
    hardware: Annotated[str, typer.Option("--hardware", metavar="TEXT", help="It was trained on.")] = "not stated",
    images: Annotated[
        tuple[int, int, int],
        typer.Option(
            "--images",
            metavar="TRAIN VAL TEST",
            min=1,
            help="How many go along: to recalibrate statistics with, to rank networks by, to check deployments with.",
        ),
    ] = (600, 1000, 1000),
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Write a run's trained supernet, with some of its images, as a folder that others can take networks from.

    Of a run of a packed supernet, add what it has evaluated to that folder.
    """
    with speaking(json_output=json_output, debug=debug) as console:
        from hwnas.config import load_config
        from hwnas.pipeline.packing import Packing, pack

        packing = Packing(
            title=title,
            about_data=about_data,
            licence=licence,
            hardware=hardware,
            n_images=images,
            class_names=tuple(class_name or ()),
        )
        console.result(pack(load_config(user_path(run)), folder, packing=packing, console=console))


@import_app.command("ofa")
def zoo_import_ofa(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="As its owner gives it: ofa_mbv3_d234_e346_k357_w1.0, or _w1.2.", callback=given
        ),
    ],
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="To write into; its last part is the name.", callback=given)
    ],
    *,
    licence: Annotated[
        str | None, typer.Option("--licence", metavar="TEXT", help="Of the weights, as their owner gives them away.")
    ] = None,
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Write a checkpoint of Once-for-All's MobileNetV3 as a folder that networks can be taken from, without images."""
    with speaking(json_output=json_output, debug=debug) as console:
        from hwnas.zoo.importing import OFA_LICENCE, import_ofa

        console.result(import_ofa(file, folder, licence=licence or OFA_LICENCE))
