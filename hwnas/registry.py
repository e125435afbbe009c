"""Names -> objects, loaded when first asked for. The one place in the core that imports by name.

Built-in names stand here as "module:attribute"; third parties add theirs through entry points of
the group `hwnas.<kind>` (for example `[project.entry-points."hwnas.runtimes"]`), or call `register` when
their module is imported. This module must never import what it names before somebody asks for it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from hwnas.errors import ConfigError, MissingPackageError, UnknownNameError
from hwnas.packages import requirements

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
        "mobilenet-mini": ("hwnas.spaces.presets:mobilenet_mini", ""),
        "mobilenet-small": ("hwnas.spaces.presets:mobilenet_small", ""),
        "mobilenet-v3-large": ("hwnas.spaces.presets:mobilenet_v3_large", ""),
        "ofa-mobilenet-v3": ("hwnas.spaces.once_for_all:ofa_mobilenet_v3", ""),
        "ofa-mobilenet-v3-w1.2": ("hwnas.spaces.once_for_all:ofa_mobilenet_v3_wide", ""),
        "resnet20": ("hwnas.spaces.resnet:resnet20", ""),
        "resnet29": ("hwnas.spaces.resnet:resnet29", ""),
        "resnet50": ("hwnas.spaces.resnet:resnet50", ""),
        "vit-tiny": ("hwnas.spaces.presets:vit_tiny", ""),
        "autoformer-tiny": ("hwnas.spaces.presets:autoformer_tiny", ""),
        "vit-resnas-tiny": ("hwnas.spaces.presets:vit_resnas_tiny", ""),
        "conv1d-keyword": ("hwnas.spaces.conv1d:conv1d_keyword", ""),
        "conv1d-sensor": ("hwnas.spaces.conv1d:conv1d_sensor", ""),
        "segment-tiny": ("hwnas.spaces.segmentation:segment_tiny", ""),
        "segment-mobile": ("hwnas.spaces.segmentation:segment_mobile", ""),
        "test-tiny": ("hwnas.testing.spaces:tiny_space", ""),
    },
    "space_types": {  # classes, by the name they have in files
        "adapted": ("hwnas.spaces.adapted.space:AdaptedSpace", ""),
        "categorical": ("hwnas.spaces.categorical:CategoricalSpace", ""),
        "conv1d": ("hwnas.spaces.conv1d:Conv1dSpace", ""),
        "mobilenet": ("hwnas.spaces.mobilenet:MobileNetSpace", ""),
        "resnet": ("hwnas.spaces.resnet:ResNetSpace", ""),
        "resnet-bottleneck": ("hwnas.spaces.resnet:BottleneckSpace", ""),
        "segmentation": ("hwnas.spaces.segmentation:SegmentationSpace", ""),
        "vision-transformer": ("hwnas.spaces.vision_transformer:VisionTransformerSpace", ""),
    },
    "block_kinds": {  # what slots become, by the name that keys of tables begin with
        "adapted": ("hwnas.spaces.adapted.kind:ADAPTED", ""),
        "conv": ("hwnas.spaces.parts:CONV", ""),
        "mbconv": ("hwnas.spaces.mobilenet_kinds:MBCONV", ""),
        "head": ("hwnas.spaces.mobilenet_kinds:HEAD", ""),
        "basic": ("hwnas.spaces.resnet:BASIC", ""),
        "bottleneck": ("hwnas.spaces.resnet:BOTTLENECK", ""),
        "deep_stem": ("hwnas.spaces.resnet:DEEP_STEM", ""),
        "classifier": ("hwnas.spaces.resnet:CLASSIFIER", ""),
        "patch_embedding": ("hwnas.spaces.vision_transformer_kinds:PATCH_EMBEDDING", ""),
        "self_attention": ("hwnas.spaces.vision_transformer_kinds:SELF_ATTENTION", ""),
        "mlp": ("hwnas.spaces.vision_transformer_kinds:MLP", ""),
        "patch_merging": ("hwnas.spaces.vision_transformer_kinds:PATCH_MERGING", ""),
        "token_classifier": ("hwnas.spaces.vision_transformer_kinds:TOKEN_CLASSIFIER", ""),
        "hourglass": ("hwnas.spaces.segmentation_kinds:HOURGLASS", ""),
        "mask_head": ("hwnas.spaces.segmentation_kinds:MASK_HEAD", ""),
        "separable1d": ("hwnas.spaces.conv1d:SEPARABLE1D", ""),
        "head1d": ("hwnas.spaces.conv1d:HEAD1D", ""),
        "quantize": ("hwnas.spaces.kinds:QUANTIZE", ""),
        "dequantize": ("hwnas.spaces.kinds:DEQUANTIZE", ""),
    },
    "samplers": {
        "early-exit": ("hwnas.search.samplers.early_exit:early_exit", ""),
        "gp": ("hwnas.search.samplers.surrogates:gp", ""),
        "local-search": ("hwnas.search.samplers.local_search:local_search", ""),
        "map-elites": ("hwnas.search.samplers.map_elites:map_elites", ""),
        "nsga2": ("hwnas.search.samplers.genetic:nsga2", ""),
        "nsga3": ("hwnas.search.samplers.genetic:nsga3", ""),
        "predictor": ("hwnas.search.samplers.predictor:predictor", ""),
        "regularised-evolution": ("hwnas.search.samplers.regularised_evolution:regularised_evolution", ""),
        "tpe": ("hwnas.search.samplers.surrogates:tpe", ""),
        "random": ("hwnas.search.samplers.uniform:random", ""),
    },
    "strategies": {
        "sandwich": ("hwnas.supernet.strategies:SandwichRule", ""),
        "split-sandwich": ("hwnas.supernet.strategies:SplitSandwich", ""),
        "progressive": ("hwnas.supernet.strategies:ProgressiveShrinking", ""),
        "best-up": ("hwnas.supernet.strategies:BestUp", ""),
        "worst-up": ("hwnas.supernet.strategies:WorstUp", ""),
        "probability-shift": ("hwnas.supernet.strategies:ProbabilityShift", ""),
        "compound": ("hwnas.supernet.strategies:Compound", ""),
        "largest": ("hwnas.supernet.strategies:LargestOnly", ""),
    },
    "tasks": {
        "classification": ("hwnas.tasks.classification:Classification", ""),
        "multi_label": ("hwnas.tasks.multi_label:MultiLabel", ""),
        "outputs": ("hwnas.tasks.outputs:Outputs", ""),
        "regression": ("hwnas.tasks.regression:Regression", ""),
        "segmentation": ("hwnas.tasks.segmentation:Segmentation", ""),
    },
    "data": {
        "digits": ("hwnas.data.sources:digits", ""),
        "zoo": ("hwnas.zoo.source:images", ""),
        "idx": ("hwnas.data.sources:idx", ""),
        "npz": ("hwnas.data.sources:npz", ""),
        "folder": ("hwnas.data.sources:folder", ""),
        "datasets": ("hwnas.data.arrow_source:datasets", "arrow"),
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
    "block_kinds": "kind of block",
    "samplers": "sampler",
    "strategies": "training strategy",
    "tasks": "task",
    "data": "data source",
}
# kind -> name -> the object, from modules of the user's own in this process
_REGISTERED: dict[str, dict[str, Any]] = {}


def register(kind: str, name: str, thing: Any) -> None:
    """Make an object known for as long as this process lasts: what a module of one's own does when it is imported.

    Registering the same object again changes nothing.

    Args:
        kind: `block_kinds`, `space_types`, `samplers`, ...
        name: it is asked for by.
        thing: what `load` gives.

    Raises:
        ConfigError: an unknown kind, or another object has the name.
    """
    if kind not in _BUILT_IN:
        raise ConfigError(f"nothing is registered under {kind!r}; known: {', '.join(sorted(_BUILT_IN))}")
    # what was made under a name is kept, so a name means one thing
    if name in names(kind) and _REGISTERED.get(kind, {}).get(name) is not thing:
        raise ConfigError(f"there is another {_WHAT[kind]} {name!r} already; give yours another name")
    _REGISTERED.setdefault(kind, {})[name] = thing


def names(kind: str) -> tuple[str, ...]:
    """All registered names of a kind, sorted: built in, from entry points, and registered in this process."""
    own = _REGISTERED.get(kind, {})
    return tuple(sorted({*own, *_BUILT_IN[kind], *(e.name for e in entry_points(group=f"hwnas.{kind}"))}))


def extra(kind: str, name: str) -> str | None:
    """The extra that installs what a built-in name needs, "" for the core; None if a third party registered it."""
    found = _BUILT_IN[kind].get(name)
    return found[1] if found else None


def built_in() -> Mapping[str, Mapping[str, str]]:
    """Kind -> name -> `module:attribute` of every object that comes with hwnas; none is imported."""
    return {kind: {name: target for name, (target, _) in known.items()} for kind, known in _BUILT_IN.items()}


def what_is(kind: str) -> str:
    """What one object of a kind is called: `runtime`, `energy meter`, ..."""
    return _WHAT[kind]


def modules(kind: str) -> tuple[str, ...]:
    """The modules of the built-in objects of a kind, sorted; none is imported."""
    return tuple(sorted({target.partition(":")[0] for target, _ in _BUILT_IN[kind].values()}))


def distributions(kind: str, name: str) -> tuple[str, ...]:
    """Names of the distributions that the extra of a built-in object brings; empty if it has no extra."""
    wanted = extra(kind, name)
    return tuple(each.name for each in requirements() if wanted and each.extra == wanted)


def load(kind: str, name: str) -> Any:
    """The object registered under a name.

    Raises:
        UnknownNameError: nobody registered it; lists the known names.
        MissingPackageError: a package it imports is not installed; names the extra.
        ConfigError: the registration names something that does not exist.
    """
    if name in _REGISTERED.get(kind, {}):
        return _REGISTERED[kind][name]
    target, extra = _BUILT_IN[kind].get(name, ("", ""))
    if not target:
        found = entry_points(group=f"hwnas.{kind}", name=name)
        if not found:
            raise UnknownNameError(_WHAT[kind], name, names(kind))
        target = next(iter(found)).value
    return load_object(target, extra=extra, needed_for=f"{_WHAT[kind]} {name!r}")


def taken_by(factory: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some options that a factory has a parameter for: a sampler without generations gets no size of them.

    Args:
        factory: a registered class or function.
        options: parameter -> value, as configured.
    """
    known = inspect.signature(factory).parameters
    return {name: value for name, value in options.items() if name in known}


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
        # the module itself or a package above it is not there; any other name is of something that it imports
        if e.name and (e.name == module_name or module_name.startswith(e.name + ".")):
            raise ConfigError(f"there is no module {module_name!r} ({needed_for})") from e
        raise MissingPackageError(e.name or "?", extra, needed_for=needed_for) from e
    try:
        return getattr(module, attribute)
    except AttributeError as e:
        raise ConfigError(f"module {module_name!r} has no {attribute!r} ({needed_for})") from e


