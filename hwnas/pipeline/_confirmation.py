"""Which device a deployment is verified on, and whether the user wants it contacted.

A deployment may be anybody's: its manifest's connection is only used when the user has said so. Knows manifests and
descriptions; opens nothing.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hwnas import registry
from hwnas.deployment import MANIFEST, Manifest
from hwnas.errors import ConfigError, HwnasError, MissingPackageError
from hwnas.measure.connection import where_to
from hwnas.types import Device


def device_to_verify_on(folder: Path, manifest: Manifest, *, here: bool, trust: bool, device: str) -> Device:
    """The device of a manifest, with a connection that the user has confirmed.

    Args:
        folder: of the deployment, for messages.
        manifest: of the deployment.
        here: this machine is the board.
        trust: the manifest's connection is used as it is.
        device: name or path of the user's own description, whose connection is used; "" if none was given.

    Raises:
        ConfigError: the manifest has a connection that nobody confirmed, or a setting that is not what it may be.
        UnknownNameError: there is no device of that name.
    """
    if sum((here, trust, bool(device))) > 1:
        raise ConfigError("give one of --here, --device and --trust: they say where the deployment is verified")
    described = manifest.described_device(here=here)
    if device:
        own: Device = registry.load_object("hwnas.devices:load_device", needed_for="--device")(device)
        described = replace(described, connection=own.connection, cores=own.cores)
    _check(folder, described)
    if described.connection and not (trust or device):
        raise ConfigError(
            f"{folder / MANIFEST} asks to contact a board ({where_to(described.connection)}); nothing was contacted. "
            "If that is your board, name your own description of it with --device DEVICE; to trust the manifest, give "
            "--trust; on the board itself, --here"
        )
    return described


def _check(folder: Path, device: Device) -> None:
    """What is checked in a description is checked in a manifest."""
    check = registry.load_object("hwnas.devices.description:check_device", needed_for="devices")
    try:
        check(device)
    except MissingPackageError:
        raise
    except HwnasError as e:
        raise ConfigError(f"{folder / MANIFEST}: device: {e}") from e
