from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from hwnas.supernet.batches import step_rng
from hwnas.supernet.checkpoint import load_checkpoint
from hwnas.supernet.processes import process_count, process_rank, start_distributed, stop_distributed
from hwnas.tasks.classification import soft_cross_entropy
from tests.supernet.test_training import SETTINGS, make_stream, make_trainer

STEPS = 3
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes under torchrun left their checkpoints and their weights after the first step."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    command += ["-m", "tests.supernet.two_processes", str(folder), str(STEPS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-6000:]
    return folder


def test_two_processes_train_as_one(folder) -> None:
    assert torch.equal(torch.load(folder / "first_step.0"), torch.load(folder / "first_step.1"))
    assert load_checkpoint(folder / "whole.safetensors").meta["step"] == STEPS


def test_two_processes_that_were_interrupted_end_with_the_weights_of_an_uninterrupted_run(folder) -> None:
    whole, pieces = (load_checkpoint(folder / f"{n}.safetensors").tensors for n in ("whole", "pieces"))
    assert whole.keys() == pieces.keys()
    assert all(torch.equal(whole[k], pieces[k]) for k in whole)


def test_two_processes_round_alike(folder) -> None:
    assert torch.equal(torch.load(folder / "quantized.0"), torch.load(folder / "quantized.1"))
    whole, pieces = (load_checkpoint(folder / f"{n}.safetensors").tensors for n in ("quantized", "quantized_pieces"))
    assert all(torch.equal(whole[k], pieces[k]) for k in whole)
    assert all(bool(whole[k] > 0) for k in whole if k.startswith("ema.") and k.endswith(".scale"))


def test_two_processes_part_networks_alike(folder) -> None:
    first, second = (torch.load(folder / f"parted.{rank}") for rank in range(2))
    assert first["told"] == second["told"]
    assert len(first["told"]) == 1
    assert torch.equal(first["weights"], second["weights"])


def test_a_step_of_two_processes_follows_the_mean_of_their_gradients(folder, space) -> None:
    """Over all passes of the step: parameters that the last pass leaves out, the smallest network's, count as well."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        trainer = make_trainer(space, None)
        targets = trainer.strategy.architectures(0, step_rng(SETTINGS.seed, 0, stream=3))
        images, labels = next(make_stream().batches(0, 1))
        gradients: list[dict[str, torch.Tensor]] = []
        for rank in range(2):
            trainer.supernet.zero_grad()
            outputs: list[torch.Tensor] = []
            for target in targets:
                logits = trainer.supernet(images[rank::2], space.named_blocks(target.encoding))
                if target.teacher is None:
                    loss = F.cross_entropy(logits, labels[rank::2], label_smoothing=SETTINGS.label_smoothing)
                else:
                    loss = soft_cross_entropy(logits, outputs[target.teacher])
                outputs.append(logits.detach())
                loss.backward()
            gradients.append({n: p.grad for n, p in trainer.supernet.named_parameters() if p.grad is not None})
    finally:
        torch.set_num_threads(threads)
    mean = {n: (gradients[0][n] + gradients[1][n]) / 2 for n in gradients[0]}
    norm = torch.stack([g.norm() for g in mean.values()]).norm()
    factor = min(1.0, SETTINGS.max_grad_norm / float(norm))
    expected = []
    for name, p in trainer.supernet.named_parameters():
        g = factor * mean[name] if name in mean else None
        if g is not None:
            g = g + (SETTINGS.weight_decay if p.dim() > 1 else 0.0) * p.detach()
        # the first step of Nesterov's momentum moves by 1 + 0.9 times the gradient
        expected.append((p.detach() if g is None else p.detach() - SETTINGS.rate(0) * 1.9 * g).flatten())
    torch.testing.assert_close(torch.load(folder / "first_step.0"), torch.cat(expected), rtol=1e-5, atol=1e-6)


def test_a_process_alone_is_the_first_of_one_and_joins_nothing(monkeypatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert not start_distributed()
    assert (process_count(), process_rank()) == (1, 0)
    stop_distributed()  # nothing to leave
