"""What elasticity costs in training: a step of the supernet against the same networks as plain modules.

Both run the same sub-networks (of the sandwich rule: largest, two random ones, smallest) on the same images with the
same losses, forward and backward, in turns; the plain ones were extracted before. What both would do alike (data,
optimiser, averaging) is left out, so the ratio of whole steps is nearer to 1 than the one shown. `--strategy` asks for
others. `--rounded` compares steps in which networks compute as integers will with those in floats. `--given NAME`
takes a network that was given in place of a preset (those of `adapt_zoo.py`). `--memory` compares the largest memory of
processes that do one kind of step alone, beyond what they hold before it, also with that of the largest network alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _common import Benchmark, Figure, script, spread

from hwnas.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hwnas.supernet.elastic import NamedBlocks, Supernet
    from hwnas.types import TrainingStrategy, TrainTarget

_LABEL_SMOOTHING = 0.1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="mobilenet-tiny", help="preset (mobilenet-tiny)")
    parser.add_argument("--given", metavar="NAME", help="a network of adapt_zoo.py in place of a preset")
    parser.add_argument("--timm", type=Path, metavar="FOLDER", help="that timm was installed into, for its networks")
    parser.add_argument("--strategy", nargs="+", default=["sandwich"], help="of training (sandwich)")
    parser.add_argument("--rounded", action="store_true", help="compare steps in integers and in floats as well")
    parser.add_argument("--memory", action="store_true", help="compare memory as well")
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 32], help="sizes of batches (128 32)")
    parser.add_argument("--rounds", type=int, default=30, help="steps of each kind, at each size (30)")
    parser.add_argument("--threads", type=int, help="of torch; all cores if left out")
    bench = Benchmark("train_step", parser, argv)
    options = bench.options
    subject = Subject(space=options.space, given=options.given, timm=options.timm)
    batches, rounds = options.batch, options.rounds
    if bench.smoke:
        subject, batches, rounds = Subject(space="test-tiny", given=None, timm=None), [4], 2
    rounded = options.rounded or bench.smoke
    figures: list[Figure] = []
    details: dict[str, Any] = {}
    for strategy in options.strategy:
        for batch in batches:
            rows = compare(subject, batch, strategy=strategy, rounds=rounds, threads=options.threads, rounded=rounded)
            at = f"at_batch_{batch}" if strategy == "sandwich" else f"{strategy.replace('-', '_')}_at_batch_{batch}"
            details[at] = rows
            figures += times_of(rows, at)
            if options.memory:
                figures += memory_at(subject, batch, strategy, at)
    return bench.publish(figures, details=details)


def times_of(rows: Sequence[Mapping[str, float]], at: str) -> list[Figure]:
    """What steps of a strategy and a batch took, in milliseconds and as ratios."""
    ratios = spread([row["elastic_s"] / row["plain_s"] for row in rows])
    kinds = [kind.removesuffix("_s") for kind in rows[0]]
    figures = [
        Figure(name=f"elastic_over_plain_{at}", value=ratios["median"], at_most=1.15),
        Figure(name=f"smallest_ratio_{at}", value=ratios["min"]),
        Figure(name=f"largest_ratio_{at}", value=ratios["max"]),
        *(
            Figure(name=f"{kind}_step_ms_{at}", value=1e3 * statistics.median(r[f"{kind}_s"] for r in rows))
            for kind in kinds
        ),
    ]
    if "rounded" in kinds:
        slower = statistics.median(r["rounded_s"] / r["floats_s"] for r in rows)
        figures.append(Figure(name=f"rounded_over_floats_{at}", value=slower))
    return figures


def memory_at(subject: Subject, batch: int, strategy: str, at: str) -> list[Figure]:
    """What steps hold at most: of the supernet, of the same networks as modules, of the largest network alone."""
    found = {kind: apart(memory_of, subject, batch, strategy, kind) for kind in ("elastic", "plain", "largest")}

    def over(kind: str) -> float | None:
        return found["elastic"] / found[kind] if found[kind] else None  # nothing to be seen

    return [
        Figure(name=f"elastic_over_plain_memory_{at}", value=over("plain"), at_most=1.2),
        Figure(name=f"elastic_over_largest_memory_{at}", value=over("largest"), at_most=1.2),
        *(Figure(name=f"{kind}_mib_{at}", value=b / 2**20) for kind, b in found.items()),
    ]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is trained.

    Attributes:
        space: a preset.
        given: name of a network that takes its place; None: none does.
        timm: where timm is installed.
    """

    space: str
    given: str | None
    timm: Path | None

    def supernet(self, *, rounded: bool = False) -> tuple[Any, Any]:
        """Its space and its supernet.

        Args:
            rounded: that also computes as integers do; of presets.

        Raises:
            ConfigError: there is no such network.
        """
        from hwnas import registry
        from hwnas.supernet.elastic import Supernet

        if self.given is None:
            space: Any = registry.load("spaces", self.space)()
            return space, Supernet(space, rounded=rounded)
        from _adapt_networks import chosen, own_networks, timm_networks
        from _adapt_sweep import traced
        from _timm import find_timm

        from hwnas.spaces.adapted.wishes import Wishes, adapt
        from hwnas.supernet.adapted import AdaptedSupernet

        timm = find_timm(self.timm)
        known = own_networks() + (timm_networks(timm) if timm is not None else [])
        named = [n for n in chosen(known, self.given) if n.name == self.given]
        if not named:
            raise ConfigError(f"there is no network {self.given!r} in adapt_zoo.py (timm's need --timm FOLDER)")
        (network,) = named
        graph, numbers, _ = traced(network, network.module())
        space = adapt(network.name, [graph], Wishes(precisions=("fp32",)))
        return space, AdaptedSupernet(space, numbers)


