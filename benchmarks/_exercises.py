"""Windows of a watch's sensors during exercises of the shoulder, split by person (Burns et al., 2018).

140 series of an accelerometer and a gyroscope at 50 Hz, ten people doing seven exercises, come inside the package
`seglearn` (`pip install --no-deps seglearn==1.2.5`). Its file is a pickle, so that reading it runs what is in it.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hwnas.data import RawData
from hwnas.errors import DataError

_TEST_PEOPLE, _VALIDATION_PEOPLE = (9, 10), (7, 8)


def load(file: str = "", length: str = "128", step: str = "32") -> RawData:
    """Windows and their exercises.

    Args:
        file: seglearn's `watch_dataset.npy`; empty: of the installed package.
        length: of a window, in samples of 20 ms.
        step: from one window of a series to the next.

    Returns:
        Windows (N, 6, length) float32 and their classes (N,) for training, validation and testing, each of other
        people.

    Raises:
        DataError: the file is not there.
    """
    path = Path(file) if file else _of_seglearn()
    if not path.is_file():
        raise DataError(f"{path} is not there; name seglearn's watch_dataset.npy: python:_exercises:load?file=FILE")
    found = np.load(path, allow_pickle=True).item()
    parts: dict[str, list[tuple[npt.NDArray[np.float32], int]]] = {"train": [], "validation": [], "test": []}
    for series, exercise, person in zip(found["X"], found["y"], found["subject"], strict=True):
        part = "test" if person in _TEST_PEOPLE else "validation" if person in _VALIDATION_PEOPLE else "train"
        values = np.asarray(series, np.float32).T  # (6, samples)
        for begin in range(0, values.shape[1] - int(length) + 1, int(step)):
            parts[part].append((values[:, begin : begin + int(length)], int(exercise)))
    arrays = {
        part: (np.stack([x for x, _ in windows]), np.array([y for _, y in windows], np.int64))
        for part, windows in parts.items()
    }
    return RawData(name="exercises", inputs="arrays", class_names=tuple(found["y_labels"]), **arrays)


def _of_seglearn() -> Path:
    spec = importlib.util.find_spec("seglearn")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("seglearn is not installed: pip install --no-deps seglearn==1.2.5, or name its file (file=...)")
    return Path(spec.submodule_search_locations[0], "data", "watch_dataset.npy")
