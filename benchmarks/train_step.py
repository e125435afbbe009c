"""What elasticity costs in training: a sandwich step of the supernet against the same networks as plain modules.

Both run the same sub-networks (largest, two random ones, smallest) on the same images with the same losses, forward
and backward, in turns; the plain ones were extracted before. What both would do alike (data, optimiser, averaging)
is left out, so the ratio of whole steps is nearer to 1 than the one shown.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from _common import Benchmark, Figure, script, spread

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hwnas.supernet.elastic import NamedBlocks, Supernet
    from hwnas.types import TrainTarget

_LABEL_SMOOTHING = 0.1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="mobilenet-tiny", help="preset (mobilenet-tiny)")
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 32], help="sizes of batches (128 32)")
    parser.add_argument("--rounds", type=int, default=30, help="steps of each kind, at each size (30)")
    parser.add_argument("--threads", type=int, help="of torch; all cores if left out")
    bench = Benchmark("train_step", parser, argv)
    options = bench.options
    space, batches, rounds = options.space, options.batch, options.rounds
    if bench.smoke:
        space, batches, rounds = "test-tiny", [4], 2
    results = {batch: compare(space, batch, rounds=rounds, threads=options.threads) for batch in batches}
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
    return bench.publish(figures, details={str(batch): rows for batch, rows in results.items()})


def compare(space_name: str, batch: int, *, rounds: int, threads: int | None) -> list[dict[str, float]]:
    """Seconds of both kinds of step, round by round, in turns.

    Args:
        space_name: a preset.
        batch: images.
        rounds: each with random sub-networks of its own.
        threads: of torch; None leaves them.
    """
    import numpy as np
    import torch

    from hwnas import registry
    from hwnas.supernet.elastic import Supernet
    from hwnas.supernet.strategies import SandwichRule
    from hwnas.workspace import limit_threads

    limit_threads(threads)
    space: Any = registry.load("spaces", space_name)()
    rng = np.random.default_rng(0)
    generator = torch.Generator().manual_seed(0)
    supernet: Any = Supernet(space).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(batch, space.in_channels, *2 * [space.resolutions[-1]], generator=generator)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(space.n_classes, (batch,), generator=generator)
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

    from hwnas.supernet.training import soft_cross_entropy

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