def apart(work: Callable[..., float], *arguments: object) -> float:
    """What a function gives in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def memory_of(subject: Subject, batch: int, strategy: str, kind: str) -> float:
    """Bytes that three steps take at most, beyond what was held before them."""
    import numpy as np
    import torch

    torch.set_num_threads(1)
    space, supernet, images, labels = made(subject, batch)
    rule, rng = strategy_of(strategy, space), np.random.default_rng(0)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    for number in range(3):
        targets = rule.architectures(number, rng)[: 1 if kind == "largest" else None]
        networks = [space.named_blocks(t.encoding) for t in targets]
        step = elastic_step(supernet, networks) if kind == "elastic" else plain_step(supernet, networks)
        timed(step, targets, images, labels)
    return resident("VmHWM") - before


def resident(what: str) -> float:
    """Bytes of this process, as Linux tells them: `VmRSS` now, `VmHWM` at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


def strategy_of(name: str, space: Any) -> TrainingStrategy:
    """A strategy that two random networks a step are asked of, as of a training of a thousand steps."""
    from hwnas import registry
    from hwnas.pipeline.training import sizes_of

    make = registry.load("strategies", name)
    return make(space, **registry.taken_by(make, {"n_random": 2, "steps": 1000, "sizes": sizes_of(space)}))  # type: ignore[no-any-return]


def made(subject: Subject, batch: int, *, rounded: bool = False) -> tuple[Any, Any, Tensor, Tensor]:
    """The space, its supernet, images and labels."""
    import torch

    space, supernet = subject.supernet(rounded=rounded)
    supernet.to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(0)
    shape, classes = named_shape(space)
    images = torch.randn(batch, *shape, generator=generator).contiguous(memory_format=torch.channels_last)
    return space, supernet, images, torch.randint(classes, (batch,), generator=generator)


def named_shape(space: Any) -> tuple[tuple[int, ...], int]:
    """(C, H, W) of the largest network's input, and how many classes it has."""
    blocks = space.named_blocks(space.largest())
    return blocks[0][1].in_shape, blocks[-1][1].out_shape[0]


