"""A kind of block of your own, and a space made of it: trained, profiled, searched.

The block is that of RepVGG while it trains (Ding et al., 2021, section 3.2): a convolution, one of 1x1 beside it, and
their sum. It says which operators it is made of; training, int8, file formats and costs follow from them. The space has
a stem, two stages of such blocks and the classifier that comes with hwnas; it is named in a configuration as
`preset = "python:own_block:make"`, and its file is looked for in the working directory.

    python examples/own_block.py [--output FOLDER] [--tiny]

It takes a few minutes on this machine's processor; with --tiny less than a minute on a simulated device, where numbers
mean nothing. It prints how many networks the space has, then the front of the search: trial, accuracy and latency.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hwnas import registry
from hwnas.graph import GraphBuilder, OpGraph
from hwnas.search import load_study
from hwnas.spaces import NetworkSpec, StagedSpace, StageSpec
from hwnas.spaces.kinds import BlockKind
from hwnas.spaces.network import Asked, Part
from hwnas.spaces.parts import conv_norm
from hwnas.types import Block, Option

CONFIGURATION = """
data.source = "digits"
space.preset = "python:own_block:make"
train.epochs = 20
search.n_trials = 60
limits.latency_fraction = 0.8    # of the largest network's latency
output.folder = "{folder}"
"""
TINY = ["device.name=fake", "train.epochs=0.1", "profile.n_networks=4", "search.n_trials=6"]
TINY += ["search.validation_samples=50", 'space.precisions=["fp32"]']


def build(block: Block, attributes: Mapping[str, Option]) -> OpGraph:
    """(C, H, W) -> (out, H / stride, W / stride); weights have the operators' names, which all variants share."""
    stride, out_channels = int(attributes["stride"]), block.out_shape[0]
    g = GraphBuilder()
    x = g.input(block.in_shape)
    wide = conv_norm(g, x, out_channels, kernel_size=int(attributes["kernel_size"]), stride=stride, name="wide")
    point = conv_norm(g, x, out_channels, stride=stride, name="point")
    return g.build(g.op("relu", g.op("add", wide, point, name="sum"), name="act"))


registry.register(
    "block_kinds", "two-ways", BlockKind(name="two-ways", build=build, required=("kernel_size", "stride"))
)


@dataclass(frozen=True, kw_only=True)
class TwoWaysSpec(NetworkSpec):
    """What stands where: the stem is what every space has if it names no other."""

    def block(self, asked: Asked) -> Part:
        return "two-ways", {"kernel_size": asked.kernel_size, "stride": asked.stride}

    def head(self, channels: tuple[int, ...]) -> Part:
        return "classifier", {}


class TwoWaysSpace(StagedSpace):
    """Width, depth, kernel sizes and precisions are choices, as in every space of stages."""

    kind, title, spec_type = "two-ways-net", "two-ways", TwoWaysSpec


def make(in_channels: int, n_classes: int) -> TwoWaysSpace:
    """The space for images of 8 pixels, such as digits; hwnas calls it with what the images are."""
    stages = [
        StageSpec(channels=channels, stride=stride, depths=(1, 2), kernel_sizes=(3, 5), expand_ratios=(1,))
        for channels, stride in ((16, 1), (32, 2))
    ]
    spec = TwoWaysSpec(
        in_channels=in_channels,
        n_classes=n_classes,
        resolutions=(8,),
        width_mults=(0.5, 1.0),
        stem_channels=16,
        stem_stride=1,
        stem_activation="relu",
        stages=stages,
    )
    return TwoWaysSpace("two-ways", spec)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default="runs/own-block", metavar="FOLDER")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args(argv)
    output: Path = options.output.resolve()

    output.mkdir(parents=True, exist_ok=True)
    configuration = output / "own-block.toml"
    configuration.write_text(CONFIGURATION.format(folder=(output / "run").as_posix()), encoding="utf-8")
    settings = [f"--set={each}" for each in TINY] if options.tiny else []
    for stage in ("profile", "train", "search"):
        # each calls the function again: all are started where its file is
        command = [sys.executable, "-m", "hwnas", stage, str(configuration), *settings]
        subprocess.run(command, cwd=Path(__file__).parent, check=True)

    study = load_study(output / "run" / "search" / "study.safetensors")
    print(f"{make(1, 10).count():,} networks, {len(study)} evaluated; the front:")
    for trial in sorted(study.front(), key=lambda trial: trial.values["latency_ms"]):
        print(f"trial {trial.number}: {trial.values['accuracy']:.1%}, {trial.values['latency_ms']:.4f} ms")


if __name__ == "__main__":
    main()
