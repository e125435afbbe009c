"""What elasticity costs in training: a sandwich step of the supernet against the same networks as plain modules.

Both run the same sub-networks (largest, two random ones, smallest) on the same images with the same losses, forward
and backward, in turns; the plain ones were extracted before. What both would do alike (data, optimiser, averaging)
is left out, so the ratio of whole steps is nearer to 1 than the one shown. `--given NAME` takes a network that was
given in place of a preset (those of `adapt_zoo.py`). `--memory` compares the largest memory of processes that do one
kind of step alone, beyond what they hold before it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _common import Benchmark, Figure, script, spread

from hwnas.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hwnas.supernet.elastic import NamedBlocks, Supernet
    from hwnas.types import TrainTarget

_LABEL_SMOOTHING = 0.1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="mobilenet-tiny", help="preset (mobilenet-tiny)")
    parser.add_argument("--given", metavar="NAME", help="a network of adapt_zoo.py in place of a preset")
    parser.add_argument("--timm", type=Path, metavar="FOLDER", help="that timm was installed into, for its networks")
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
    results = {batch: compare(subject, batch, rounds=rounds, threads=options.threads) for batch in batches}
    figures = []
    for batch, rows in results.items():
        ratios = spread([row["elastic_s"] / row["plain_s"] for row in rows])
        figures += [
            Figure(name=f"elastic_over_plain_at_batch_{batch}", value=ratios["median"], at_most=1.15),
            Figure(name=f"smallest_ratio_at_batch_{batch}", value=ratios["min"]),
            Figure(name=f"largest_ratio_at_batch_{batch}", value=ratios["max"]),
            *(
                Figure(
                    name=f"{kind}_step_ms_at_batch_{batch}", value=1e3 * statistics.median(r[f"{kind}_s"] for r in rows)
                )
                for kind in ("elastic", "plain")
            ),
        ]
    if options.memory:
        for batch in batches:
            found = {kind: apart(memory_of, subject, batch, kind) for kind in ("elastic", "plain")}
            figures.append(
                Figure(
                    name=f"elastic_over_plain_memory_at_batch_{batch}",
                    value=found["elastic"] / found["plain"] if found["plain"] else None,  # nothing to be seen
                    at_most=1.2,
                )
            )
            figures += [Figure(name=f"{kind}_mib_at_batch_{batch}", value=b / 2**20) for kind, b in found.items()]
    return bench.publish(figures, details={str(batch): rows for batch, rows in results.items()})


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

    def supernet(self) -> tuple[Any, Any]:
        """Its space and its supernet.

        Raises:
            ConfigError: there is no such network.
        """
        from hwnas import registry
        from hwnas.supernet.elastic import Supernet

        if self.given is None:
            space: Any = registry.load("spaces", self.space)()
            return space, Supernet(space)
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


def memory_of(subject: Subject, batch: int, kind: str) -> float:
    """Bytes that three sandwich steps take at most, beyond what was held before them."""
    import numpy as np
    import torch

    from hwnas.supernet.strategies import SandwichRule

    torch.set_num_threads(1)
    space, supernet, images, labels = made(subject, batch)
    rule, rng = SandwichRule(space, n_random=2), np.random.default_rng(0)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    for number in range(3):
        targets = rule.architectures(number, rng)
        networks = [space.named_blocks(t.encoding) for t in targets]
        step = elastic_step(supernet, networks) if kind == "elastic" else plain_step(supernet, networks)
        timed(step, targets, images, labels)
    return resident("VmHWM") - before


def resident(what: str) -> float:
    """Bytes of this process, as Linux tells them: `VmRSS` now, `VmHWM` at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


def made(subject: Subject, batch: int) -> tuple[Any, Any, Tensor, Tensor]:
    """The space, its supernet, images and labels."""
    import torch

    space, supernet = subject.supernet()
    supernet.to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(0)
    shape, classes = named_shape(space)
    images = torch.randn(batch, *shape, generator=generator).contiguous(memory_format=torch.channels_last)
    return space, supernet, images, torch.randint(classes, (batch,), generator=generator)


def named_shape(space: Any) -> tuple[tuple[int, ...], int]:
    """(C, H, W) of the largest network's input, and how many classes it has."""
    blocks = space.named_blocks(space.largest())
    return blocks[0][1].in_shape, blocks[-1][1].out_shape[0]


def compare(subject: Subject, batch: int, *, rounds: int, threads: int | None) -> list[dict[str, float]]:
    """Seconds of both kinds of step, round by round, in turns.

    Args:
        subject: what is trained.
        batch: images.
        rounds: each with random sub-networks of its own.
        threads: of torch; None leaves them.
    """
    import numpy as np

    from hwnas.supernet.strategies import SandwichRule
    from hwnas.torch_process import prepare_torch

    prepare_torch(threads)
    rng = np.random.default_rng(0)
    space, supernet, images, labels = made(subject, batch)
    rule = SandwichRule(space, n_random=2)
    rows = []
    for number in range(rounds + 1):
        targets = rule.architectures(number, rng)
        steps = {
            "elastic_s": elastic_step(supernet, [space.named_blocks(t.encoding) for t in targets]),
            "plain_s": plain_step(supernet, [space.named_blocks(t.encoding) for t in targets]),
        }
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
        logits = forward(i, images)
        if target.teacher is None:
            loss = F.cross_entropy(logits, labels, label_smoothing=_LABEL_SMOOTHING)
        else:
            loss = soft_cross_entropy(logits, outputs[target.teacher])
        loss.backward()  # type: ignore[no-untyped-call]
        outputs.append(logits.detach())
    return time.perf_counter() - began


if __name__ == "__main__":
    script(main)
