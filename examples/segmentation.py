"""Segmentation: images and masks in folders, a network that says of every pixel what it is, its mean IoU.

The images are made here: noise with a disc, a square or both on it. Each has a mask of the same name, a PNG whose
values are class indices; `classes.txt` names the classes. Replace FOLDER/shapes by images and masks of your own.

    python examples/segmentation.py [--output FOLDER] [--tiny]

It takes a few minutes on this machine's processor; with --tiny less than a minute on a simulated device, where numbers
mean nothing. It prints the deployed network's mean IoU with the pixels of each class that it finds, its latency and the
limit, and a mask that it predicts beside the true one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hwnas.deployment import Mask, load

SIDE, CLASSES = 32, ("ground", "disc", "square")
CONFIGURATION = """
data.source = "folder:{shapes}"
task.name = "segmentation"
space = {{ preset = "segment-tiny", resolutions = [32] }}
search.n_trials = 60
limits.latency_fraction = 0.5    # of the largest network's latency
output.folder = "{folder}"

[train]    # masks are learned faster so than by the defaults, which are for classes of images
epochs = 25
batch_size = 32
n_random = 1
optimizer = "adamw"
learning_rate = 0.01
label_smoothing = 0.0
ema_decay = 0.99
"""
TINY = ["device.name=fake", "train.epochs=0.1", "profile.n_networks=4", "search.n_trials=4", "deploy.test_samples=30"]
TINY += ['space.precisions=["fp32"]', "space.kernel_sizes=[3]", "deploy.torch_program=false"]

Pixels = NDArray[np.uint8]


def draw(rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """An image and its mask, (SIDE, SIDE) each; shapes are a little brighter than the noise around them."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for label in rng.permutation([1, 2])[: rng.integers(1, 3)]:
        (y, x), radius = rng.integers(6, SIDE - 6, 2), rng.integers(4, 8)
        distance = np.hypot(rows - y, columns - x) if label == 1 else np.maximum(abs(rows - y), abs(columns - x))
        mask[distance <= radius] = label
    return rng.normal(90 + 60 * (mask > 0), 25).clip(0, 255).astype(np.uint8), mask


def write(folder: Path, *, n: int) -> None:
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("\n".join(CLASSES), encoding="utf-8")
    for i in range(n):
        for name, pixels in zip(("images", "masks"), draw(rng), strict=True):
            Image.fromarray(pixels).save(folder / name / f"{i:04}.png")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default="runs/segmentation", metavar="FOLDER")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args(argv)
    shapes, configuration = options.output / "shapes", options.output / "segmentation.toml"
    write(shapes, n=200 if options.tiny else 1000)
    text = CONFIGURATION.format(shapes=shapes.as_posix(), folder=(options.output / "run").as_posix())
    configuration.write_text(text, encoding="utf-8")

    command = [sys.executable, "-m", "hwnas", "run", str(configuration), "--json"]
    command += [f"--set={each}" for each in TINY] if options.tiny else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # what it tells on the way passes
    deployment = json.loads(done.stdout)["deployment"]

    image, mask = draw(np.random.default_rng(1))  # one that the run has not seen
    with load(deployment) as network:
        manifest, predicted = network.manifest, network.predict(image)
    assert isinstance(predicted, Mask)
    assert manifest.accuracy.by_pixel is not None
    latency, limit = manifest.measured.latency_ms.minimum, manifest.limits["latency_ms"]
    print(f"mean IoU {manifest.accuracy.test_runtime:.1%}, latency {latency:.4f} ms, limit {limit:.4f} ms")
    for each in manifest.accuracy.by_pixel.classes:
        print(f"{each.name:>8}: {each.found} of {each.n} pixels found")
    print(f"{'predicted':{SIDE}}  true")
    for ours, theirs in zip(predicted.classes[::2], mask[::2], strict=True):
        print("  ".join("".join(" o#"[label] for label in row) for row in (ours, theirs)))
    print(f"the deployment is {deployment}")


if __name__ == "__main__":
    main()
