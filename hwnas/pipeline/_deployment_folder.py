"""Which folder a deployment has: one for each device and set of limits, the same whenever it is made again.

Knows names, numbers and manifests, not how a deployment is made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from hwnas.deployment import MANIFEST, Manifest
from hwnas.errors import ArtefactError, ConfigError


def deployment_folder(parent: Path, *, device: str, limits: Mapping[str, float]) -> Path:
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


def _names(device: str, limits: Mapping[str, float]) -> Iterator[str]:
    texts = {m: f"{v:.4g}" for m, v in sorted(limits.items())}
    parts = [f"{m.removesuffix('_bytes').removesuffix('_ms')}-{text}" for m, text in texts.items()]
    name = "_".join([device, *(parts or ["best"])])
    if "/" in name or name.startswith("."):
        raise ConfigError(f"device name {device!r} cannot name a folder")
    if all(float(text) == limits[m] for m, text in texts.items()):
        yield name
    exact = json.dumps([device, sorted((m, float(v)) for m, v in limits.items())])  # every digit of a float
    digest = hashlib.sha256(exact.encode()).hexdigest()
    yield f"{name}_{digest[:8]}"
    yield f"{name}_{digest}"


def _holds(folder: Path, device: str, limits: Mapping[str, float]) -> bool:
    """Whether a folder's deployment is for this device and these limits; one that cannot be read is for nobody."""
    try:
        manifest = Manifest.read(folder)
    except ArtefactError:
        return True
    return manifest.device.name == device and dict(manifest.limits) == dict(limits)
