"""Pictures composed of Fashion-MNIST's items (Xiao et al., 2017), with targets of other kinds than one class.

Training pictures are of training items and test pictures of test items, so no item is in both. What is known of a
picture is exact: it was put together here. Knows arrays; nothing of networks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from hwnas.data import RawData
from hwnas.errors import DataError

_FOLDER = "/usr/share/datasets/fashion-mnist"  # Debian's package dataset-fashion-mnist
_SIDE = 32
_NAMES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
_MOST_TURNED = 60.0  # degrees

Images = npt.NDArray[np.uint8]
Compose = Callable[..., tuple[Images, npt.NDArray[Any]]]  # of items, their classes, a number, and random numbers


def load(task: str, train: str = "12000", test: str = "3000", side: str = "32", folder: str = _FOLDER) -> RawData:
    """Pictures and targets.

    Args:
        task: `segmentation` (masks of one to three items before clutter: background, then the ten classes),
            `regression` (by how many degrees an item is turned, -60 to 60), or `multi_label` (which classes the one to
            four items of a picture have).
        train: training pictures.
        test: test pictures.
        side: of pictures with masks, in pixels; the others have 32.
        folder: Fashion-MNIST's files; `digits`: scikit-learn's digits instead, which are there without a download.

    Returns:
        Pictures (N, side, side) uint8 and their targets, for training and for testing, and the classes' names.

    Raises:
        DataError: there is no such task, or the items are not there.
    """
    if task not in _COMPOSE:
        raise DataError(f"pictures for {task!r} are not composed; there are {', '.join(_COMPOSE)}")
    compose, names = _COMPOSE[task]
    if task == "segmentation":
        compose = partial(compose, side=int(side))
    parts = {
        part: compose(*_items(folder, part), n, np.random.default_rng(seed))
        for seed, (part, n) in enumerate({"train": int(train), "test": int(test)}.items())
    }
    return RawData(name=f"composed-{task}", class_names=names, **parts)


def _items(folder: str, part: str) -> tuple[Images, npt.NDArray[np.int64]]:
    """(N, 28, 28) items and their classes."""
    from hwnas.data import load_data

    data = load_data("digits" if folder == "digits" else f"idx:{folder}", seed=0, test_fraction=0.2)
    samples = data.train if part == "train" else data.test
    items = np.asarray(samples.inputs[:])[..., 0]
    if folder == "digits":
        items = np.pad(np.kron(items, np.ones((1, 3, 3), np.uint8)), ((0, 0), (2, 2), (2, 2)))
    return items, np.asarray(samples.targets)


def _masks(
    items: Images, classes: npt.NDArray[np.int64], n: int, rng: np.random.Generator, *, side: int
) -> tuple[Images, npt.NDArray[np.uint8]]:
    """One to three items of half a side to seven eighths of it, later ones before others, on clutter of other items."""
    x = np.zeros((n, side, side), np.uint8)
    y = np.zeros((n, side, side), np.uint8)
    for picture, mask in zip(x, y, strict=True):
        for _ in range(6):  # pieces too small to tell what they are of
            top, left, i = rng.integers(0, side - 8), rng.integers(0, side - 8), rng.integers(len(items))
            picture[top : top + 8, left : left + 8] = items[i, 10:18, 10:18] // 2
        for i in rng.integers(len(items), size=rng.integers(1, 4)):
            item = _scaled(items[i], int(rng.integers(side // 2, side * 7 // 8 + 1)))
            top, left = rng.integers(0, side - len(item) + 1, 2)
            there = item > 20
            region = (slice(top, top + len(item)), slice(left, left + len(item)))
            picture[region][there] = item[there]
            mask[region][there] = classes[i] + 1
    return x, y


def _turned(
    items: Images, classes: npt.NDArray[np.int64], n: int, rng: np.random.Generator
) -> tuple[Images, npt.NDArray[np.float32]]:
    """One item, turned; (N, 1) degrees. Shoes and bags lie, clothes stand: what it is has to be seen first."""
    from PIL import Image

    x, y = np.zeros((n, _SIDE, _SIDE), np.uint8), rng.uniform(-_MOST_TURNED, _MOST_TURNED, (n, 1)).astype(np.float32)
    for picture, degrees, i in zip(x, y, rng.integers(len(items), size=n), strict=True):
        picture[2:30, 2:30] = items[i]
        picture[:] = np.asarray(Image.fromarray(picture).rotate(float(degrees[0]), Image.Resampling.BILINEAR))
    return x, y


def _groups(
    items: Images, classes: npt.NDArray[np.int64], n: int, rng: np.random.Generator
) -> tuple[Images, npt.NDArray[np.uint8]]:
    """One to four items of 16 pixels in the quarters of a picture; (N, 10) which classes are there."""
    x, y = np.zeros((n, _SIDE, _SIDE), np.uint8), np.zeros((n, len(_NAMES)), np.uint8)
    for picture, labels in zip(x, y, strict=True):
        quarters = rng.permutation(4)[: rng.integers(1, 5)]
        for quarter, i in zip(quarters, rng.integers(len(items), size=len(quarters)), strict=True):
            top, left = divmod(int(quarter), 2)
            picture[16 * top : 16 * top + 16, 16 * left : 16 * left + 16] = _scaled(items[i], 16)
            labels[classes[i]] = 1
    return x, y


def _scaled(item: Images, side: int) -> Images:
    from PIL import Image

    return np.asarray(Image.fromarray(item).resize((side, side), Image.Resampling.BILINEAR))


_COMPOSE: Mapping[str, tuple[Compose, tuple[str, ...]]] = {
    "segmentation": (_masks, ("background", *_NAMES)),
    "regression": (_turned, ("degrees",)),
    "multi_label": (_groups, _NAMES),
}
