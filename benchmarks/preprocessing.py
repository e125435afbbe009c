"""Whether a manifest is enough: photos of 320 x 240 with a fine texture, a network of 24 pixels, and two other readers.

The first reader has the artefact and the manifest only (`_plain_reader.py`: numpy, Pillow and ONNX Runtime in a process
that never imports hwnas); the second is `hwnas.deployment.load`. Both must reach just the accuracy that was promised.
Beside it stands what is reached by those who leave a step out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _common import SMOKE, Benchmark, Figure, script

if TYPE_CHECKING:
    import numpy as np

CLASSES = ("disc", "bar", "ring")
_SIZE = (240, 320)
_ORIENTATION = 0x112  # EXIF's tag
_TURNED = 6  # its value: to be turned by 90 degrees, clockwise

RUN = {
    "space.resolutions": [24],
    "space.precisions": ["int8"],
    "train.steps": 150,
    "train.batch_size": 32,
    "profile.n_networks": 4,
    "profile.rounds": 3,
    "search.n_trials": 20,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    bench = Benchmark("preprocessing", argparse.ArgumentParser(description=__doc__), argv)
    with tempfile.TemporaryDirectory(prefix="hwnas-preprocessing-") as folder:
        photos = Path(folder) / "photos"
        for part, n in (("train", 12), ("test", 4)) if bench.smoke else (("train", 90), ("test", 60)):
            write_photos(photos / part, n, seed=len(part))
        deployment = deploy(Path(folder), smoke=bench.smoke)
        found = read_plainly(deployment, photos / "test")
        loaded = read_loaded(deployment, found["paths"])
        promised, n = promise(deployment)
    true = [CLASSES.index(Path(path).parent.name) for path in found["paths"]]
    names = found["classes"]
    right = {
        way: sum(names[t] == CLASSES[c] for t, c in zip(taken, true, strict=True))
        for way, taken in {**found["taken"], "loaded": loaded}.items()
    }
    figures = [
        Figure(name="photos", value=len(true), at_least=n, at_most=n),
        Figure(name="promised_accuracy", value=promised),
        Figure(name="manifest_alone_accuracy", value=right["manifest"] / len(true)),
        Figure(name="manifest_alone_photos_off_the_promise", value=off(right["manifest"], promised, n), at_most=0),
        Figure(name="loaded_photos_off_the_promise", value=off(right["loaded"], promised, n), at_most=0),
        Figure(
            name="other_predictions_of_the_two",
            value=sum(a != b for a, b in zip(found["taken"]["manifest"], loaded, strict=True)),
            at_most=0,
        ),
        Figure(name="modules_of_hwnas_in_the_plain_reader", value=len(found["foreign_modules"]), at_most=0),
        *(Figure(name=f"{way}_accuracy", value=right[way] / len(true)) for way in found["taken"] if way != "manifest"),
    ]
    return bench.publish(figures, details={"right": right, "of": len(true), "run": dict(RUN)})


def off(right: int, promised: float, n: int) -> int:
    """How many photos more or fewer than promised were recognised."""
    return abs(right - round(promised * n))


# ---------------------------------------------------------------- photos


def write_photos(folder: Path, n: int, *, seed: int) -> None:
    """So many of each class; a third of them as a camera that is held upright stores them, on their side."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(seed)
    exif = Image.Exif()
    exif[_ORIENTATION] = _TURNED
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for i in range(n):
            image = photo(name, rng)
            path = folder / name / f"{i:03}.png"
            if i % 3:
                Image.fromarray(image).save(path, compress_level=1)
            else:
                Image.fromarray(np.rot90(image)).save(path, compress_level=1, exif=exif)


def photo(name: str, rng: np.random.Generator) -> np.ndarray:
    """A shape somewhere near the middle; every pixel is much lighter or darker, as gravel, fabric or leaves are."""
    import numpy as np

    height, width = _SIZE
    y, x = np.mgrid[:height, :width]
    y, x = y - height // 2 - rng.integers(-25, 26), x - width // 2 - rng.integers(-25, 26)
    distance = np.hypot(y, x)
    shapes = {
        "disc": distance < 55,
        "bar": (abs(y) < 22) & (abs(x) < 80),
        "ring": (distance < 65) & (distance > 38),
    }
    plain = np.where(shapes[name][..., None], (150, 120, 110), (110, 115, 130))
    texture = rng.choice((-75, 75), (height, width, 1)) + rng.normal(0, 8, (height, width, 3))
    image: np.ndarray = (plain + texture).clip(0, 255).astype(np.uint8)
    return image


# ---------------------------------------------------------------- the deployment and its readers


def deploy(folder: Path, *, smoke: bool) -> Path:
    """The whole way from the photos to a deployment."""
    from hwnas._console import Console
    from hwnas.config import Config
    from hwnas.pipeline.running import run_all

    changes: dict[str, Any] = {**SMOKE, "train.batch_size": 16} if smoke else {"device.name": "cpu", **RUN}
    changes |= {
        "data.source": f"folder:{folder / 'photos'}?size={16 if smoke else 64}",
        "output.folder": str(folder / "run"),
        "profile.tables": str(folder / "tables"),
    }
    return run_all(Config().replaced(changes), console=Console()).deployment


def promise(deployment: Path) -> tuple[float, int]:
    """The accuracy of the test images through the runtime, and how many there are."""
    told = json.loads((deployment / "manifest.json").read_text())["accuracy"]
    return told["test_runtime"], told["n_test"]


def read_plainly(deployment: Path, photos: Path) -> dict[str, Any]:
    """What the reader without hwnas takes the photos for, in every way."""
    reader = Path(__file__).with_name("_plain_reader.py")
    done = subprocess.run(
        [sys.executable, "-I", reader, deployment, photos], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def read_loaded(deployment: Path, paths: Sequence[str]) -> list[int]:
    """The same by `hwnas.deployment.load`."""
    return list(_loaded(deployment, paths))


def _loaded(deployment: Path, paths: Sequence[str]) -> Iterator[int]:
    import hwnas.deployment

    with hwnas.deployment.load(deployment) as network:
        classes = network.manifest.classes
        for prediction in network.predict_batch([Path(path) for path in paths]):
            yield classes.index(prediction.class_name)


if __name__ == "__main__":
    script(main)
