"""The command that takes a network of one's own: `hwnas adapt`.

As `hwnas/cli.py`, of which it is a part: one thin function, which knows the pipeline and the configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas._arguments import DebugFlag, JsonFlag, OutputOption, SetOption, changes, given
from hwnas._commands import speaking
from hwnas._completion import device_names
from hwnas.errors import ConfigError

if TYPE_CHECKING:
    from hwnas.config import Config

# A given network has its weights already: a few epochs at a rate that does not undo them.
_EPOCHS = 3.0
_RATES: Mapping[object, float] = {"adamw": 5e-5}  # a tenth of what trains from nothing, as of SGD
_RATE = 0.01


def adapt(
    network: Annotated[
        str,
        typer.Argument(
            metavar="NETWORK",
            help="python:module:function, onnx:FILE, a TOML file with [model], or its run.",
            callback=given,
        ),
    ],
    *,
    input_shape: Annotated[
        str | None,
        typer.Option("--input", metavar="SHAPE", help="One sample without the batch: 3x224x224.", callback=given),
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="FILE", help=".safetensors, or .pth of tensors.", callback=given)
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="SOURCE", help="Its images: folder:DIR?size=64, ...", callback=given),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="WHOSE",
            help="network: of images without labels that fit, what it answers itself.",
            callback=given,
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device", metavar="NAME", help="Where it will run.", callback=given, autocompletion=device_names
        ),
    ] = None,
    output: OutputOption = None,
    no_training: Annotated[
        bool, typer.Option("--no-training", help="Take smaller networks from it as it is, and train none.")
    ] = False,
    values: SetOption = None,
    json_output: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Make a network of your own elastic: what of it can be smaller, and what cannot and why. Trains nothing."""
    with speaking(json_output=json_output, debug=debug) as console:
        options: dict[str, object] = {
            "model.input": input_shape,
            "model.weights": weights,
            "data.source": data,
            "data.labels": labels,
            "device.name": device,
            "output.folder": output,
            "train.steps": 0 if no_training else None,
        }
        config = _configured(network, {k: v for k, v in options.items() if v is not None}, changes(values))
        from hwnas import pipeline
        from hwnas.config import is_source

        # a network that is only named has no images yet, and those of the default are of other classes
        with_images = data is not None or "data.source" in changes(values) or not is_source(network)
        # a configuration of somebody's own is as it is
        said = changes(values).keys() if is_source(network) else None
        console.result(pipeline.adapt(config, console=console, with_images=with_images, said=said))


def _configured(network: str, options: dict[str, object], changed: dict[str, object]) -> Config:
    """The configuration of a run that begins with a network.

    Raises:
        ConfigError: a value is said twice, or one is missing or wrong.
    """
    from hwnas.config import Config, is_source, load_config, model_name

    twice = [key for key in options if key in changed]
    if twice:
        raise ConfigError(f"{twice[0]} is given by an option and by --set; give one of them")
    said = {**options, **changed}
    if not is_source(network):
        base = load_config(network)
        if base.model is None:
            raise ConfigError(
                f"{network} has no [model] section; name the network's function there, or give "
                "python:module:function --input 3x224x224, or onnx:FILE"
            )
        if "train.steps" in said:
            said.setdefault("train.epochs", None)
        return base.replaced(said)
    begun: dict[str, object] = {"model.source": network, "output.folder": f"runs/{model_name(network)}"}
    if not {"train.steps", "train.epochs"} & said.keys():
        begun |= {"train.epochs": _EPOCHS, "train.learning_rate": _RATES.get(said.get("train.optimizer"), _RATE)}
    return Config().replaced({**begun, **said})
