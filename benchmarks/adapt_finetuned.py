"""EfficientNet-Lite0 with ImageNet's weights, fine-tuned on images of one's own, then at shares of its own latency.

What its owner would do comes first: another classifier, some passes over the images (CIFAR-10 at 64 px). That network
is what hwnas is given: it makes it elastic, trains the supernet for `--shared` passes and each smaller network that it
finds alone (for `--alone` passes over its share of the latency, so that all take about the same time), and deploys it
in int8. Budgets are shares of the latency of the fine-tuned network itself in int8, measured in the same way;
accuracies are the runtime's on the test images. All files are timed once more in the
same rounds in the end. `_pretrained.py` says where the weights come from; --kept FOLDER goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _adapt_tuning import Tuning, latency_shares, own_latency_ms, read_file, silent
from _common import ROOT, SMOKE, Benchmark, Figure, script
from _resnet8_runs import noise

from hwnas.config import Config
from hwnas.errors import ConfigError
from hwnas.torch_process import prepare_torch, training_device

if TYPE_CHECKING:
    from torch import nn

    from hwnas._console import Console
    from hwnas.measure import Worker
    from hwnas.types import Artefact
    from hwnas.workspace import Workspace

BUDGETS: Mapping[str, float] = {"100": 1.0, "60": 0.6, "35": 0.35}
_LOSS: Mapping[str, float] = {"100": 0.5, "60": 1.0, "35": 2.5}  # points below the fine-tuned network, at most
_NOISE = 0.03  # of a latency that is measured twice
_LOOKS = 3  # at the given network's latency, which budgets are shares of
_MEAN, _STD = [0.498, 0.498, 0.498], [0.502, 0.502, 0.502]  # (x - 127) / 128, as Lite0's makers have it


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="SOURCE", help="CIFAR-10, as [data] source has it: npz:cifar10.npz")
    parser.add_argument("--side", type=int, default=64, help="that images are brought to, in pixels (64)")
    parser.add_argument("--epochs", type=float, default=2.0, help="of the owner's fine-tuning (2)")
    parser.add_argument("--shared", type=float, default=1.0, help="of the supernet (1)")
    parser.add_argument(
        "--alone", type=float, default=1.0, help="of each smaller network, times its share of the latency (1)"
    )
    parser.add_argument("--alone-rate", type=float, default=0.08, help="of learning, of each smaller network (0.08)")
    parser.add_argument("--budget", action="append", choices=BUDGETS, help="percent; may be repeated (all)")
    parser.add_argument("--trials", type=int, default=60, help="networks that the search evaluates (60)")
    parser.add_argument("--threads", type=int, default=1, help="of training (1)")
    parser.add_argument("--device", default="cpu", help="see `hwnas devices` (cpu)")
    parser.add_argument("--kept", type=Path, metavar="FOLDER", help="where the network, the run and files are kept")
    bench = Benchmark("adapt_finetuned", parser, argv)
    # where the run finds the network's function
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory(prefix="hwnas-finetuned-") as temporary:
        folder = bench.options.kept or Path(temporary, "kept")
        folder.mkdir(parents=True, exist_ok=True)
        found = Trial(bench, folder).run()
    figures = [Figure(name=name, value=value) for name, value in found["given"].items()]
    given = found["given"]["finetuned_fp32_percent"]
    for name, row in found["networks"].items():
        figures += [
            Figure(name=f"within_{name}_percent", value=row["accuracy_percent"]),
            Figure(name=f"within_{name}_points_lost", value=given - row["accuracy_percent"], at_most=_LOSS[name]),
            Figure(name=f"within_{name}_latency_share", value=row["latency_share"]),
            Figure(name=f"within_{name}_bytes", value=row["size_bytes"]),
        ]
    return bench.publish(figures, details=found)


class Trial:
    """The owner's network, and what becomes of it.

    Args:
        bench: the program's options and console.
        folder: where all is kept.
    """

    def __init__(self, bench: Benchmark, folder: Path) -> None:
        self.bench, self.folder = bench, folder
        self.weights = folder / "finetuned.safetensors"
        self.console: Console = bench.console
        self.config = self._config()

    def _config(self) -> Config:
        options, smoke = self.bench.options, self.bench.smoke
        if not smoke and options.data is None:
            raise ConfigError("name CIFAR-10 with --data")
        side = 16 if smoke else options.side
        values: dict[str, object] = {
            "data.source": noise(self.folder / "noise.npz") if smoke else options.data,
            "model.source": "python:_tiny_networks:ResNet8" if smoke else "python:_pretrained:lite0_10",
            "model.weights": str(self.weights),
            "model.input": [3, side, side],
            "model.mean": _MEAN,
            "model.std": _STD,
            "model.elastic.resolutions": [side] if smoke else [side * 3 // 4, side * 7 // 8, side],
            "space.precisions": ["int8"],
            "train.epochs": options.shared,
            "train.learning_rate": 0.02,
            "train.label_smoothing": 0.0,
            "train.ema_decay": 0.99,
            "train.threads": options.threads,
            "device.name": options.device,
            "profile.n_networks": 16,
            "search.n_trials": options.trials,
            "search.validation_samples": 1000,
            "search.recalibration_samples": 256,
            "deploy.candidates": 5,
            "deploy.tolerance": 0.0,  # what is asked is the most accurate within a latency, not the cheapest as good
            "output.folder": str(self.folder / "run"),
        }
        if smoke:
            values |= {k: v for k, v in SMOKE.items() if k.partition(".")[0] not in ("data", "space", "limits")}
            values |= {"train.epochs": None, "model.elastic.residual": [1.0], "model.elastic.width": [0.5, 1.0]}
        return Config().replaced(values)

    def run(self) -> dict[str, Any]:
        """All of it: what the given network is, and budget -> what was deployed for it."""
        from hwnas.measure import Worker
        from hwnas.workspace import Workspace

        prepare_torch(self.config.train.threads)
        if not self.weights.exists():
            self._fine_tune(Workspace(self.config))
        self._search()
        work = Workspace(self.config)
        with Worker(work.device) as worker:
            work.found_on(worker.context())
            given, accuracies = self._given(work, worker)
            rows = {name: self._deployed(work, worker, name, given["int8"]) for name in self._budgets}
            files = {**given, **{name: read_file(self.folder / row["file"]) for name, row in rows.items()}}
            times = latency_shares(worker, files, anchor=given["int8"])
        for name, row in rows.items():
            row["latency_share"] = times[name]
        figures = {f"finetuned_{p}_percent": 100 * accuracies[p] for p in given}
        return {"given": {**figures, "finetuned_fp32_latency_share": times["fp32"]}, "networks": rows}

    @property
    def _budgets(self) -> Mapping[str, float]:
        asked = ["100"] if self.bench.smoke else self.bench.options.budget or list(BUDGETS)
        return {name: BUDGETS[name] for name in asked}

    # ------------------------------------------------------------ the owner

    def _fine_tune(self, work: Workspace) -> None:
        """Train the network with a new classifier as its owner would, in plain torch, and keep its weights."""
        import torch
        import torch.nn.functional as F
        from safetensors.torch import save_file

        from hwnas.data.tensors import resize

        device = training_device()
        network = self._module().train().to(device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        stream = work.stream("train", batch_size=self.config.train.batch_size, augmented=True)
        steps = 2 if self.bench.smoke else round(self.bench.options.epochs * len(work.data.train) / stream.batch_size)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=steps, pct_start=0.1)
        assert self.config.model is not None
        assert self.config.model.input is not None
        side = self.config.model.input[0].shape[1:]
        with self.console.progress("fine-tune as its owner would") as progress:
            for step, (x, y) in enumerate(stream.batches(0, steps)):
                optimizer.zero_grad(set_to_none=True)
                loss = F.cross_entropy(network(resize(x.to(device), side)), y.to(device))
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                progress(step + 1, steps, f"loss {loss.item():.3f}")
        save_file({k: v.contiguous() for k, v in network.cpu().eval().state_dict().items()}, self.weights)

    def _module(self) -> nn.Module:
        if self.bench.smoke:
            from _tiny_networks import ResNet8

            return ResNet8()
        from _pretrained import lite0_10

        return lite0_10(pretrained=True)

    # ------------------------------------------------------------ hwnas

    def _search(self) -> None:
        """Everything up to the search, which is what all budgets share."""
        from hwnas import pipeline

        if not Path(self.config.output.folder, "network.json").exists():
            pipeline.adapt(self.config, console=self.console)
        for stage in (pipeline.train, pipeline.profile, pipeline.search):
            stage(self.config, console=self.console)

    def _given(self, work: Workspace, worker: Worker) -> tuple[dict[str, Artefact], dict[str, float]]:
        """The fine-tuned network's files in both precisions, and their accuracies on the runtime."""
        from hwnas.supernet.given import load_given

        assert self.config.model is not None
        model = self.config.model
        network = load_given(model.source, weights=model.weights, tell=self.console.note)
        tuning = Tuning(work, network)
        files, accuracies = {}, {}
        for precision in ("fp32", "int8"):
            path = self.folder / f"given-{precision}.{work.exporter.format}"
            tuned = tuning.tuned(network, steps=0, progress=silent, precision=precision)
            files[precision] = tuning.write(tuned, path, precision=precision)
            accuracies[precision] = tuning.test_accuracy(worker, files[precision])
        return files, accuracies

    def _deployed(self, work: Workspace, worker: Worker, name: str, given: Artefact) -> dict[str, Any]:
        """What is deployed within a budget; as it is kept, if it is."""
        from hwnas import pipeline

        kept = self.folder / f"within-{name}.json"
        if kept.exists():
            row: dict[str, Any] = json.loads(kept.read_text())
            return row
        share = self._budgets[name]
        # at its own latency the network itself is asked for, and shall not fail by the noise of two looks at it, nor by
        # the margin that an export keeps
        limit = (share if share < 1 else (1 + _NOISE) ** 2) * self._own_ms(given)
        passes = self.bench.options.alone / share if share < 1 else 0.0  # each in about the same time
        steps = 1 if self.bench.smoke else round(passes * len(work.data.train) / self._batch)
        changed: dict[str, object] = {"limits.latency_ms": limit, "limits.latency_fraction": None}
        changed |= {"deploy.train_steps": steps, "deploy.train_learning_rate": self.bench.options.alone_rate}
        result = pipeline.export(self.config.replaced(changed), console=self.console)
        manifest = result.manifest
        source = result.deployment / manifest.artefact.path
        path = self.folder / f"within-{name}{source.suffix}"
        shutil.copy(source, path)
        row = {
            "file": path.name,
            "accuracy_percent": 100 * manifest.accuracy.test_runtime,
            "size_bytes": path.stat().st_size,
            "architecture": dict(manifest.architecture),
        }
        kept.write_text(json.dumps(row))
        return row

    def _own_ms(self, given: Artefact) -> float:
        """Latency of the given network's file: the least of some looks, of which one can be 8 % longer than another."""
        return min(own_latency_ms(self.config, given) for _ in range(1 if self.bench.smoke else _LOOKS))

    @property
    def _batch(self) -> int:
        return self.config.train.batch_size


if __name__ == "__main__":
    script(main)
