"""Photographs that everybody has: crops of the two that come with scikit-learn. Knows pictures alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hwnas.data.arrays import UInt8Array


def photographs(n: int, *, side: int, seed: int = 0) -> UInt8Array:
    """(n, side, side, 3) crops of any size, brought to this one."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    rng, whole = np.random.default_rng(seed), load_sample_images().images
    found = []
    for i in range(n):
        photograph = whole[i % len(whole)]
        size = int(rng.integers(side, min(photograph.shape[:2])))
        top, left = (int(rng.integers(0, most - size + 1)) for most in photograph.shape[:2])
        crop = Image.fromarray(photograph[top : top + size, left : left + size])
        found.append(np.asarray(crop.resize((side, side))))
    return np.stack(found)


def as_files(folder: Path, n: int, *, side: int) -> None:
    """Write them into a new folder."""
    from PIL import Image

    folder.mkdir()
    for i, image in enumerate(photographs(n, side=side)):
        Image.fromarray(image).save(folder / f"{i:04}.jpg", quality=92)
