"""Inputs of a report as a run would make them, with invented but plausible numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hwnas.data import Preprocessing
from hwnas.deployment import SCHEMA, ByClass, Manifest
from hwnas.report import BlockShare, PredictionPoint, ReportInputs
from hwnas.search.study import FailedTrial, Study
from hwnas.spaces.mobilenet import MobileNetSpace
from hwnas.spaces.presets import mobilenet_tiny
from hwnas.types import Block, Direction, IntArray

SPACE = mobilenet_tiny(1, 10)
HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def encodings(n: int, *, space: MobileNetSpace = SPACE, seed: int = 0) -> IntArray:
    """(n, D) random canonical encodings."""
    rng = np.random.default_rng(seed)
    return space.canonical(np.stack([rng.integers(len(c.options), size=n) for c in space.choices], axis=1))


def study(n: int = 400, **changes: Any) -> Study:
    """A study of n trials whose accuracy saturates with latency; 0.6 ms is the limit."""
    rng = np.random.default_rng(1)
    latency = 0.25 + rng.gamma(3.0, 0.12, n)
    accuracy = np.clip(0.995 - 0.012 / latency - rng.gamma(1.5, 0.006, n), 0.1, 0.997)
    fields: dict[str, Any] = {
        "name": "made-up",
        "space_name": SPACE.name,
        "choices": SPACE.choices,
        "directions": {"accuracy": Direction.MAXIMIZE, "latency_ms": Direction.MINIMIZE},
        "limits": {"latency_ms": 0.6},
        "numbers": np.arange(n),
        "encodings": encodings(n),
        "values": {"accuracy": accuracy, "latency_ms": latency, "size_bytes": 3e4 + 8e4 * latency},
        "upper": {"latency_ms": 1.05 * latency},
        "feasible": 1.05 * latency <= 0.6,
        "sources": {"accuracy": "measured", "latency_ms": "estimated"},
    }
    return Study(**(fields | changes))


def by_class(n_classes: int = 10, *, n: int = 360, wrong: float = 0.02) -> ByClass:
    """Counts of n test images of which a share is taken for the next class."""
    labels = np.arange(n) % n_classes
    missed = np.random.default_rng(4).random(n) < wrong
    return ByClass.of(labels, (labels + missed) % n_classes, class_names=[str(c) for c in range(n_classes)])


def manifest(**changes: Any) -> Manifest:
    """A deployment of mobilenet-tiny in int8 that keeps its limits."""
    encoding = encodings(1)[0]
    fields: dict[str, Any] = {
        "schema_number": SCHEMA,
        "space": SPACE.name,
        "architecture": SPACE.decode(encoding),
        "blocks": tuple(b.key for _, b in SPACE.named_blocks(encoding)),
        "device": {
            "name": "cpu",
            "runtime": "onnxruntime",
            "threads": 1,
            "options": {"provider": "CPUExecutionProvider"},
            "context": {
                "runtime_version": "1.31.1",
                "hardware": "Example Processor 8000 @ 2.40GHz [avx2 fma avx512f avx512_vnni]",
                "governor": "performance",
                "os": "Linux 6.1.0",
                "machine": "x86_64",
                "cores": "2",
                "threads": "1",
            },
        },
        "runtime": "onnxruntime",
        "precision": "int8",
        "limits": {"latency_ms": 0.6, "size_bytes": 300_000.0},
        "predicted": {
            "latency_ms": 0.471,
            "latency_ms_upper": 0.502,
            "accuracy": 0.9861,
            "macs": 1_234_567.0,
            "parameters": 45_210.0,
            "size_bytes": 60_100.0,
            "peak_memory_bytes": 24_576.0,
        },
        "measured": {
            "latency_ms": {"fastest": 0.4823, "median": 0.4899, "p90": 0.4991, "n": 30, "cv": 0.021, "drift": 1.034}
        },
        "accuracy": {
            "validation_torch": 0.9861,
            "validation_fp32": 0.9931,
            "test_torch": 0.9833,
            "test_fp32": 0.9861,
            "test_runtime": 0.9833,
            "n_test": 360,
            "by_class": by_class(),
        },
        "parity": {"max_abs_diff": 0.0412, "top1_agreement": 1.0, "n": 360},
        "artefact": {"path": "model.onnx", "format": "onnx", "sha256": HASH, "size_bytes": 61_284},
        "reference": {"path": "reference.onnx", "format": "onnx", "sha256": HASH[::-1], "size_bytes": 12_000},
        "reference_ms": 0.2104,
        "input": {"shape": (1, 24, 24)},
        "preprocessing": Preprocessing.of(None, shape=(8, 8, 1), mean=(0.3053,), std=(0.3767,), resolution=(24, 24)),
        "samples_sha256": HASH,
        "classes": tuple(map(str, range(10))),
        "rejected": (
            {
                "trial": 211,
                "reason": "latency 0.618 ms is over the limit of 0.6 ms",
                "architecture": {"resolution": 32},
                "predicted": {"latency_ms": 0.566, "latency_ms_upper": 0.599},
                "measured": {"latency_ms": 0.618},
            },
            {
                "trial": 87,
                "reason": "the runtime refused the file: unsupported operator",
                "predicted": {"latency_ms": 0.55},
            },
        ),
        "provenance": {
            "hwnas": "0.1.0",
            "versions": {"torch": "2.13.0", "numpy": "2.4.6", "onnxruntime": "1.31.1"},
            "seeds": {"train": 0, "search": 0},
            "table_sha256": HASH,
            "checkpoint_sha256": HASH[::-1],
            "date": "2026-11-22T13:40:00Z",
        },
    }
    return Manifest.model_validate(fields | changes)


def shares(n: int = 0, *, space: MobileNetSpace = SPACE) -> tuple[BlockShare, ...]:
    """Blocks of a random network; of the one with at least n blocks if n is given."""
    networks = (space.named_blocks(e) for e in encodings(400, space=space))
    blocks = next(named for named in networks if len(named) >= n)
    return tuple(BlockShare(slot=slot, block=b, latency_ms=_plausible_ms(b)) for slot, b in blocks)


def _plausible_ms(block: Block) -> float:
    work = float(np.prod(block.in_shape)) * float(dict(block.attributes).get("hidden_channels", 2))
    return 0.004 + work * 4e-7 * (0.6 if block.precision == "int8" else 1.0)


def points(n: int = 60) -> tuple[PredictionPoint, ...]:
    """n networks, half of them held out, in both precisions, with errors of about 3 %."""
    rng = np.random.default_rng(2)
    measured, errors = rng.uniform(0.25, 1.3, n), 0.03 * rng.standard_normal(n)
    return tuple(
        PredictionPoint(
            precision=("fp32", "int8")[i % 2],
            predicted_ms=float(ms * (1 + error)),
            measured_ms=float(ms),
            held_out=i % 4 < 2,
        )
        for i, (ms, error) in enumerate(zip(measured, errors, strict=True))
    )


def history(n: int = 200) -> tuple[Mapping[str, float], ...]:
    """A loss that falls."""
    rng = np.random.default_rng(3)
    t = np.linspace(0, 1, n)
    large = 0.55 + 1.8 * np.exp(-7 * t) + 0.02 * rng.standard_normal(n)
    small = 0.65 + 1.7 * np.exp(-5 * t) + 0.03 * rng.standard_normal(n)
    return tuple(
        {"step": float(10 * (i + 1)), "loss": float(large[i]), "loss_smallest": float(small[i])} for i in range(n)
    )


def inputs(**changes: Any) -> ReportInputs:
    """All of it together; the chosen trial is the best that keeps the limit."""
    found = changes.get("study", study())
    fields: dict[str, Any] = {
        "manifest": manifest(),
        "shares": shares(),
        "points": points(),
        "study": found,
        "trial": changes["trial"] if "trial" in changes else found.best("accuracy").number,
        "history": history(),
        "sources": {
            "accuracy": "measured",
            "latency_ms": "estimated from the latency table, corrected by 30 whole networks",
            "size_bytes": "estimated from the number of weights",
        },
    }
    return ReportInputs(**(fields | changes))


def failed() -> FailedTrial:
    """A trial that could not be evaluated."""
    return FailedTrial(number=999, architecture={"resolution": 16}, reason="out of memory")
