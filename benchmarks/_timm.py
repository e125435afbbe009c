"""timm's networks, from a folder of its own: nothing of hwnas needs timm, and no weights are fetched.

    pip install --no-deps --target FOLDER timm==1.0.31 torchvision==0.29.1

Then give FOLDER to the programs (`--timm FOLDER`, or the variable TIMM_FOLDER). Without dependencies, because
torchvision's wheels would bring another torch; its operators fail to load beside this one, and timm needs none of them.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hwnas.errors import ConfigError

VARIABLE = "TIMM_FOLDER"
HOW = "pip install --no-deps --target FOLDER timm==1.0.31 torchvision==0.29.1, then --timm FOLDER"


def find_timm(folder: Path | None) -> Any:
    """The package timm: from a folder, from the one that the variable TIMM_FOLDER names, or as it is installed.

    Args:
        folder: that pip put it into; None: not given.

    Returns:
        The module; None where no folder is given and it is not installed.

    Raises:
        ConfigError: the folder has no timm.
    """
    if folder is None and (named := os.environ.get(VARIABLE)):
        folder = Path(named)
    if folder is not None:
        if not (folder / "timm").is_dir():
            raise ConfigError(f"{folder} has no timm; put it there: {HOW}")
        # behind what is installed: numpy and torch are taken from here
        sys.path.append(str(folder.resolve()))
    return None if importlib.util.find_spec("timm") is None else _imported()


def _imported() -> Any:
    import torch

    with contextlib.suppress(ImportError, RuntimeError):
        return importlib.import_module("timm")
    _LIBRARIES.append(torch.library.Library("torchvision", "FRAGMENT"))
    _LIBRARIES[-1].define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    with _lenient(torch.library):
        importlib.import_module("torchvision")
    return importlib.import_module("timm")


_LIBRARIES: list[Any] = []  # an operator lives as long as its library


@contextlib.contextmanager
def _lenient(library: Any) -> Iterator[None]:
    """Descriptions of operators that do not exist are passed over."""
    register = library.register_fake

    def registered(name: str, *rest: Any, **more: Any) -> Any:
        def decorate(function: Any) -> Any:
            with contextlib.suppress(RuntimeError):
                register(name, *rest, **more)(function)
            return function

        return decorate

    library.register_fake = registered
    try:
        yield
    finally:
        library.register_fake = register
