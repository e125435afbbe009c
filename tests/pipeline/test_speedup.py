"""What int8 gains, against the same network in fp32."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from hwnas.config import Config
from hwnas.deployment import PrecisionSpeedup
from hwnas.measure import Worker, artefact_from_file
from hwnas.pipeline import speedup
from hwnas.pipeline.costs import anchor_path
from hwnas.pipeline.speedup import measure_speedup
from hwnas.pipeline.workers import make_evaluator
from hwnas.types import Block
from hwnas.workspace import Workspace


def speedup_of(
    config: Config, folder: Path, *, precision: str = "int8", legal: tuple[str, ...] = ("fp32", "int8")
) -> PrecisionSpeedup | None:
    import torch

    work = Workspace(config)
    work.device = dataclasses.replace(work.device, precisions=legal)  # a cached property: it stays
    part = work.training_space.restrict(precisions=(precision,))
    named = part.named_blocks(part.largest())
    evaluator = make_evaluator(work)
    subnetwork = evaluator.extract(named)
    network, example = evaluator.quantize(subnetwork), torch.zeros(1, *subnetwork.in_shape)
    artefact = work.exporter.export(network, example, folder / "model.onnx", precision=precision)
    anchor = artefact_from_file(anchor_path(work, precision), format="onnx", precision=precision)
    with Worker(work.device) as worker:
        return measure_speedup(
            work,
            worker,
            blocks=[b for _, b in named],
            float_network=subnetwork,
            artefact=artefact,
            anchor=anchor,
            anchor_ms=1.0,
        )


def test_the_speed_up_is_that_of_both_forms(config: Config, tmp_path: Path) -> None:
    found = speedup_of(config, tmp_path)
    assert found is not None
    assert found.speedup == pytest.approx(found.float_latency_ms / found.latency_ms)


def test_where_the_speedup_is_small_the_blocks_that_stop_it_are_named(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speedup, "ENOUGH", 1e9)
    found = speedup_of(config, tmp_path)
    assert found is not None
    kinds = {Block.from_key(b.block).kind for b in found.slow_blocks}
    assert kinds == {"conv", "mbconv", "head", "quantize", "dequantize"}
    for block in found.slow_blocks:
        assert (block.float_latency_ms is None) == (Block.from_key(block.block).kind in ("quantize", "dequantize"))
    shares = [b.count * b.latency_ms for b in found.slow_blocks]
    assert shares == sorted(shares, reverse=True)


def test_where_the_speedup_is_enough_no_block_is_named(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speedup, "ENOUGH", 1e-9)
    found = speedup_of(config, tmp_path)
    assert found is not None
    assert found.slow_blocks == ()


def test_a_network_without_integers_has_no_speedup(config: Config, tmp_path: Path) -> None:
    assert speedup_of(config, tmp_path, precision="fp32") is None


def test_a_device_without_fp32_has_nothing_to_compare_with(config: Config, tmp_path: Path) -> None:
    assert speedup_of(config, tmp_path, legal=("int8",)) is None
