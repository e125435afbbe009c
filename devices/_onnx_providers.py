"""ONNX Runtime's execution providers: their names, their options, and whether they run what they were given.

ONNX Runtime gives every operator that a provider does not take to its CPU provider, and says nothing. What was then
measured would be something else, so it is an error unless a description allows it.

Tried with the CPU and OpenVINO providers. The defaults for CUDA, TensorRT, XNNPACK and the others follow ONNX
Runtime's documentation; none of them has run here. Knows sessions and descriptions; never files or times.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas.errors import ConfigError, MeasurementError, UnknownNameError
from hwnas.foreign import as_written, quoted
from hwnas.types import Device

from ._shared import listing

if TYPE_CHECKING:
    import onnxruntime as ort

CPU = "CPUExecutionProvider"
_SUFFIX = "ExecutionProvider"
# those whose int8 kernels add in 16 bits on x86 processors without VNNI (XNNPACK's add in 32)
SATURATING = (CPU, f"OpenVINO{_SUFFIX}", f"Dnnl{_SUFFIX}")
_PREFIX = "provider."  # of options that are the provider's own
_OPTIONS = ("provider", "allow_cpu_fallback")

# as people say it -> (as ONNX Runtime says it, the package that brings it, "" for one of one's own making)
_KNOWN = {
    "acl": ("ACL", ""),
    "azure": ("Azure", "onnxruntime"),
    "cann": ("CANN", "onnxruntime-cann"),
    "coreml": ("CoreML", "onnxruntime"),  # on macOS
    "cpu": ("CPU", "onnxruntime"),
    "cuda": ("CUDA", "onnxruntime-gpu"),
    "directml": ("Dml", "onnxruntime-directml"),
    "dnnl": ("Dnnl", ""),
    "migraphx": ("MIGraphX", "onnxruntime-migraphx"),
    "nnapi": ("Nnapi", ""),
    "openvino": ("OpenVINO", "onnxruntime-openvino"),
    "qnn": ("QNN", "onnxruntime-qnn"),
    "rocm": ("ROCM", ""),
    "tensorrt": ("Tensorrt", "onnxruntime-gpu"),
    "tensorrt-rtx": ("NvTensorRTRTX", ""),
    "vitisai": ("VitisAI", ""),
    "webgpu": ("WebGpu", ""),
    "xnnpack": ("Xnnpack", ""),
}
# Memory that tensors lie in while a model is timed, as ONNX Runtime's bindings name it; for other providers the
# host's, so that their times contain the way to an accelerator and back, as a deployment's do.
_MEMORY = {"CUDA": "cuda", "Tensorrt": "cuda", "NvTensorRTRTX": "cuda", "Dml": "dml", "CANN": "cann"}
# Operators that compute nothing; providers leave them to the CPU where that costs nothing either.
_MOVEMENT = frozenset(
    {"Concat", "Constant", "Flatten", "Gather", "Identity", "Reshape", "Shape", "Slice", "Squeeze", "Transpose"}
    | {"Unsqueeze", "MemcpyFromHost", "MemcpyToHost"}
)
# What an option of a provider may be: a description from elsewhere must not name libraries to be loaded here, nor files
# to be read or written. A library goes by its bare name, which the system finds (LD_LIBRARY_PATH).
_WORD = re.compile(r"[A-Za-z0-9._:,;=+ -]{0,200}")
_NAMES_FILE = re.compile(r"path|dir|file|lib|plugin|cache|dump|config|context|prefix|profil|save|load|log", re.I)
_LIBRARY_OPTIONS = ("backend_path",)  # QNN's, which cannot do without
_LIBRARY = re.compile(r"(lib)?[A-Za-z0-9_]+\.(so(\.[0-9]+)*|dll|dylib)")
_SHOWN = 8  # nodes named in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Which provider is to run a model, and how.

    Attributes:
        name: ONNX Runtime's: `CUDAExecutionProvider`.
        options: its own, with defaults filled in.
        given: those of them that the description names.
        allow_cpu_fallback: whether the CPU may compute what this provider does not.
        threads: of ONNX Runtime's own pool.
    """

    name: str
    options: Mapping[str, str]
    given: Mapping[str, str]
    allow_cpu_fallback: bool
    threads: int

    @property
    def memory(self) -> str:
        """Where timed tensors lie: `cpu`, `cuda`, `dml`, ..."""
        return _MEMORY.get(self.name.removesuffix(_SUFFIX), "cpu")

    @property
    def device_id(self) -> int:
        """Which of several accelerators."""
        return int(self.options.get("device_id", "0"))


