"""Training strategies on equal budgets: each trains a supernet with as many multiply-accumulates as the others.

The same networks are then taken from each supernet as it has them: the smallest, a middle, the largest, and random ones
of all sizes, on all test images, in floats. With `--alone` each is trained by itself as well, with the same recipe for
as many steps as the sandwich rule takes: that says how far behind a supernet's networks are, and whether it ranks them
right (Kendall's tau of the random ones). Goes on with what it finds trained in the folder.

Behind a `+` stands what gives a strategy's networks more weights: `sandwich+experts` has two experts, `sandwich+parts`
parts the networks after half of the steps. Comparing gradients before the split is counted like training; that networks
are then moved from one part to the other, which makes some larger and others smaller, is not.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from _common import SMOKE, Benchmark, Figure, script
from train_supernet import Alone, accuracy_of

from hwnas.config import Config, load_config

if TYPE_CHECKING:
    from hwnas._console import Console
    from hwnas.spaces import Space
    from hwnas.types import IntArray

STRATEGIES = ("sandwich", "split-sandwich", "progressive", "best-up", "worst-up", "probability-shift", "compound")
_CAPACITIES: Mapping[str, Mapping[str, float]] = {
    "": {},
    "experts": {"train.experts": 2},
    "parts": {"train.split_fraction": 0.5},
}
_TAU = 0.7
_SEEN_STEPS = 200  # of which a strategy's mean cost of a step is taken


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, nargs="?", help="of the runs (train_supernet.toml)")
    parser.add_argument("--data", metavar="SOURCE", help="as [data] source has it; as the configuration if left out")
    parser.add_argument("--folder", type=Path, default=Path("runs/train-strategies"), help="of the runs")
    parser.add_argument(
        "--strategy", action="append", help=f"may be repeated, +experts or +parts behind it ({' '.join(STRATEGIES)})"
    )
    parser.add_argument("--steps", type=int, default=1600, help="of the sandwich rule; others take what costs as much")
    parser.add_argument("--networks", type=int, default=20, help="random ones (20)")
    parser.add_argument("--alone", action="store_true", help="train them by themselves as well")
    bench = Benchmark("train_strategies", parser, argv)
    o = bench.options
    config = load_config(o.config or Path(__file__).with_name("train_supernet.toml"))
    config = config.replaced({"train.quantized_fraction": 0.0, **({"data.source": o.data} if o.data else {})})
    strategies, steps, n, alone = o.strategy or list(STRATEGIES), o.steps, o.networks, o.alone
    with tempfile.TemporaryDirectory(prefix="hwnas-train-strategies-") as scratch:
        folder = o.folder
        if bench.smoke:
            config = config.replaced({**SMOKE, "space.precisions": None})
            folder, strategies, steps, n, alone = (
                Path(scratch),
                ["split-sandwich", "best-up+experts", "sandwich+parts"],
                4,
                4,
                True,
            )
        found = {
            name: _trained(config, folder / name, name, steps=steps, n=n, console=bench.console) for name in strategies
        }
        by_themselves = _alone(config, folder, steps=steps, n=n, console=bench.console) if alone else {}
    details = {"networks": found, "alone": by_themselves, "configuration": config.to_toml()}
    return bench.publish(_figures(found, by_themselves), details=details)


def _networks(space: Space, n: int) -> dict[str, IntArray]:
    """Name -> encoding, in floats."""
    import numpy as np

    from hwnas.supernet.strategies.sizes import of_all_sizes

    middle = space.canonical(np.array([len(c.options) // 2 for c in space.choices]))
    drawn = of_all_sizes(space, n, np.random.default_rng(2))
    named = {"smallest": space.smallest(), "middle": middle, "largest": space.largest()}
    return {**named, **{f"random {i}": e for i, e in enumerate(drawn)}}


def _trained(
    config: Config, folder: Path, strategy: str, *, steps: int, n: int, console: Console
) -> dict[str, dict[str, float]]:
    """Name of a network -> its accuracy as the supernet of a strategy has it; `training` has what that took."""
    from hwnas.integrity import digest
    from hwnas.pipeline.training import train
    from hwnas.pipeline.workers import make_evaluator
    from hwnas.workspace import Workspace

    config = config.replaced(_keys_of(strategy))
    own = _steps(config, steps)
    config = config.replaced({"train.steps": own, "output.folder": str(folder), "train.watch_share": 0.0})
    console.note(f"-- {strategy}: {own} steps")
    train(config, console=console)
    work = Workspace(config)
    space, evaluator = work.training_space.restrict(precisions=("fp32",)), make_evaluator(work)
    test = list(work.stream("test").unaugmented(None))
    accuracies = _kept(
        folder / f"accuracies-{digest(config.to_toml())[:16]}.json",
        _networks(space, n),
        lambda _, encoding: accuracy_of(evaluator.extract(space.named_blocks(encoding)), test),
    )
    return {"training": {"steps": own}, "accuracy": accuracies}


def _keys_of(strategy: str) -> dict[str, object]:
    """The keys of a configuration that a strategy and what stands behind its `+` mean.

    Raises:
        ConfigError: nothing of this name may stand there.
    """
    from hwnas.errors import ConfigError

    name, _, capacity = strategy.partition("+")
    if capacity not in _CAPACITIES:
        known = ", ".join(f"+{c}" for c in _CAPACITIES if c)
        raise ConfigError(f"--strategy {strategy!r} has +{capacity} behind it; give {known}, or nothing")
    return {"train.strategy": name, **_CAPACITIES[capacity]}


def _steps(config: Config, of_sandwich: int) -> int:
    """How many steps of a strategy cost what so many of the sandwich rule do, in multiply-accumulates of an image.

    Args:
        config: with the strategy.
        of_sandwich: how many steps.
    """
    import numpy as np

    from hwnas import registry
    from hwnas.pipeline.training import sizes_of
    from hwnas.workspace import Workspace

    space = Workspace(config).training_space
    sizes = sizes_of(space)

    def of_a_step(name: str) -> float:
        make = registry.load("strategies", name)
        options = {"n_random": config.train.n_random, "steps": _SEEN_STEPS, "sizes": sizes}
        made = make(space, **registry.taken_by(make, options))
        total, batch = 0.0, range(120)  # a number that two, three and four networks can share
        for step in range(_SEEN_STEPS):
            targets = made.architectures(step, np.random.default_rng(step))
            each = sizes(np.stack([t.encoding for t in targets]))
            total += sum(m * len(batch[t.images]) / len(batch) for m, t in zip(each, targets, strict=True))
        return total / _SEEN_STEPS

    compared = 0.0  # before networks are parted
    if config.train.split_fraction:
        from hwnas.supernet.gradient_matching import compared_networks
        from hwnas.supernet.parts import Parts

        rng = np.random.default_rng(0)
        for _, networks in compared_networks(space, Parts(space).candidates, rng):
            compared += float(sizes(networks.reshape(-1, networks.shape[-1])).sum()) / config.train.accumulate
    budget = of_sandwich * of_a_step("sandwich") - compared
    return max(1, round(budget / of_a_step(config.train.strategy)))


def _alone(config: Config, folder: Path, *, steps: int, n: int, console: Console) -> dict[str, float]:
    """Name of a network -> its accuracy when it is trained by itself."""
    from hwnas.integrity import digest
    from hwnas.workspace import Workspace

    config = config.replaced({"train.steps": steps, "output.folder": str(folder / "alone")})
    work = Workspace(config)
    space = work.training_space.restrict(precisions=("fp32",))
    test = list(work.stream("test").unaugmented(None))

    def trained(name: str, encoding: IntArray) -> float:
        with console.progress(f"{name} alone") as progress:
            return accuracy_of(Alone(work, space).trained(encoding, progress=progress), test)

    return _kept(folder / f"alone-{digest(config.to_toml())[:16]}.json", _networks(space, n), trained)


def _kept(path: Path, networks: Mapping[str, IntArray], accuracy: Callable[[str, IntArray], float]) -> dict[str, float]:
    """Name of a network -> its accuracy, in a file as they come, so that nothing is measured twice."""
    from hwnas.files import write_json

    known: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    found = {}
    for name, encoding in networks.items():
        key = " ".join(map(str, encoding.tolist()))
        if key not in known:
            known[key] = accuracy(name, encoding)
            write_json(path, known)
        found[name] = known[key]
    return found


def _figures(found: Mapping[str, Mapping[str, Mapping[str, float]]], alone: Mapping[str, float]) -> list[Figure]:
    from scipy.stats import kendalltau

    figures = []
    for strategy, results in found.items():
        accuracies = results["accuracy"]
        name = strategy.replace("-", "_").replace("+", "_")
        drawn = [k for k in accuracies if k.startswith("random")]
        figures += [
            Figure(name=f"{name}_steps", value=results["training"]["steps"]),
            *(Figure(name=f"{name}_{k}", value=accuracies[k]) for k in ("smallest", "middle", "largest")),
            Figure(name=f"{name}_random_mean", value=sum(accuracies[k] for k in drawn) / len(drawn)),
        ]
        if alone:
            behind = [alone[k] - accuracies[k] for k in accuracies]
            tau = float(kendalltau([accuracies[k] for k in drawn], [alone[k] for k in drawn]).statistic)
            figures += [
                Figure(name=f"{name}_behind_alone_mean", value=sum(behind) / len(behind)),
                Figure(name=f"{name}_behind_alone_most", value=max(behind)),
                Figure(name=f"{name}_kendall_tau", value=tau, at_least=_TAU),
            ]
    return figures


if __name__ == "__main__":
    script(main)
