"""A folder of JPEGs that does not fit into memory: what a whole run on it takes, and how fast images are read for it.

The images are generated, photograph-like in their size as files. `hwnas run` goes the whole way on a simulated device,
with few steps of training and few trials, because memory does not grow with their number; what its processes hold
together is looked at four times a second, pages that they share counted once. Then, in a fresh process each: how many
images a second are decoded for training, beside how many the training takes, with images streamed and, of as many as
fit, kept in memory; and whether both end with the same weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _common import SMOKE, Benchmark, Figure, script

_CLASSES = 10
_BATCH = 64
_MOST_BYTES = 2e9


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=60_000, help="how many (60000)")
    parser.add_argument("--size", type=int, default=256, help="their side in pixels (256)")
    parser.add_argument("--held", type=int, default=4_000, help="how many of them are also kept in memory (4000)")
    parser.add_argument("--steps", type=int, default=20, help="training steps that are timed (20)")
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="where they are kept, and found the next time")
    bench = Benchmark("data_streaming", parser, argv)
    o = bench.options
    n, size, held, steps = (120, 16, 120, 1) if bench.smoke else (o.images, o.size, o.held, o.steps)
    with tempfile.TemporaryDirectory(prefix="hwnas-data-streaming-") as name:
        folder = Path(name)
        photos = folder / "photos" if o.photos is None else o.photos / f"{n}_of_{size}"
        if not photos.exists():
            make(photos, n=n, size=size)
        file_bytes = sum(path.stat().st_size for path in photos.rglob("*.jpg"))
        make(folder / "few", n=held, size=size)
        run = run_apart(photos, folder / "run", size=size, smoke=bench.smoke)
        what = {"folder": str(folder / "few"), "steps": steps, "size": size}
        streamed, kept = (apart({**what, "stream": stream}) for stream in ("always", "never"))
    figures = [
        Figure(name="run_peak_bytes", value=run["peak_bytes"], at_most=_MOST_BYTES),
        Figure(name="run_seconds", value=run["seconds"]),
        Figure(name="images_loaded_a_second", value=held / streamed["load_seconds"]),
        Figure(name="images_read_a_second", value=streamed["read_a_second"]),
        Figure(name="images_trained_a_second_streamed", value=streamed["trained_a_second"]),
        Figure(name="images_trained_a_second_in_memory", value=kept["trained_a_second"]),
        Figure(name="training_steps_a_second_streamed", value=streamed["trained_a_second"] / _BATCH),
        Figure(name="training_steps_a_second_in_memory", value=kept["trained_a_second"] / _BATCH),
        Figure(name="weights_that_differ", value=int(streamed["weights"] != kept["weights"]), at_most=0),
    ]
    details = {"images": n, "size": size, "file_bytes": file_bytes, "pixel_bytes": n * size * size * 3}
    return bench.publish(figures, details=details | {"run": run, "streamed": streamed, "in_memory": kept})


def make(folder: Path, *, n: int, size: int) -> None:
    """JPEGs of ten classes that differ in their colours."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    colours = rng.integers(40, 216, (_CLASSES, 3))
    for c in range(_CLASSES):
        (folder / str(c)).mkdir(parents=True)
    for i in range(n):
        coarse = np.clip(rng.normal(colours[i % _CLASSES], 50, (8, 8, 3)), 0, 255).astype(np.uint8)
        image = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
        noise = np.asarray(image).astype(np.int16) + rng.integers(-6, 7, (size, size, 1), dtype=np.int16)
        path = folder / str(i % _CLASSES) / f"{i}.jpg"
        Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)).save(path, quality=85)


# ---------------------------------------------------------------- memory of a whole run


def run_apart(photos: Path, folder: Path, *, size: int, smoke: bool) -> dict[str, Any]:
    """`hwnas run` on all photos, in a folder; the most that its processes held together."""
    from hwnas.config import Config

    changes: dict[str, object] = {
        **{name: value for name, value in SMOKE.items() if not name.startswith("data.")},
        "data.source": f"folder:{photos}?size={size}&stream=always",
        "output.folder": str(folder),
    }
    if not smoke:  # all validation and test images, and as many of the others as by default
        for name in ("search.validation_samples", "deploy.test_samples"):
            changes[name] = None
        changes |= {"search.recalibration_samples": 512, "search.calibration_samples": 256, "train.steps": 20}
        changes |= {"train.batch_size": _BATCH}
    settings = folder.with_suffix(".toml")
    settings.write_text(Config().replaced(changes).to_toml())
    program = Path(sys.executable).with_name("hwnas")
    began = time.monotonic()
    with subprocess.Popen([program, "run", settings, "--json"], stdout=subprocess.DEVNULL) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, held_bytes(process.pid))
            time.sleep(0.25)
    return {"peak_bytes": peak, "seconds": time.monotonic() - began, "exit_status": process.returncode}


def held_bytes(process: int) -> int:
    """What a process and those that it started hold together: proportional set sizes, which count shared pages once."""
    total, waiting = 0, [process]
    while waiting:
        found = Path("/proc") / str(waiting.pop())
        try:
            lines = (found / "smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
            for task in (found / "task").iterdir():
                waiting.extend(map(int, (task / "children").read_text().split()))
        except (OSError, StopIteration):
            continue  # it has ended meanwhile
    return total


# ---------------------------------------------------------------- speed


def apart(what: Mapping[str, Any]) -> dict[str, Any]:
    """Load, read and train in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, "--apart", json.dumps(what)], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def here(what: Mapping[str, Any]) -> int:
    """What the fresh process does."""
    from data_memory import peak_bytes

    from hwnas.data import load_data
    from hwnas.supernet.batches import BatchStream

    began = time.monotonic()
    data = load_data(f"folder:{what['folder']}?size={what['size']}&stream={what['stream']}", seed=0)
    found: dict[str, Any] = {"load_seconds": time.monotonic() - began, "peak_bytes": peak_bytes()}
    stream = BatchStream(data.train, batch_size=_BATCH, mean=data.mean, std=data.std)
    began, n = time.monotonic(), 0
    for images, _ in stream.batches(0, what["steps"]):
        n += len(images)
    found["read_a_second"] = n / (time.monotonic() - began)
    print(json.dumps(found | train(stream, what["steps"], size=what["size"])))
    return 0


def train(stream: Any, steps: int, *, size: int) -> dict[str, Any]:
    """Images trained on a second, and a checksum of the weights after it."""
    import torch

    from hwnas.spaces.presets import mobilenet_tiny
    from hwnas.supernet.elastic import Supernet
    from hwnas.supernet.settings import TrainSettings
    from hwnas.supernet.strategies import SandwichRule
    from hwnas.supernet.training import Trainer

    torch.manual_seed(0)
    space = mobilenet_tiny(3, _CLASSES)
    supernet = Supernet(space)
    trainer = Trainer(
        supernet,
        stream,
        strategy=SandwichRule(space, n_random=2),
        named_blocks=space.named_blocks,
        settings=TrainSettings(steps=steps),
        keeping=None,
    )
    began = time.monotonic()
    trainer.run()
    seconds = time.monotonic() - began
    digest = hashlib.sha256()
    for name, value in supernet.state_dict().items():
        digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return {"trained_a_second": steps * _BATCH / seconds, "weights": digest.hexdigest()}


if __name__ == "__main__":
    script((lambda: here(json.loads(sys.argv[2]))) if sys.argv[1:2] == ["--apart"] else main)