def provider_of(device: Device) -> Provider:
    """The provider a description names: `provider = "CUDA"`, `"provider.device_id" = 1`, `allow_cpu_fallback = true`.

    Raises:
        ConfigError: an option, or a value of one, is not known.
        UnknownNameError: there is no provider of that name.
    """
    given: dict[str, str] = {}
    for option, value in device.options.items():
        if option.startswith(_PREFIX) and option != _PREFIX:
            _check_harmless(device, option.removeprefix(_PREFIX), str(value))
            given[option.removeprefix(_PREFIX)] = str(value)
        elif option not in _OPTIONS:
            raise ConfigError(
                f"device {device.name!r} has an unknown option {as_written(option)}; runtime 'onnxruntime' knows: "
                f"{', '.join(_OPTIONS)}, and as provider.<option> those of the execution provider"
            )
    allow = device.options.get("allow_cpu_fallback", False)
    if not isinstance(allow, bool):
        raise ConfigError(
            f"device {device.name!r}: option allow_cpu_fallback is {as_written(allow)}; allowed: true or false"
        )
    provider = device.options.get("provider", CPU)
    if not isinstance(provider, str) or not _WORD.fullmatch(provider):
        raise ConfigError(
            f"device {device.name!r}: option provider is {as_written(provider)}; allowed: the name of an execution "
            "provider, as CUDA"
        )
    name = full_name(provider)
    options = {**_defaults(name, threads=device.threads), **given}
    if not re.fullmatch("[0-9]{1,9}", options.get("device_id", "0")):
        raise ConfigError(
            f"device {device.name!r}: option provider.device_id is {options['device_id']!r}; allowed: a number from 0"
        )
    # XNNPACK brings its own threads; those of ONNX Runtime's pool would only take their cores
    threads = 1 if name == f"Xnnpack{_SUFFIX}" else device.threads
    return Provider(name=name, options=options, given=given, allow_cpu_fallback=allow, threads=threads)


def _check_harmless(device: Device, option: str, value: str) -> None:
    """Refuse what would make a provider load a library of somebody's choice, or read or write a file."""
    if option in _LIBRARY_OPTIONS:
        allowed = "the bare name of a library that the system finds (LD_LIBRARY_PATH), as libQnnHtp.so"
        fits = _LIBRARY.fullmatch(value) is not None
    else:
        allowed = "a word, and no option about files: those may load libraries or write here"
        fits = _WORD.fullmatch(value) is not None and not _NAMES_FILE.search(option)
    if not fits:
        raise ConfigError(
            f"device {device.name!r}: option provider.{quoted(option)} is {as_written(value)}; allowed: {allowed}"
        )


def full_name(name: str) -> str:
    """ONNX Runtime's name of a provider: `cuda`, `CUDA` and `CUDAExecutionProvider` are one.

    Raises:
        UnknownNameError: it is neither known nor a full name, which a plug-in of ONNX Runtime may have.
    """
    said = name.removesuffix(_SUFFIX).lower()
    for known, (own, _) in _KNOWN.items():
        if said in (known, own.lower()):
            return own + _SUFFIX
    if name.endswith(_SUFFIX):
        return name
    raise UnknownNameError("execution provider", name, _KNOWN)


def _defaults(name: str, *, threads: int) -> dict[str, str]:
    """Options without which a provider would take other threads, or compute in fewer bits, than a description says."""
    match name.removesuffix(_SUFFIX):
        case "CUDA":
            return {"use_tf32": "0"}
        case "OpenVINO":
            return {"device_type": "CPU", "num_of_threads": str(threads), "precision": "FP32"}
        case "Xnnpack":
            return {"intra_op_num_threads": str(threads)}
    return {}


