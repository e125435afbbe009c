"""Make a trained supernet that ships: train it, pack it, measure six of its networks and evaluate many.

The recipe is a configuration beside this program. Trained already, the run is only packed. What goes onto the card is
measured on all test images with the weights as they are packed; accuracies of many networks are those that a search on
this machine asks for, so that a first search elsewhere begins with them.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _common import ROOT, SMOKE, Benchmark, Figure, script
from train_supernet import compare

from hwnas.config import Config, load_config

_LARGEST_MB = 8.0  # of one entry: all together ship in the wheel
# name -> configuration and what is written on the card
SHIPPED: Mapping[str, Mapping[str, str]] = {
    "cifar10-mobilenet": {
        "config": "zoo_cifar10_mobilenet.toml",
        "title": "photos of ten kinds of animals and vehicles at 24 to 32 pixels, for int8 and fp32",
        "about_data": "CIFAR-10 (Krizhevsky, 2009, Learning multiple layers of features from tiny images): trained on "
        "45,000 of its training images. The images of this entry are some of those, 1,000 of the 5,000 that were set "
        "aside, and 1,000 of its test images.",
        "class_names": "airplane automobile bird cat deer dog frog horse ship truck",
        "licence": "weights: Apache-2.0; images: of CIFAR-10, which was published for research and states no licence",
    }
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "entry", nargs="?", default="cifar10-mobilenet", choices=sorted(SHIPPED), help="which (cifar10-mobilenet)"
    )
    parser.add_argument("--data", metavar="SOURCE", help="as [data] source has it; as the configuration if left out")
    parser.add_argument("--output", metavar="FOLDER", help="of the training; as the configuration has it if left out")
    parser.add_argument("--hardware", default="not stated", help="it was trained on")
    parser.add_argument("--seconds", type=float, help="the training took, where it was trained before")
    parser.add_argument("--known", type=int, default=300, help="networks to evaluate (300)")
    parser.add_argument("--device", action="append", help="whose integers are measured (cpu cpu-litert)")
    bench = Benchmark("make_zoo", parser, argv)
    o = bench.options
    said = SHIPPED[o.entry]
    config = load_config(Path(__file__).with_name(said["config"]))
    asked = {"data.source": o.data, "output.folder": o.output}
    config = config.replaced({key: value for key, value in asked.items() if value})
    with tempfile.TemporaryDirectory(prefix="hwnas-make-zoo-") as scratch:
        folder, devices, more, known = (
            ROOT / "hwnas" / "zoo" / "entries" / o.entry,
            o.device or ["cpu", "cpu-litert"],
            {},
            o.known,
        )
        if bench.smoke:
            strategy = {"space.precisions": None, "train.quantized_fraction": 0.5, "train.strategy": "split-sandwich"}
            config = config.replaced({**SMOKE, **strategy, "output.folder": f"{scratch}/trained"})
            folder, devices, known = Path(scratch, o.entry), ["fake"], 6
            keys = ("device.name", "profile.n_networks", "search.population_size", "search.validation_samples")
            more = {key: SMOKE[key] for key in keys}
        made = _make(config, folder, said, options=o, console=bench.console)
        of_it = Config.of_supernet(str(folder))
        measured = of_it.replaced({"data.source": config.data.source, "output.folder": f"{scratch}/measured", **more})
        rows = compare(
            measured, devices, samples=50 if bench.smoke else None, tune=0, alone=False, console=bench.console
        )
        _tell(folder, rows, devices)
        searched = of_it.replaced(
            {"output.folder": f"{scratch}/searched", "search.n_trials": known, "limits.latency_fraction": 2.0, **more}
        )
        packed = _know(searched, folder, console=bench.console)
    figures = [
        Figure(name="size_mb", value=packed.size_bytes / 1e6, at_most=_LARGEST_MB),
        Figure(name="known_accuracies", value=packed.known),
        Figure(name="trained_s", value=made),
    ]
    for row in rows:
        name = row["network"].replace(" ", "_")
        figures.append(Figure(name=f"fp32_accuracy_{name}", value=row["fp32"]))
        figures += [Figure(name=f"int8_accuracy_{name}_{device}", value=row[f"int8_{device}"]) for device in devices]
    return bench.publish(figures, details={"networks": rows, "configuration": config.to_toml()})


def _make(config: Config, folder: Path, said: Mapping[str, str], *, options: Any, console: Any) -> float:
    """Train, if that is to be done, and pack; returns the seconds of the training."""
    from hwnas import pipeline
    from hwnas.pipeline.packing import Packing, pack
    from hwnas.torch_process import prepare_torch

    trained = pipeline.train(config, console=console)
    prepare_torch(config.train.threads)
    seconds = trained.seconds if options.seconds is None else options.seconds
    packing = Packing(
        title=said["title"],
        about_data=said["about_data"],
        licence=said["licence"],
        hardware=options.hardware,
        seconds=round(seconds),
        class_names=() if config.data.source == "digits" else tuple(said["class_names"].split()),
        command=f"python benchmarks/make_zoo.py {options.entry}",
    )
    pack(config, folder, packing=packing, console=console)
    return seconds


def _tell(folder: Path, rows: Sequence[Mapping[str, Any]], devices: Sequence[str]) -> None:
    """Write what was measured onto the card."""
    from hwnas.cost.analytic import macs
    from hwnas.pipeline.packing import with_measured
    from hwnas.zoo import Measured, find_entry

    entry = find_entry(str(folder))
    space = entry.card.space.restrict(precisions=("fp32",))
    choices = {c.name for c in space.choices}
    measured = []
    for row in rows:
        encoding = space.encode({k: v for k, v in row["architecture"].items() if k in choices})
        accuracies = {"fp32": row["fp32"], **{f"int8 on {device}": row[f"int8_{device}"] for device in devices}}
        measured.append(
            Measured(
                network=row["network"],
                macs=sum(macs(block) for _, block in space.named_blocks(encoding)),
                accuracies=accuracies,
            )
        )
    with_measured(entry, dataclasses.replace(entry.card, measured=tuple(measured)))


def _know(config: Config, folder: Path, *, console: Any) -> Any:
    """Evaluate what a search asks for, and put it into the entry."""
    from hwnas import pipeline
    from hwnas.pipeline.packing import pack

    costs = pipeline.profile(config, console=console).costs
    pipeline.train(config, console=console)
    pipeline.search(config, console=console, costs=costs)
    return pack(config, folder, console=console)


if __name__ == "__main__":
    script(main)