def compare(
    subject: Subject, batch: int, *, strategy: str, rounds: int, threads: int | None, rounded: bool
) -> list[dict[str, float]]:
    """Seconds of each kind of step, round by round, in turns.

    Args:
        subject: what is trained.
        batch: images.
        strategy: says which networks a step trains, on which images.
        rounds: each with random sub-networks of its own.
        threads: of torch; None leaves them.
        rounded: also of steps in which the networks compute as integers will, and of the same ones in floats.
    """
    import numpy as np

    from hwnas.torch_process import prepare_torch

    prepare_torch(threads)
    rng = np.random.default_rng(0)
    space, supernet, images, labels = made(subject, batch)
    rule = strategy_of(strategy, space)
    integers = Integers(subject, batch) if rounded else None
    rows = []
    for number in range(rounds + 1):
        targets = rule.architectures(1000 * number // (rounds + 1), rng)
        networks = [space.named_blocks(t.encoding) for t in targets]
        steps = {"elastic_s": elastic_step(supernet, networks), "plain_s": plain_step(supernet, networks)}
        if integers is not None:
            steps |= integers.steps(targets, number)
        for forward, _ in steps.values():
            warm_up(forward, len(targets), images)
        order = list(steps) if number % 2 else list(steps)[::-1]
        row = {kind: timed(steps[kind], targets, images, labels) for kind in order}
        if number:  # the first round warms up
            rows.append(row)
    return rows


Forward = Callable[[int, "Tensor"], "Tensor"]


def elastic_step(supernet: Supernet, networks: Sequence[NamedBlocks]) -> tuple[Forward, nn.Module]:
    """Runs the i-th network on the shared weights; and what holds the gradients."""
    return lambda i, x: supernet(x, networks[i]), supernet.train()


class Integers:
    """A supernet whose networks compute in floats, or as integers will: the same ones in the precisions of a step.

    Args:
        subject: what is trained.
        batch: images.
    """

    def __init__(self, subject: Subject, batch: int) -> None:
        from hwnas.supernet.quantized import begin_ranges_

        self._space, self._supernet, images, _ = made(subject, batch, rounded=True)
        begin_ranges_(self._supernet, [self._space.named_blocks(self._space.largest())], images)

    def steps(self, targets: Sequence[TrainTarget], number: int) -> dict[str, tuple[Forward, nn.Module]]:
        """Of some networks: in floats, and in the precisions of a step of quantization-aware training."""
        import numpy as np

        from hwnas.supernet.quantized import in_precisions

        floats = [self._space.named_blocks(t.encoding) for t in targets]
        integers = in_precisions(floats, number, np.random.default_rng(number))
        return {"floats_s": self._step(floats, rounds=False), "rounded_s": self._step(integers, rounds=True)}

    def _step(self, networks: Sequence[NamedBlocks], *, rounds: bool) -> tuple[Forward, nn.Module]:
        def forward(i: int, x: Tensor) -> Tensor:
            self._supernet.rounds = rounds
            return self._supernet(x, networks[i])  # type: ignore[no-any-return]

        return forward, self._supernet.train()


def plain_step(supernet: Supernet, networks: Sequence[NamedBlocks]) -> tuple[Forward, nn.Module]:
    """Runs the i-th network as a module of its own; and what holds the gradients."""
    import torch
    from torch import nn

    from hwnas.data.tensors import resize

    plain: Any = nn.ModuleList([supernet.extract(blocks) for blocks in networks])
    plain.to(memory_format=torch.channels_last)
    return lambda i, x: plain[i](resize(x, plain[i].in_shape[1:])), plain.train()


def warm_up(forward: Forward, n_networks: int, images: Tensor) -> None:
    """What happens only once a network (the supernet prepares each variant it has not met) is not timed."""
    import torch

    with torch.no_grad():
        for i in range(n_networks):
            forward(i, images[:2])


def timed(step: tuple[Forward, nn.Module], targets: Sequence[TrainTarget], images: Tensor, labels: Tensor) -> float:
    """Seconds of one sandwich step: forward, loss and backward of each network in turn."""
    import torch
    from torch.nn import functional as F

    from hwnas.tasks.classification import soft_cross_entropy

    forward, module = step
    module.zero_grad(set_to_none=True)
    outputs: list[torch.Tensor] = []
    began = time.perf_counter()
    for i, target in enumerate(targets):
        logits = forward(i, images[target.images])
        if target.teacher is None:
            loss = F.cross_entropy(logits, labels[target.images], label_smoothing=_LABEL_SMOOTHING)
        else:
            loss = soft_cross_entropy(logits, outputs[target.teacher][target.images])
        loss.backward()  # type: ignore[no-untyped-call]
        outputs.append(logits.detach())
    return time.perf_counter() - began


if __name__ == "__main__":
    script(main)
