"""Use a deployment with its artefact and its manifest alone: numpy, Pillow and plain ONNX Runtime, and never hwnas.

    python -I benchmarks/_plain_reader.py DEPLOYMENT PHOTOS

PHOTOS has a folder for each class. Prints JSON: for each way to read a photo, which class every one is taken for. One
way does the manifest's steps, as docs/deployments.md describes them; the others leave something out, as one would who
was told the size, the mean and the deviation only. It is written apart from what it checks, and shares nothing with it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from PIL import Image, ImageOps

GROUNDS = {"white": 255, "grey": 128, "black": 0}

# ---------------------------------------------------------------- the steps of a manifest


def decode(photo: Image.Image, step: Mapping[str, Any]) -> np.ndarray:
    """The first frame, turned, on a ground; 8-bit photos only, as nothing else is among them."""
    photo = ImageOps.exif_transpose(photo).convert("RGBA")
    ground = Image.new("RGBA", photo.size, (*(GROUNDS[step["ground"]],) * 3, 255))
    flat = Image.alpha_composite(ground, photo).convert("RGB")
    return np.asarray(flat) if step["channels"] == 3 else np.asarray(flat.convert("L"))[..., None]


def crop(x: np.ndarray) -> np.ndarray:
    """The centred square."""
    side = min(x.shape[:2])
    top, left = ((length - side) // 2 for length in x.shape[:2])
    return x[top : top + side, left : left + side]


def resize(x: np.ndarray, step: Mapping[str, Any]) -> np.ndarray:
    """Pillow's own for whole values; a matrix of triangles for others."""
    if step["rounding"] == "uint8":
        return np.asarray(Image.fromarray(x).resize((step["width"], step["height"]), Image.Resampling.BILINEAR))
    down, across = triangles(x.shape[0], step["height"]), triangles(x.shape[1], step["width"])
    return np.einsum("yh,hwc,xw->yxc", down, x.astype(np.float64), across).astype(np.float32)


def triangles(size: int, side: int) -> np.ndarray:
    """(side, size): how much each old pixel counts in each new one; centres lie at half pixels."""
    scale = size / side
    distance = np.abs((np.arange(size) + 0.5)[None] - ((np.arange(side) + 0.5) * scale)[:, None]) / max(scale, 1.0)
    weights = np.maximum(1 - distance, 0)
    return weights / weights.sum(1, keepdims=True)


def by_the_manifest(photo: Image.Image, steps: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Every step, in order."""
    x: Any = photo
    for step in steps:
        match step["step"]:
            case "decode":
                x = decode(x, step)
            case "crop":
                x = crop(x)
            case "resize":
                x = resize(x, step)
            case "pixels":
                if x.shape != (step["height"], step["width"], step["channels"]) or x.dtype != np.uint8:
                    raise SystemExit(f"the steps led to {x.shape} {x.dtype}, and should have to {step}")
            case "scale":
                x = x.astype(np.float32) / np.float32(step["divide_by"])
            case "normalise":
                x = (x - np.float32(step["mean"])) / np.float32(step["std"])
            case "layout":
                x = x.transpose(2, 0, 1)
            case other:
                raise SystemExit(f"the manifest has a step {other!r} that its description does not explain")
    return x


# ---------------------------------------------------------------- what others would do


def two_taps(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear without a low-pass filter, as OpenCV's INTER_LINEAR and most boards' libraries."""
    for axis, side in ((0, height), (1, width)):
        size = x.shape[axis]
        at = np.clip((np.arange(side) + 0.5) * size / side - 0.5, 0, size - 1)
        low = at.astype(int)
        share = (at - low).reshape([-1 if a == axis else 1 for a in range(3)])
        x = np.take(x, low, axis) * (1 - share) + np.take(x, np.minimum(low + 1, size - 1), axis) * share
    return x


def naive_ways(steps: Sequence[Mapping[str, Any]]) -> dict[str, Callable[[Image.Image], np.ndarray]]:
    """Ways to read a photo that leave a step out."""
    normalise = next(s for s in steps if s["step"] == "normalise")
    sides = [(s["height"], s["width"]) for s in steps if s["step"] in ("resize", "pixels")]
    last = sides[-1]
    mean, std = np.float32(normalise["mean"]), np.float32(normalise["std"])

    def finish(x: np.ndarray) -> np.ndarray:
        return ((x / np.float32(255) - mean) / std).transpose(2, 0, 1)

    def pixels(photo: Image.Image) -> np.ndarray:
        return np.asarray(photo.convert("RGB"), np.float32)

    def turned(photo: Image.Image) -> np.ndarray:
        return pixels(ImageOps.exif_transpose(photo))

    def pillow(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        return np.asarray(Image.fromarray(x.astype(np.uint8)).resize(size[::-1], Image.Resampling.BILINEAR), np.float32)

    return {
        "two_taps": lambda photo: finish(two_taps(pixels(photo), *last)),
        "two_taps_of_the_square": lambda photo: finish(two_taps(crop(turned(photo)), *last)),
        "two_taps_without_the_square": lambda photo: finish(two_taps(turned(photo), *last)),
        "two_taps_of_the_stored_size": lambda photo: finish(two_taps(pillow(crop(turned(photo)), sides[0]), *last)),
        "filtered_without_the_square": lambda photo: finish(pillow(turned(photo), last)),
        "filtered_and_not_turned": lambda photo: finish(pillow(crop(pixels(photo)), last)),
    }


# ---------------------------------------------------------------- all of it


def main(folder: Path, photos: Path) -> None:
    """Print what each way takes every photo for."""
    manifest = json.loads((folder / "manifest.json").read_text())
    steps, tensor = manifest["preprocessing"], manifest["artefact"]["input"]
    if tensor["layout"] != "NCHW" or tensor["dtype"] != "float32":
        raise SystemExit(f"this reader feeds float32, channels first; the artefact takes {tensor}")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    model = str(folder / manifest["artefact"]["path"])
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    paths = [path for name in manifest["classes"] for path in sorted((photos / name).iterdir())]
    ways = {"manifest": lambda photo: by_the_manifest(photo, steps), **naive_ways(steps)}
    inputs: dict[str, list[np.ndarray]] = {name: [] for name in ways}
    for path in paths:
        with Image.open(path) as photo:
            photo.load()
            for name, way in ways.items():
                inputs[name].append(np.asarray(way(photo), np.float32))
    taken: dict[str, list[int]] = {name: [] for name in ways}
    size = len(paths) if manifest["artefact"]["batch"] == "any" else 1
    for name, images in inputs.items():
        for start in range(0, len(images), size):
            (logits,) = session.run(None, {entry.name: np.stack(images[start : start + size])})
            taken[name] += logits.argmax(1).tolist()
    foreign = sorted({"hwnas", "torch"} & {name.partition(".")[0] for name in sys.modules})
    found = {"classes": manifest["classes"], "paths": [str(path) for path in paths], "taken": taken}
    print(json.dumps({**found, "foreign_modules": foreign}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
