"""Which folder a deployment has: one for each device and set of limits, the same whenever it is made again.

A new deployment takes the place of the one before by renaming: the old goes aside, the new comes in, the old is
removed. Whenever the process is killed, one of them is there whole, and `heal` gives it its name back. Knows names,
numbers and manifests, not how a deployment is made.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas.allowed import Allowed, Between, Limits, limits_to_json
from hwnas.deployment import MANIFEST, Manifest
from hwnas.errors import ArtefactError, ConfigError
from hwnas.limits import as_limits

if TYPE_CHECKING:
    from hwnas._console import Console
    from hwnas.workspace import Workspace

_NEW, _OLD = ".new", ".old"  # behind a deployment's name with a dot before it


def deployment_folder(parent: Path, *, device: str, limits: Limits) -> Path:
    """`<device>_latency-0.5_size-3e+05`: readable, and of no other device or limits.

    Limits that four digits do not tell exactly get a mark that does. A folder that holds the deployment of other limits
    or of another device is never given, whatever it is called.

    Args:
        parent: of all deployments of the run.
        device: name.
        limits: metric -> limit, in absolute numbers.

    Raises:
        ConfigError: the device's name cannot name a folder.
    """
    for name in _names(device, limits):
        folder = parent / name
        if not (folder / MANIFEST).exists() or _holds(folder, device, limits):
            return folder
    raise AssertionError("a whole SHA-256 is of one device and set of limits alone")


def deployments_in(parent: Path) -> list[Path]:
    """All whole deployments of a run, by name."""
    return sorted(p.parent for p in parent.glob(f"*/{MANIFEST}") if not p.parent.name.startswith("."))


@contextlib.contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """A hidden folder beside the one that it is for; what is left of it goes, unless `take_place` gave it the name."""
    # in the same folder: renaming is atomic only within one file system
    folder = final.with_name(f".{final.name}{_NEW}")
    _remove(folder)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def take_place(new: Path, final: Path) -> None:
    """Give a finished deployment its name; the one that had it goes once the new one is there."""
    old = final.with_name(f".{final.name}{_OLD}")
    # a dangling link does not exist, and still has the name
    if final.exists() or final.is_symlink():
        _remove(old)
        # between these two renames only the old one is there, hidden: what `heal` is for
        final.rename(old)
    new.rename(final)
    _remove(old)


def heal_run(work: Workspace, *, console: Console) -> None:
    """Heal a run's deployments, unless another process exports: it has healed them."""
    parent = work.folder / "deployments"
    if not parent.is_dir():
        return
    with contextlib.suppress(ConfigError), work.alone("exporting"):
        for folder in heal(parent):
            console.note(f"{folder} is there again: a process was killed while another was to take its place")


def heal(parent: Path) -> list[Path]:
    """Put back what a killed process had set aside, and remove what it left behind. Nobody may export meanwhile.

    Args:
        parent: of all deployments of the run; there need be none.

    Returns:
        The deployments that have their names again.
    """
    restored = []
    for old in sorted(parent.glob(f".*{_OLD}")):
        final = old.with_name(old.name.removeprefix(".").removesuffix(_OLD))
        if final.exists() or final.is_symlink():
            _remove(old)
        else:
            old.rename(final)
            restored.append(final)
    for new in sorted(parent.glob(f".*{_NEW}")):
        _remove(new)
    return restored


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _names(device: str, limits: Limits) -> Iterator[str]:
    texts = {m: _text(v) for m, v in sorted(limits.items())}
    parts = [f"{m.removesuffix('_bytes').removesuffix('_ms')}-{text}" for m, text in texts.items()]
    name = "_".join([device, *(parts or ["best"])])
    if "/" in name or name.startswith("."):
        raise ConfigError(f"device name {device!r} cannot name a folder")
    if all(float(f"{x.value:.4g}") == x.value for x in as_limits(limits)):
        yield name
    exact = json.dumps([device, sorted(limits_to_json(limits).items())])  # every digit of a float
    digest = hashlib.sha256(exact.encode()).hexdigest()
    yield f"{name}_{digest[:8]}"
    yield f"{name}_{digest}"


def _text(allowed: Allowed) -> str:
    """`0.5`, `0.2..0.5`, `0.2..`: four digits of each side."""
    if not isinstance(allowed, Between):
        return f"{allowed:.4g}"
    return "..".join("" if side is None else f"{side:.4g}" for side in (allowed.at_least, allowed.at_most))


def _holds(folder: Path, device: str, limits: Limits) -> bool:
    """Whether a folder's deployment is for this device and these limits; one that cannot be read is for nobody."""
    try:
        manifest = Manifest.read(folder)
    except ArtefactError:
        return True
    return manifest.device.name == device and dict(manifest.limits) == dict(limits)
