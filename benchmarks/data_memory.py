"""What memory a data set takes while it is loaded, checked and split: a process's peak over the bytes of its pixels.

The same images as a folder of JPEG files, a numpy archive (of bytes, and of floats), idx files and arrays of a
function. The process is fresh, and its own size is part of the peak.
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _common import Benchmark, Figure, script

_CLASSES = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=60_000, help="how many (60000)")
    parser.add_argument("--size", type=int, default=64, help="their side in pixels (64)")
    bench = Benchmark("data_memory", parser, argv)
    n, size = (400, 16) if bench.smoke else (bench.options.images, bench.options.size)
    details: dict[str, Any] = {"images": n, "size": size}
    figures = []
    with tempfile.TemporaryDirectory(prefix="hwnas-data-memory-") as folder:
        for name, spec, at_most in make(Path(folder), n=n, size=size):
            found = load_apart(spec, cwd=Path(folder))
            details[name] = found
            figures += [
                Figure(name=f"{name}_bytes_a_byte", value=found["peak_bytes"] / found["pixel_bytes"], at_most=at_most),
                Figure(name=f"{name}_seconds", value=found["seconds"]),
            ]
    return bench.publish(figures, details=details)


def make(folder: Path, *, n: int, size: int) -> list[tuple[str, str, float]]:
    """The same images in every form: name, specification, and the most bytes that a byte of theirs may take."""
    import numpy as np
    from PIL import Image

    images = np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    labels = np.arange(n) % _CLASSES
    for c in range(_CLASSES):
        (folder / "photos" / str(c)).mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / "photos" / str(labels[i]) / f"{i}.jpg")
    np.savez(folder / "arrays.npz", x_train=images, y_train=labels)
    np.savez(folder / "floats.npz", x_train=images[: n // 4].astype(np.float32) / 255, y_train=labels[: n // 4])
    (folder / "idx").mkdir()
    for name, array in (("images-idx3", images), ("labels-idx1", labels.astype(np.uint8))):
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        with open(folder / "idx" / f"train-{name}-ubyte", "wb") as file:
            file.write(header)
            array.tofile(file)
    (folder / "mine.py").write_text(
        "import numpy as np\n"
        f"def images(): return dict(x_train=np.zeros(({n}, {size}, {size}, 3), np.uint8) + np.uint8(1) * "
        f"np.random.default_rng(0).integers(0, 256, ({size}, 3), np.uint8), y_train=np.arange({n}) % {_CLASSES})\n"
    )
    return [
        ("folder", f"folder:{folder / 'photos'}", 1.3),
        ("npz", f"npz:{folder / 'arrays.npz'}", 1.3),
        ("npz_of_floats", f"npz:{folder / 'floats.npz'}", 6.0),  # the floats themselves are four
        ("idx", f"idx:{folder / 'idx'}", 1.3),
        ("python", "python:mine:images", 2.3),  # the function's own arrays are never changed, so there are two
    ]


def load_apart(spec: str, *, cwd: Path) -> dict[str, Any]:
    """Load a data set in a fresh process; its peak of memory, in bytes."""
    done = subprocess.run(
        [sys.executable, __file__, "--load", spec], cwd=cwd, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def peak_bytes() -> int:
    """The most that this process has held; `ru_maxrss` would tell that of the process it was forked from."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def load_here(spec: str) -> int:
    """What the fresh process does."""
    from hwnas.data import load_data

    before = peak_bytes()
    began = time.monotonic()
    data = load_data(spec, seed=0)
    seconds = time.monotonic() - began
    pixels = sum(part.inputs.nbytes for part in (data.train, data.validation, data.test))
    print(json.dumps({"peak_bytes": peak_bytes(), "before_bytes": before, "pixel_bytes": pixels, "seconds": seconds}))
    return 0


if __name__ == "__main__":
    script((lambda: load_here(sys.argv[2])) if sys.argv[1:2] == ["--load"] else main)
