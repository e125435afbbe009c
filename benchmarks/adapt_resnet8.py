"""MLPerf Tiny's ResNet8 made smaller by measured latency: hwnas, Torch-Pruning and FastNAS, after as many epochs.

The network is the trained reference of MLPerf Tiny (CIFAR-10), the budgets are shares of its own int8 latency. hwnas
trains a supernet of it for `--shared` epochs, which serves all budgets, and the network that it finds for each of them
for the rest of `--epochs`. Of the other tools all networks are measured that they make of it, with channels in
multiples of 4, 8 and 16; the largest within a budget is trained for `--epochs`. Training is the same for all: the same
images, rate and teacher (the network as it was given); so are quantization, exporter and runtime. All files are timed
in the same rounds in the end, and their accuracy is that of the runtime on the test images, which nothing was chosen
by. Passes over the images are counted, not what they cost: a step of the supernet runs four networks.

With --kept FOLDER networks that were made before are taken from there. How to install the other tools: see
`_adapt_peers.py`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _adapt_tuning import Tuning, latency_shares, own_latency_ms, read_file, silent
from _common import Benchmark, Figure, script
from _resnet8_runs import configured, smoke_config

from hwnas.config import Config
from hwnas.errors import HwnasError

if TYPE_CHECKING:
    from _adapt_peers import Prune

    from hwnas.measure import Worker
    from hwnas.types import Artefact
    from hwnas.workspace import Workspace

METHODS = ("hwnas", "magnitude", "taylor", "fastnas")
BUDGETS = (0.5, 0.3)  # of the given network's int8 latency
_AHEAD = {0.5: 1.0, 0.3: 2.0}  # points that hwnas is to be ahead of the best other tool
_MARGIN = 0.03  # what an export keeps below a limit, which other tools need not
_ACCURACIES = {"own": 0.87, "half": 0.85}  # int8, at the given network's fp32 latency and at half of it


@dataclass(frozen=True, kw_only=True)
class Made:
    """One network that was made.

    Attributes:
        method: one of METHODS, or `given`.
        seed: of its training.
        budget: share of the given network's int8 latency, or what else it is for.
        file: its name in the folder of files.
        accuracy: on the runtime, on the test images, in [0, 1].
        size_bytes: of the file.
        architecture: what was chosen, or how many channels are left of each convolution.
    """

    method: str
    seed: int
    budget: str
    file: str
    accuracy: float
    size_bytes: int
    architecture: Mapping[str, Any]

    @property
    def key(self) -> str:
        """What it is kept under."""
        return f"{self.method}-{self.seed}-{self.budget}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="SOURCE", help="CIFAR-10, as [data] source has it: npz:cifar10.npz")
    parser.add_argument(
        "--weights", metavar="FILE", help="of the reference network, see _tiny_networks.trained_resnet8"
    )
    parser.add_argument("--packages", type=Path, metavar="FOLDER", help="where pip installed the other tools")
    parser.add_argument("--device", default="cpu", help="that is timed; a folder of --kept is of one (cpu)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="(all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of trainings (0 1 2)")
    parser.add_argument("--epochs", type=float, default=3.0, help="each network trains, in all (3)")
    parser.add_argument("--shared", type=float, default=1.0, help="of these, of hwnas's supernet (1)")
    parser.add_argument("--trials", type=int, default=100, help="networks that hwnas's search evaluates (100)")
    parser.add_argument("--kept", type=Path, metavar="FOLDER", help="where runs and networks are kept")
    parser.add_argument("--threads", type=int, default=1, help="of training (1)")
    bench = Benchmark("adapt_resnet8", parser, argv)
    with tempfile.TemporaryDirectory(prefix="hwnas-resnet8-") as temporary:
        folder = bench.options.kept or Path(temporary, "kept")
        config = smoke_config(Path(temporary)) if bench.smoke else _configured(bench.options)
        made, times = Comparison(bench, config, folder).run()
    return bench.publish(_figures(made, times), details=_details(made, times))


def _configured(options: argparse.Namespace) -> Config:
    """The configuration that all seeds share.

    Raises:
        ConfigError: images or weights are not named.
    """
    return configured(options.data, options.weights).replaced(
        {
            "device.name": options.device,
            "train.epochs": options.shared,
            "train.threads": options.threads,
            "search.n_trials": options.trials,
        }
    )


class Comparison:
    """All networks of one run of the program.

    Args:
        bench: its options and console.
        config: that all seeds share.
        folder: where runs, files and rows are kept.
    """

    def __init__(self, bench: Benchmark, config: Config, folder: Path) -> None:
        self.bench, self.options, self.config = bench, bench.options, config
        self.folder, self.files = folder, folder / "files"
        self.files.mkdir(parents=True, exist_ok=True)
        self.rows = folder / "rows.jsonl"
        lines = self.rows.read_text().splitlines() if self.rows.exists() else []
        self.made = {m.key: m for m in (Made(**json.loads(line)) for line in lines)}

    def run(self) -> tuple[Sequence[Made], Mapping[str, float]]:
        """Make what is not there yet, then time all of it: networks, and key -> milliseconds."""
        from hwnas.measure import Worker
        from hwnas.torch_process import prepare_torch
        from hwnas.workspace import Workspace

        methods = ["hwnas"] if self.bench.smoke else self.options.methods
        seeds = [0] if self.bench.smoke else self.options.seeds
        prepare_torch(self.config.train.threads)
        first = self._config(seeds[0])
        self._adapt(first)
        work = Workspace(first)
        with Worker(work.device) as worker:
            tuning = self._given(_found_on(work, worker), worker)
            for seed in seeds:
                if "hwnas" in methods:
                    self._ours(seed, self._artefact("given-0-int8"), worker)
            peers = [m for m in methods if m != "hwnas"]
            if peers:
                self._peers(peers, seeds, tuning, worker)
            times = self._times(worker)
        wanted = [m for m in self.made.values() if m.method == "given" or (m.method in methods and m.seed in seeds)]
        return wanted, times

    # ------------------------------------------------------------ the given network

    def _given(self, work: Workspace, worker: Worker) -> Tuning:
        """The given network's files in both precisions; returns what others are tuned with."""
        network = self._network()
        tuning = Tuning(work, network)
        for precision in ("fp32", "int8"):
            if f"given-0-{precision}" not in self.made:
                found = tuning.tuned(network, steps=0, progress=silent, precision=precision)
                artefact = tuning.write(found, self._file(work, f"given-0-{precision}"), precision=precision)
                self._keep("given", 0, precision, artefact, tuning.test_accuracy(worker, artefact), {})
        return tuning

    def _network(self) -> Any:
        """The given network as a module."""
        from hwnas.supernet.given import load_given

        assert self.config.model is not None
        return load_given(self.config.model.source, weights=self.config.model.weights, tell=self.bench.console.note)

    # ------------------------------------------------------------ hwnas

    def _config(self, seed: int) -> Config:
        values = {"train.seed": seed, "search.seed": seed, "output.folder": str(self.folder / f"run-{seed}")}
        return self.config.replaced({**values, "profile.tables": str(self.folder / "tables")})

    def _adapt(self, config: Config) -> None:
        from hwnas import pipeline

        if not Path(config.output.folder, "network.json").exists():
            pipeline.adapt(config, console=self.bench.console)

    def _ours(self, seed: int, given: Artefact, worker: Worker) -> None:
        """Our networks of one seed, one for each budget."""
        from hwnas import pipeline
        from hwnas.workspace import Workspace

        budgets = ["50"] if self.bench.smoke else [*map(_named, BUDGETS), *_ACCURACIES]
        if all(f"hwnas-{seed}-{b}" in self.made for b in budgets):
            return
        config, console = self._config(seed), self.bench.console
        self._adapt(config)
        pipeline.train(config, console=console)
        pipeline.profile(config, console=console)
        pipeline.search(config, console=console)
        largest = own_latency_ms(config, given)
        shares = {**{_named(b): b for b in BUDGETS}, **self._of_fp32(worker)}
        for budget, share in shares.items():
            if budget not in budgets or f"hwnas-{seed}-{budget}" in self.made:
                continue
            limits = {"limits.latency_ms": share * largest / (1 - _MARGIN), "limits.latency_fraction": None}
            steps = {"deploy.train_steps": self._steps(self.options.epochs - self.options.shared)}
            try:
                result = pipeline.export(config.replaced({**limits, **steps}), console=console)
            except HwnasError as e:
                console.note(f"hwnas, seed {seed}, {budget}: {e}")
                continue
            manifest = result.manifest
            path = self._file(Workspace(config), f"hwnas-{seed}-{budget}")
            shutil.copy(result.deployment / manifest.artefact.path, path)
            artefact = read_file(path)
            self._keep("hwnas", seed, budget, artefact, manifest.accuracy.test_runtime, dict(manifest.architecture))

    def _of_fp32(self, worker: Worker) -> dict[str, float]:
        """Shares of the int8 latency that the given network's fp32 latency is, and half of it."""
        int8, fp32 = (self._artefact(f"given-0-{p}") for p in ("int8", "fp32"))
        ratio = latency_shares(worker, {"fp32": fp32}, anchor=int8)["fp32"]
        return {"own": ratio, "half": ratio / 2}

    def _steps(self, epochs: float) -> int:
        if self.bench.smoke:
            return 1
        from hwnas.workspace import Workspace

        images = len(Workspace(self._config(0)).data.train)
        return round(epochs * images / self.config.train.batch_size)

    # ------------------------------------------------------------ other tools

    def _peers(self, methods: Sequence[str], seeds: Sequence[int], tuning: Tuning, worker: Worker) -> None:
        """Networks of the other tools: each is cut to a budget once, and trained with each seed."""
        import _adapt_peers as peers

        from hwnas.workspace import Workspace

        peers.use_packages(self.options.packages)
        console, network = self.bench.console, self._network()
        for method in methods:
            missing = {
                b: own for b in BUDGETS if (own := [s for s in seeds if f"{method}-{s}-{_named(b)}" not in self.made])
            }
            slices = peers.slices(network, self._prunes(method, tuning)) if missing else {}
            costs = self._costs(slices, tuning, worker)
            for budget, without in missing.items():
                within = [key for key, cost in costs.items() if cost <= budget]
                if not within:
                    least = min(costs, key=costs.__getitem__)
                    console.note(
                        f"{method} has no network within {budget:.0%}; its fastest, {least}, {costs[least]:.1%}"
                    )
                    continue
                # the largest of those that are fast enough
                chosen = max(within, key=lambda key: sum(p.numel() for p in slices[key].parameters()))
                console.note(f"{method} within {budget:.0%}: channels {chosen}, {costs[chosen]:.1%}")
                for seed in without:
                    own = Tuning(_found_on(Workspace(self._config(seed)), worker), network)
                    with console.progress(f"train {method}, seed {seed}") as progress:
                        tuned = own.tuned(slices[chosen], steps=self._steps(self.options.epochs), progress=progress)
                    artefact = own.write(tuned, self._file(own.work, f"{method}-{seed}-{_named(budget)}"))
                    accuracy = own.test_accuracy(worker, artefact)
                    self._keep(method, seed, _named(budget), artefact, accuracy, {"channels": chosen})

    def _costs(self, slices: Mapping[str, Any], tuning: Tuning, worker: Worker) -> dict[str, float]:
        """Latencies in int8, before any training, as shares of the given network's."""
        artefacts = {}
        for i, (key, module) in enumerate(slices.items()):
            sliced = tuning.tuned(module, steps=0, progress=silent)
            artefacts[key] = tuning.write(sliced, self._file(tuning.work, f"slice-{i}"))
        return latency_shares(worker, artefacts, anchor=self._artefact("given-0-int8")) if artefacts else {}

    def _prunes(self, method: str, tuning: Tuning) -> list[Prune]:
        import _adapt_peers as peers

        stream = tuning.work.stream("train", batch_size=self.config.train.batch_size)
        batches = peers.first_batches(stream.batches(0, 8), 8)
        if method == "fastnas":
            memory = self.folder / "fastnas"
            memory.mkdir(exist_ok=True)
            return [
                peers.fastnas(batches, tuning.accuracy, multiple_of=n, memory=memory / f"{n}.pth")
                for n in peers.MULTIPLES
            ]
        return [peers.torch_pruning(method, batches, multiple_of=n) for n in peers.MULTIPLES]

    # ------------------------------------------------------------ keeping and timing

    def _file(self, work: Workspace, key: str) -> Path:
        return self.files / f"{key}.{work.exporter.format}"

    def _artefact(self, key: str) -> Artefact:
        return read_file(self.files / self.made[key].file)

    def _keep(
        self, method: str, seed: int, budget: str, artefact: Artefact, accuracy: float, architecture: Mapping[str, Any]
    ) -> None:
        row = Made(
            method=method,
            seed=seed,
            budget=budget,
            file=artefact.path.name,
            accuracy=accuracy,
            size_bytes=artefact.size_bytes,
            architecture=architecture,
        )
        self.made[row.key] = row
        with self.rows.open("a") as f:
            f.write(json.dumps(asdict(row)) + "\n")

    def _times(self, worker: Worker) -> dict[str, float]:
        """Milliseconds of all files, in the same rounds, relative to the given network's in int8 by its time now."""
        given = self._artefact("given-0-int8")
        now = worker.measure_anchor(given).minimum
        artefacts = {key: self._artefact(key) for key in self.made}
        return {key: now * share for key, share in latency_shares(worker, artefacts, anchor=given).items()}


