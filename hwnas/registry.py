"""Names -> objects, loaded when first asked for. The only user of importlib in the core.

Built-in names stand here as "module:attribute"; third parties add theirs through entry points of
the group `hwnas.<kind>` (for example `[project.entry-points."hwnas.runtimes"]`). This module must
never import what it names before somebody asks for it.
"""

from __future__ import annotations

import importlib
import re
from importlib.metadata import PackageNotFoundError, entry_points, requires, version
from typing import Any

from hwnas.errors import ConfigError, MissingPackageError, UnknownNameError

# kind -> name -> (module:attribute, extra that installs what it imports, "" for the core)
_BUILT_IN: dict[str, dict[str, tuple[str, str]]] = {
    "runtimes": {
        "onnxruntime": ("hwnas.devices.onnxruntime:OnnxRuntime", ""),
        "litert": ("hwnas.devices.litert:LiteRtRuntime", "litert"),
        "openvino": ("hwnas.devices.openvino:OpenVinoRuntime", "openvino"),
        "tensorrt": ("hwnas.devices.tensorrt:TensorRtRuntime", "tensorrt"),
        "ethos-u": ("hwnas.devices.ethosu:EthosURuntime", "litert"),
        "fake": ("hwnas.testing.fake:FakeRuntime", ""),
    },
    "exporters": {
        "onnx": ("hwnas.exporters.onnx:OnnxExporter", ""),
        "openvino-onnx": ("hwnas.exporters.openvino:OpenVinoExporter", ""),
        "tflite": ("hwnas.exporters.litert:LiteRtExporter", "litert"),
        "tensorrt-onnx": ("hwnas.exporters.tensorrt:TensorRtExporter", ""),
    },
    "meters": {
        "fake": ("hwnas.testing.meter:FakeMeter", ""),
        "nvml": ("hwnas.devices.meters.nvml:NvmlMeter", "nvml"),
        "rapl": ("hwnas.devices.meters.rapl:RaplMeter", ""),
        "sysfs": ("hwnas.devices.meters.sysfs:SysfsMeter", ""),
    },
    "transports": {
        "ssh": ("hwnas.measure.transports.ssh:SshTransport", ""),
        "adb": ("hwnas.measure.transports.adb:AdbTransport", ""),
    },
    "spaces": {
        "mobilenet-tiny": ("hwnas.spaces.presets:mobilenet_tiny", ""),
        "mobilenet-v3-large": ("hwnas.spaces.presets:mobilenet_v3_large", ""),
        "test-tiny": ("hwnas.testing.spaces:tiny_space", ""),
    },
    "space_types": {  # classes, by the name they have in files
        "categorical": ("hwnas.spaces.categorical:CategoricalSpace", ""),
        "mobilenet": ("hwnas.spaces.mobilenet:MobileNetSpace", ""),
    },
    "samplers": {
        "nsga2": ("hwnas.search.samplers:nsga2", ""),
        "nsga3": ("hwnas.search.samplers:nsga3", ""),
        "tpe": ("hwnas.search.samplers:tpe", ""),
        "random": ("hwnas.search.samplers:random", ""),
    },
    "strategies": {
        "sandwich": ("hwnas.supernet.strategies:SandwichRule", ""),
        "largest": ("hwnas.supernet.strategies:LargestOnly", ""),
    },
    "data": {
        "digits": ("hwnas.data.sources:digits", ""),
        "idx": ("hwnas.data.sources:idx", ""),
        "npz": ("hwnas.data.sources:npz", ""),
        "folder": ("hwnas.data.sources:folder", ""),
        "python": ("hwnas.data.sources:python", ""),
    },
}
_WHAT = {
    "runtimes": "runtime",
    "exporters": "exporter",
    "meters": "energy meter",
    "transports": "transport",
    "spaces": "space",
    "space_types": "type of space",
    "samplers": "sampler",
    "strategies": "training strategy",
    "data": "data source",
}


def names(kind: str) -> tuple[str, ...]:
    """All registered names of a kind, sorted: built in and from entry points."""
    return tuple(sorted({*_BUILT_IN[kind], *(e.name for e in entry_points(group=f"hwnas.{kind}"))}))


def extra(kind: str, name: str) -> str | None:
    """The extra that installs what a built-in name needs, "" for the core; None if a third party registered it."""
    found = _BUILT_IN[kind].get(name)
    return found[1] if found else None


def modules(kind: str) -> tuple[str, ...]:
    """The modules of the built-in objects of a kind, sorted; none is imported."""
    return tuple(sorted({target.partition(":")[0] for target, _ in _BUILT_IN[kind].values()}))


def distributions(kind: str, name: str) -> tuple[str, ...]:
    """Names of the distributions that the extra of a built-in object brings; empty if it has no extra."""
    wanted = extra(kind, name)
    ending = re.compile(rf"""extra\s*==\s*["']{re.escape(wanted)}["']""") if wanted else None
    found = [r for r in requirements() if ending is not None and ending.search(r)]
    return tuple(re.split(r"[\s<>=!~;\[]", r, maxsplit=1)[0] for r in found)


def requirements() -> tuple[str, ...]:
    """What this package requires, as its metadata has it: `optuna>=5.0`, `pytest>=8; extra == "dev"`, ..."""
    return tuple(requires("hwnas") or ())


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution, which is not imported; None if there is none."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def load(kind: str, name: str) -> Any:
    """The object registered under a name.

    Raises:
        UnknownNameError: nobody registered it; lists the known names.
        MissingPackageError: a package it imports is not installed; names the extra.
        ConfigError: the registration names something that does not exist.
    """
    target, extra = _BUILT_IN[kind].get(name, ("", ""))
    if not target:
        found = entry_points(group=f"hwnas.{kind}", name=name)
        if not found:
            raise UnknownNameError(_WHAT[kind], name, names(kind))
        target = next(iter(found)).value
    return load_object(target, extra=extra, needed_for=f"{_WHAT[kind]} {name!r}")


def load_object(target: str, *, extra: str = "", needed_for: str) -> Any:
    """The object at "module:attribute".

    Args:
        target: what to import.
        extra: the optional dependency group that brings what the module imports.
        needed_for: named in the error.

    Raises:
        MissingPackageError: an import inside the module failed.
        ConfigError: there is no such module or attribute.
    """
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"{target!r} is not of the form 'module:attribute' ({needed_for})")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as e:
        if e.name and (e.name == module_name or module_name.startswith(e.name + ".")):
            raise ConfigError(f"there is no module {module_name!r} ({needed_for})") from e
        raise MissingPackageError(e.name or "?", extra, needed_for=needed_for) from e
    try:
        return getattr(module, attribute)
    except AttributeError as e:
        raise ConfigError(f"module {module_name!r} has no {attribute!r} ({needed_for})") from e