def float_type(provider: Provider) -> str:
    """What a provider computes floats in, as far as its options say."""
    said = {name: str(value).lower() for name, value in provider.options.items()}

    def on(option: str) -> bool:
        return said.get(option, "0") in ("1", "true")

    match provider.name.removesuffix(_SUFFIX):
        case "CUDA":
            return "tf32" if on("use_tf32") else "fp32"
        case "Tensorrt":
            return "fp16" if on("trt_fp16_enable") else "bf16" if on("trt_bf16_enable") else "fp32"
        case "MIGraphX":
            return "fp16" if on("migraphx_fp16_enable") else "bf16" if on("migraphx_bf16_enable") else "fp32"
        case "OpenVINO":
            return {"fp16": "fp16", "bf16": "bf16"}.get(said.get("precision", ""), "fp32")
        case "QNN":
            return "fp16" if on("enable_htp_fp16_precision") else "fp32"
    return "fp32"


def check_available(provider: Provider, available: Sequence[str]) -> None:
    """Raises MeasurementError if this build of ONNX Runtime lacks the provider; it would warn and run on the CPU."""
    if provider.name in available:
        return
    package = next((p for own, p in _KNOWN.values() if own + _SUFFIX == provider.name), "")
    remedy = f"the package {package} brings it" if package else "ONNX Runtime must be built with it"
    raise MeasurementError(
        f"execution provider {provider.name!r} is not in this build of ONNX Runtime; available: "
        f"{', '.join(available)}; {remedy}"
    )


def check_placement(session: ort.InferenceSession, provider: Provider, path: Path) -> None:
    """Refuse a session of which another provider would compute something.

    Raises:
        MeasurementError: the provider did not start, or leaves operators to the CPU that are more than a movement of
            data, and the description does not allow it; names them.
    """
    ran = session.get_providers()
    if ran[0] != provider.name:  # its libraries are missing, for example: ONNX Runtime goes on without it
        raise MeasurementError(
            f"{path} was to run on {provider.name}, but ONNX Runtime could not start it and runs on {', '.join(ran)}; "
            "name that provider in the device's options, or make this one work"
        )
    if provider.name == CPU or provider.allow_cpu_fallback:
        return
    nodes = _nodes(session)
    if not nodes:
        raise MeasurementError(
            f"this version of ONNX Runtime does not tell what {provider.name} leaves to the CPU; install a newer one, "
            "or set allow_cpu_fallback = true in the device's options"
        )
    left = [(op, name) for ran_by, op, name in nodes if ran_by != provider.name and op not in _MOVEMENT]
    if left or all(ran_by != provider.name for ran_by, _, _ in nodes):
        named = [f"{name} ({op})" for op, name in (left or [(op, name) for _, op, name in nodes])]
        more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
        raise MeasurementError(
            f"{path} was to run on {provider.name}, but ONNX Runtime runs {len(named)} of {len(nodes)} operators on "
            f"{', '.join(sorted({r for r, _, _ in nodes} - {provider.name}))}: {', '.join(named[:_SHOWN])}{more}; "
            "set allow_cpu_fallback = true in the device's options to measure it so"
        )


def placement(session: ort.InferenceSession, provider: Provider) -> dict[str, str]:
    """What runs where, for people: operators by provider, and those that the provider left to others."""
    nodes = _nodes(session)
    told = {"nodes_by_provider": listing(Counter(ran_by for ran_by, _, _ in nodes))}
    if provider.name != CPU:
        told["left_to_others"] = listing(Counter(op for ran_by, op, _ in nodes if ran_by != provider.name)) or "none"
    return told


def _nodes(session: ort.InferenceSession) -> list[tuple[str, str, str]]:
    """(provider, operator, name) of each node as ONNX Runtime assigned them; empty if its version does not tell."""
    tell = getattr(session, "get_provider_graph_assignment_info", None)
    if tell is None:
        return []
    return [(part.ep_name, node.op_type, node.name) for part in tell() for node in part.get_nodes()]