# ---------------------------------------------------------------- modules of the user's own


def is_part_of_python(module: str) -> bool:
    """The module belongs to Python's standard library, or is built in."""
    return module.partition(".")[0] in sys.stdlib_module_names | set(sys.builtin_module_names)


def file_in(directory: Path, module: str) -> Path | None:
    """The source file that a module's name means in a directory; None if there is none. Nothing is imported."""
    base = directory.joinpath(*module.split("."))
    return next((f for f in (base.with_name(base.name + ".py"), base / "__init__.py") if f.is_file()), None)


def installed_file(module: str) -> Path | None:
    """The source file of an installed module; nothing is imported.

    Returns:
        None if there is no such file, or it is a part of Python.
    """
    if is_part_of_python(module):
        return None
    spec = _spec(module)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    file, python = Path(spec.origin), Path(sysconfig.get_path("stdlib"))
    # a few parts of Python, such as `test`, are not in its list of names
    return file if not file.is_relative_to(python) or {"site-packages", "dist-packages"} & set(file.parts) else None


def _spec(module: str) -> ModuleSpec | None:
    """Where an importable module lies; no package above it is imported."""
    places: Sequence[str] | None = None
    spec: ModuleSpec | None = None
    parts = module.split(".")
    for n in range(1, len(parts) + 1):
        name = ".".join(parts[:n])
        # `importlib.util.find_spec` would import the packages above, and so run code before anybody was told
        found = (finder.find_spec(name, places) for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((s for s in found if s is not None), None)
        if spec is None:
            return None
        places = spec.submodule_search_locations or ()
    return spec


@contextlib.contextmanager
def importable(directory: Path) -> Iterator[None]:
    """Let modules of a directory be imported: before installed ones, after Python's own."""
    added = str(directory)
    # a `random.py` in the working directory must not stand in for Python's own, which others import later
    at = next(
        (i for i, place in enumerate(sys.path) if place.endswith(("site-packages", "dist-packages"))), len(sys.path)
    )
    sys.path.insert(at, added)
    try:
        yield
    finally:
        sys.path.remove(added)


def load_file(module: str, file: Path) -> ModuleType:
    """The module in a file of the user's, under its name unless another module has that.

    Raises:
        MissingPackageError: an import inside the module failed.
        ConfigError: it lies in a package whose name another one has.
    """
    if "." in module:  # it may import from its package by relative names, which takes the ordinary way
        loaded = load_module(module)
        if not loaded.__file__ or not Path(loaded.__file__).samefile(file):
            raise ConfigError(f"the name {module!r} means {loaded.__file__}, not {file}; rename the folder")
        return loaded
    # Run once in a process: what it registers a second time would be another object of the same name, and refused.
    for name in (module, f"_user_{module}"):
        known = sys.modules.get(name)
        if known is not None and known.__dict__.get("__file__") == str(file):
            return known
    other = _spec(module)
    taken = module in sys.modules or (other is not None and other.origin != str(file))
    name = f"_user_{module}" if taken else module
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{file} is not a module of Python")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded  # dataclasses and pickles in it look themselves up there
    try:
        spec.loader.exec_module(loaded)
    except BaseException as e:
        sys.modules.pop(name, None)
        if isinstance(e, ModuleNotFoundError):
            raise MissingPackageError(e.name or "?", "", needed_for=str(file)) from e
        raise
    return loaded


def load_module(module: str) -> ModuleType:
    """An installed module.

    Raises:
        MissingPackageError: an import inside the module failed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as e:
        raise MissingPackageError(e.name or "?", "", needed_for=f"module {module!r}") from e
