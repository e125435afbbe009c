from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from hwnas.data import ArrayDataset
from hwnas.errors import CheckpointError, ConfigError, DataError, DivergenceError
from hwnas.supernet.batches import BatchStream
from hwnas.supernet.checkpoint import load_checkpoint, load_newest, previous
from hwnas.supernet.elastic import Supernet
from hwnas.supernet.settings import TrainSettings
from hwnas.supernet.strategies import LargestOnly, SandwichRule, SplitSandwich
from hwnas.supernet.training import Keeping, Trainer, load_averaged
from hwnas.types import TrainTarget


def make_images(n: int = 64) -> ArrayDataset:
    """Two classes a small network learns at once: bright left half, bright right half."""
    rng = np.random.default_rng(0)
    labels = np.arange(n, dtype=np.int64) % 2
    images = rng.integers(0, 60, (n, 8, 8, 2), dtype=np.uint8)
    images[labels == 0, :, :4] += 150
    images[labels == 1, :, 4:] += 150
    return ArrayDataset(inputs=images, targets=labels)


def make_stream(data: object | None = None, **changes: object) -> BatchStream:
    arguments: dict = {"batch_size": 16, "mean": (0.3, 0.3), "std": (0.3, 0.3), **changes}
    return BatchStream(make_images() if data is None else data, **arguments)


SETTINGS = TrainSettings(steps=8, learning_rate=0.05, ema_decay=0.9)


def make_trainer(
    space, path: Path | None, *, settings=SETTINGS, seed: int = 0, stream=None, rounded: bool = False, **changes
) -> Trainer:
    torch.manual_seed(seed)
    return Trainer(
        Supernet(space, rounded=rounded),
        stream or make_stream(),
        strategy=SandwichRule(space, n_random=1),
        named_blocks=space.named_blocks,
        settings=settings,
        keeping=None if path is None else Keeping(path=path),
        **changes,
    )


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(load_checkpoint(path).tensors)