def _named(budget: float) -> str:
    return f"{budget:.0%}".replace("%", "")


def _found_on(work: Workspace, worker: Worker) -> Workspace:
    """The workspace, knowing what the runtime computes int8 in on this machine."""
    work.found_on(worker.context())
    return work


# ---------------------------------------------------------------- figures


def _figures(made: Sequence[Made], times: Mapping[str, float]) -> list[Figure]:
    by_key = {m.key: m for m in made}
    fp32, int8 = by_key["given-0-fp32"], by_key["given-0-int8"]
    figures = [
        Figure(name="given_fp32_accuracy", value=fp32.accuracy),
        Figure(name="given_int8_accuracy", value=int8.accuracy),
        Figure(name="given_fp32_ms", value=times[fp32.key]),
        Figure(name="given_int8_ms", value=times[int8.key]),
        Figure(name="given_fp32_bytes", value=fp32.size_bytes),
    ]
    accuracy: dict[tuple[str, str], float] = {}
    for method in METHODS:
        for budget in (*map(_named, BUDGETS), *_ACCURACIES):
            rows = [m for m in made if (m.method, m.budget) == (method, budget)]
            if not rows:
                continue
            base = times[fp32.key if budget in _ACCURACIES else int8.key]
            found = statistics.mean(m.accuracy for m in rows)
            accuracy[method, budget] = found
            name = f"{method}_{budget}"
            figures += [
                Figure(name=f"{name}_accuracy", value=found, at_least=_ACCURACIES.get(budget)),
                Figure(name=f"{name}_accuracy_least", value=min(m.accuracy for m in rows)),
                Figure(name=f"{name}_accuracy_most", value=max(m.accuracy for m in rows)),
                Figure(name=f"{name}_latency_share", value=statistics.mean(times[m.key] for m in rows) / base),
                Figure(name=f"{name}_bytes", value=statistics.mean(m.size_bytes for m in rows)),
            ]
    for share, ahead in _AHEAD.items():
        others = [a for (method, b), a in accuracy.items() if method != "hwnas" and b == _named(share)]
        if others and ("hwnas", _named(share)) in accuracy:
            points = 100 * (accuracy["hwnas", _named(share)] - max(others))
            figures.append(Figure(name=f"hwnas_ahead_at_{_named(share)}_points", value=points, at_least=ahead))
    return figures


def _details(made: Sequence[Made], times: Mapping[str, float]) -> dict[str, Any]:
    return {"networks": [{**asdict(m), "latency_ms": times[m.key]} for m in made]}


if __name__ == "__main__":
    script(main)