@pytest.fixture(scope="module")
def whole(space, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint that an uninterrupted run ends with, not to be changed."""
    path = tmp_path_factory.mktemp("whole") / "whole.safetensors"
    make_trainer(space, path).run()
    return path


def test_training_learns(space) -> None:
    trainer = make_trainer(space, None, settings=dataclasses.replace(SETTINGS, steps=60, label_smoothing=0.0))
    losses: list[str] = []
    trainer.run(progress=lambda done, total, note: losses.append(note))
    first, last = (float(x.split()[1].rstrip(",")) for x in (losses[0], losses[-1]))
    assert last < 0.5 * first


@pytest.mark.parametrize("cut", [1, 5])
def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(space, whole, tmp_path, cut) -> None:
    pieces = tmp_path / "pieces.safetensors"
    make_trainer(space, pieces).run(until=cut)
    again = make_trainer(space, pieces, seed=99)  # other initial weights: all must come from the checkpoint
    assert again.resume() == cut
    again.run()
    a, b = weights(whole), weights(pieces)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_killed_process_goes_on_where_it_was(space, tmp_path) -> None:
    program = (
        "import sys, os, signal; sys.path.insert(0, sys.argv[2]); import torch; torch.set_num_threads(1)\n"
        "from pathlib import Path\n"
        "from tests.supernet.conftest import make_space\n"
        "from tests.supernet.test_training import make_trainer, SETTINGS\n"
        "import dataclasses; settings = dataclasses.replace(SETTINGS, checkpoint_every_s=0)\n"
        "t = make_trainer(make_space(), Path(sys.argv[1]), settings=settings)\n"
        "t.run(progress=lambda d, n, s: os.kill(os.getpid(), signal.SIGKILL) if d == 4 else None)\n"
    )
    killed, whole = tmp_path / "killed.safetensors", tmp_path / "whole.safetensors"
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", program, str(killed), root], cwd=root, check=False)
    assert done.returncode == -9
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        trainer = make_trainer(space, killed, seed=5)
        assert trainer.resume() == 3
        trainer.run()
        make_trainer(space, whole).run()
    finally:
        torch.set_num_threads(threads)
    a, b = weights(whole), weights(killed)
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_checkpoint_cut_at_any_byte_falls_back_to_the_one_before(space, tmp_path) -> None:
    path = tmp_path / "c.safetensors"
    make_trainer(space, path).run(until=2)
    trainer = make_trainer(space, path)
    trainer.resume()
    trainer.run(until=4)
    data = path.read_bytes()
    for size in [0, 1, 7, 8, 9, 500, len(data) // 2, len(data) - 1]:
        path.write_bytes(data[:size])
        found = load_newest(path)
        assert found is not None
        assert found.meta["step"] == 2


@pytest.mark.parametrize("where", [0.0, 0.02, 0.3, 0.7, 0.999])
def test_one_flipped_bit_of_a_checkpoint_falls_back_and_ends_with_the_same_weights(
    space, whole, tmp_path, where
) -> None:
    path = tmp_path / "c.safetensors"
    make_trainer(space, path).run(until=2)
    trainer = make_trainer(space, path)
    trainer.resume()
    trainer.run(until=4)
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= 1 << 6
    path.write_bytes(data)
    told: list[str] = []
    trainer = make_trainer(space, path)
    assert trainer.resume(warn=told.append) == 2
    assert "c.safetensors is damaged" in told[0]
    assert "going on from the one before" in told[0]
    trainer.run()
    assert path.read_bytes() == whole.read_bytes()
    assert load_checkpoint(previous(path)).meta["step"] == 2  # the damaged one did not take its place


def test_a_checkpoint_without_a_checksum_is_read_and_has_one_after_the_next_save(space, tmp_path) -> None:
    path = tmp_path / "c.safetensors"
    make_trainer(space, path).run(until=1)
    found = load_checkpoint(path)
    old = {**found.meta, "schema": 1}
    path.write_bytes(safetensors.torch.save(dict(found.tensors), metadata={"hwnas": json.dumps(old)}))
    trainer = make_trainer(space, path)
    assert trainer.resume() == 1
    trainer.run(until=2)
    assert load_checkpoint(path).meta["schema"] == 2
    new = {**found.meta, "schema": 2}
    path.write_bytes(safetensors.torch.save(dict(found.tensors), metadata={"hwnas": json.dumps(new)}))
    with pytest.raises(CheckpointError, match="checksum"):
        load_checkpoint(path)


def test_only_damaged_checkpoints_are_an_error_that_says_what_to_do(space, tmp_path) -> None:
    path = tmp_path / "c.safetensors"
    make_trainer(space, path).run(until=1)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"damaged.*Delete them to start anew"):
        make_trainer(space, path).resume()


def test_a_full_disk_leaves_the_last_checkpoint_readable(space, tmp_path, monkeypatch) -> None:
    path = tmp_path / "c.safetensors"
    make_trainer(space, path).run(until=2)
    trainer = make_trainer(space, path)
    trainer.resume()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        trainer.run(until=4)
    assert load_checkpoint(path).meta["step"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.safetensors"]


def test_nan_stops_with_the_step_and_the_last_good_checkpoint(space, tmp_path) -> None:
    path = tmp_path / "c.safetensors"
    make_trainer(space, path).run(until=3)
    trainer = make_trainer(space, path)
    trainer.resume()
    with torch.no_grad():
        next(iter(trainer.supernet.parameters())).fill_(float("nan"))
    with pytest.raises(DivergenceError, match=r"at step 3.*c\.safetensors") as caught:
        trainer.run()
    assert caught.value.step == 3
    assert load_checkpoint(path).meta["step"] == 3


def test_a_checkpoint_of_other_settings_is_refused(space, tmp_path) -> None:
    path = tmp_path / "c.safetensors"
    make_trainer(space, path).run(until=1)
    other = make_trainer(space, path, settings=dataclasses.replace(SETTINGS, learning_rate=0.2))
    with pytest.raises(CheckpointError, match="belongs to another run"):
        other.resume()


def test_how_often_it_saves_may_change(space, tmp_path) -> None:
    path = tmp_path / "c.safetensors"
    make_trainer(space, path).run(until=1)
    assert make_trainer(space, path, settings=dataclasses.replace(SETTINGS, checkpoint_every_s=1.0)).resume() == 1


def test_the_checkpoint_before_the_last_is_kept(space, tmp_path) -> None:
    path = tmp_path / "c.safetensors"
    make_trainer(space, path).run(until=1)
    trainer = make_trainer(space, path)
    trainer.resume()
    trainer.run(until=2)
    assert load_checkpoint(previous(path)).meta["step"] == 1


def test_averaged_weights_load_into_a_fresh_supernet(space, whole) -> None:
    kept = load_checkpoint(whole)
    for name, p in load_averaged(Supernet(space), kept).named_parameters():
        assert torch.equal(p, kept.tensors[f"ema.{name}"]), name


def test_a_torch_dataset_trains_like_the_arrays_it_wraps(space) -> None:
    data = make_images()

    class Wrapped(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(data)

        def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
            return torch.from_numpy(data.inputs[i]).permute(2, 0, 1), int(data.targets[i])

    for (x, y), (x2, y2) in zip(make_stream(data).batches(0, 4), make_stream(Wrapped()).batches(0, 4), strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


def test_an_empty_data_set_is_refused() -> None:
    with pytest.raises(DataError, match="empty"):
        make_stream(make_images(0))


def test_the_sandwich_trains_largest_first_and_distils_the_rest(space, rng) -> None:
    targets = SandwichRule(space, n_random=2).architectures(0, rng)
    assert [t.teacher for t in targets] == [None, 0, 0, 0]
    assert np.array_equal(targets[0].encoding, space.largest())
    assert np.array_equal(targets[-1].encoding, space.smallest())


def test_the_split_sandwich_gives_each_pupil_a_share_of_the_batch_of_its_own(space, rng) -> None:
    seen = set()
    for step in range(20):
        largest, *others = SplitSandwich(space, n_random=2).architectures(step, rng)
        assert (largest.teacher, largest.images) == (None, slice(None))
        assert [t.teacher for t in others] == [0, 0, 0]
        assert np.array_equal(others[-1].encoding, space.smallest())
        shares = [range(16)[t.images] for t in others]
        assert sorted(i for share in shares for i in share) == list(range(16))
        seen.add(shares[-1].start)
    assert seen == {0, 1, 2}  # the smallest is not always given the same rows


class Halves:
    """The largest learns from all images, the smallest from the second half of them."""

    def __init__(self, space) -> None:
        self.space = space

    def architectures(self, step, rng):
        second = TrainTarget(encoding=self.space.smallest(), teacher=0, images=slice(8, None))
        return [TrainTarget(encoding=self.space.largest()), second]


def test_a_pupil_is_shown_its_share_and_what_the_teacher_said_of_it(space, monkeypatch) -> None:
    trainer = make_trainer(space, None)
    trainer.strategy = Halves(space)
    shown: list[torch.Tensor] = []
    learned: list[tuple[torch.Tensor, torch.Tensor]] = []
    forward, distill = trainer.supernet.forward, trainer.task.distill

    def watched(images, blocks):
        shown.append(images)
        return forward(images, blocks)

    def distilled(found, teacher):
        learned.append((found, teacher))
        return distill(found, teacher)

    outputs: list[torch.Tensor] = []
    loss = trainer.task.loss

    def lost(found, labels, **keywords):
        outputs.append(found.detach())
        return loss(found, labels, **keywords)

    monkeypatch.setattr(trainer.supernet, "forward", watched)
    monkeypatch.setattr(trainer.task, "distill", distilled)
    monkeypatch.setattr(trainer.task, "loss", lost)
    trainer.run(until=1)
    assert [len(x) for x in shown] == [16, 8]
    assert torch.equal(shown[1], shown[0][8:])
    assert torch.equal(learned[0][1], outputs[0][8:])


def test_a_batch_in_parts_is_the_mean_of_its_parts(space) -> None:
    """Of networks without statistics of a batch: two halves one after the other are the whole."""
    from hwnas.spaces.presets import vit_tiny

    transformer = vit_tiny(2, 2).restrict(precisions=("fp32",))
    found = []
    for parts in (1, 2):
        settings = dataclasses.replace(SETTINGS, accumulate=parts, max_grad_norm=0.0)
        trainer = make_trainer(transformer, None, settings=settings, stream=make_stream(batch_size=8))
        notes: list[str] = []
        trainer.run(until=2, progress=lambda done, total, note, notes=notes: notes.append(note))
        found.append((notes, dict(trainer.supernet.named_parameters())))
    (notes, whole), (same, halves) = found
    assert notes == same
    assert all(torch.allclose(whole[k], halves[k], atol=1e-6) for k in whole)


def test_a_batch_in_more_parts_than_images_is_refused(space) -> None:
    trainer = make_trainer(space, None, settings=dataclasses.replace(SETTINGS, accumulate=17))
    with pytest.raises(ConfigError, match="0 images are too few"):
        trainer.run()


def test_a_batch_that_cannot_be_shared_is_refused(space) -> None:
    trainer = make_trainer(space, None, stream=make_stream(batch_size=2))
    trainer.strategy = SplitSandwich(space, n_random=2)
    with pytest.raises(ConfigError, match="2 images are too few for the networks of a step to share"):
        trainer.run()


def test_largest_only_trains_one_network(space, rng) -> None:
    assert len(LargestOnly(space).architectures(0, rng)) == 1


@pytest.mark.parametrize(("name", "value"), [("steps", 0), ("learning_rate", 0.0), ("ema_decay", 1.0)])
def test_wrong_settings_are_refused(name, value) -> None:
    with pytest.raises(ConfigError, match=name):
        TrainSettings(**{"steps": 1, name: value})


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    settings = TrainSettings(steps=100, learning_rate=1.0, warmup_fraction=0.1)
    rates = [settings.rate(s) for s in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] < 0.001


def test_the_averaged_weights_follow_their_formula(space, tmp_path) -> None:
    path = tmp_path / "c.safetensors"
    trainer = make_trainer(space, path)
    name, weight = next(iter(trainer.supernet.named_parameters()))
    expected = weight.detach().double()
    for step in range(4):
        trainer.run(until=step + 1)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight.detach().double()
    average = weights(path)[f"ema.{name}"]
    assert not torch.equal(average, weight)
    torch.testing.assert_close(average.double(), expected, rtol=1e-6, atol=1e-8)


def test_training_neither_uses_nor_moves_the_generator_of_torch(space) -> None:
    """All randomness of a step comes from the seed and the step, none from what came before in the process."""
    ended = []
    for seed in (1, 2):
        trainer = make_trainer(space, None)
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        trainer.run(until=2)
        assert torch.equal(torch.get_rng_state(), before)
        ended.append(torch.cat([p.detach().flatten() for p in trainer.supernet.parameters()]))
    assert torch.equal(*ended)
