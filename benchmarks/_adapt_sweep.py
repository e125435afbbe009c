"""What becomes of one network that nobody wrote for hwnas: its graph, its space, its smaller networks, their files.

Each step that fails is a row of what failed and why, and whatever can still be tried is. Knows networks as modules and
inputs; never where they come from or what is made of the rows.
"""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from _adapt_networks import Network
from _adapt_targets import Target, error_ratio, hold, measured

from hwnas.errors import GraphError, SpaceError
from hwnas.precisions import EXACT, INTEGERS, is_quantized
from hwnas.types import IntArray

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hwnas.graph import OpGraph
    from hwnas.spaces.adapted import AdaptedSpace
    from hwnas.supernet.adapted import AdaptedSupernet
    from hwnas.types import Block

    NamedBlocks = Sequence[tuple[str, Block]]

EQUAL = 1e-5  # of an output, relative to the largest if that is above 1: the same numbers by the same operators
_SAMPLES = 3  # another number than the network is traced with
_TRIED = 8  # samples that sub-networks are calibrated and tried on, the same: no range is left
_LONGEST_REASON = 300
_DIGITS = re.compile(r"[0-9.e+-]+")


class TimeUpError(BaseException):
    """A network took too long; no code that is tried may catch it."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeUpError in the block once it has taken so long; 0: never."""

    def ring(*_: object) -> None:
        raise TimeUpError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Sweep:
    """One network's row, as it grows.

    Args:
        network: to try.
        targets: that its smaller networks are made files for.
        subnetworks: how many of these.
    """

    def __init__(self, network: Network, targets: Sequence[Target], *, subnetworks: int) -> None:
        self.network, self.targets, self.subnetworks = network, targets, subnetworks
        self.row: dict[str, Any] = {"name": network.name, "family": network.family, "shape": list(network.shape)}
        self.row |= {"traced": False, "equal": False, "elastic": False, "largest_equal": False, "failures": []}
        self.row |= {"subnetworks": 0, "verified": {t.name: dict.fromkeys(t.precisions, False) for t in targets}}
        self._passed: Counter[tuple[str, str]] = Counter()

    def run(self, *, limit_s: float) -> dict[str, Any]:
        """Try everything; returns the row."""
        began = time.perf_counter()
        try:
            with time_limit(limit_s):
                self._run()
        except TimeUpError:
            self._failed("time", f"took more than {limit_s:g} s")
        for target in self.targets:
            for precision in target.precisions:
                passed = self._passed[target.name, precision]
                self.row["verified"][target.name][precision] = passed > 0 and passed == self.row["subnetworks"]
        self.row["seconds"] = round(time.perf_counter() - began, 1)
        return self.row

    def _failed(self, stage: str, reason: str) -> None:
        """Note what failed, once, however many of the sub-networks it happened to."""
        reason = " ".join(reason.split())[:_LONGEST_REASON]
        for known in self.row["failures"]:
            if (known["stage"], _DIGITS.sub("", known["reason"])) == (stage, _DIGITS.sub("", reason)):
                known["times"] += 1
                return
        self.row["failures"].append({"stage": stage, "reason": reason, "times": 1})

    @contextlib.contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as e:  # noqa: BLE001 - whatever it is, it is what the sweep is to find
            self._failed(name, f"{type(e).__name__}: {e}")

    def _run(self) -> None:
        import torch

        module = self.network.module()
        self.row["parameters"] = sum(p.numel() for p in module.parameters())
        found = self._trace(module)
        if found is None:
            return
        graph, numbers = found
        with self._stage("graph"), torch.no_grad():
            self._compare_graph(module, graph, numbers)
        made = self._make_elastic(graph, numbers)
        if made is None:
            return
        space, supernet = made
        with self._stage("largest"), torch.no_grad():
            self._compare_largest(module, space, supernet)
        self.row["runs"] = []
        rng = np.random.default_rng(0)
        encodings = space.sample(self.subnetworks, rng)
        self.row["subnetworks"] = len(encodings)
        for i, encoding in enumerate(encodings):
            if i % 2:  # the first by the order the units stand in, the next by any
                for dim, d in enumerate(space.network.dependencies.dims):
                    supernet.set_order_(dim, rng.permutation(d.size))
            with torch.no_grad():
                self._try_subnetwork(supernet, {p: with_precision(space, encoding, p) for p in (EXACT, INTEGERS)})

    # ------------------------------------------------------------ graph and space

    def _trace(self, module: nn.Module) -> tuple[OpGraph, dict[str, Tensor]] | None:
        from hwnas.graph import unknown_operators

        began, began_cpu = time.perf_counter(), time.process_time()
        try:
            graph, numbers, self.row["as_it_trains"] = traced(self.network, module)
        except GraphError as e:
            self._failed("trace", str(e))
            return None
        self.row |= {"trace_s": round(time.perf_counter() - began, 2), "operators": len(graph.ops)}
        self.row["trace_cpu_s"] = round(time.process_time() - began_cpu, 2)
        if unknown := unknown_operators(graph):
            self._failed("trace", f"operators without a rule: {', '.join(unknown)}")
            return None
        self.row["traced"] = True
        return graph, numbers

    def _compare_graph(self, module: nn.Module, graph: OpGraph, numbers: Mapping[str, Tensor]) -> None:
        self.row["largest_output"], self.row["max_abs_diff"] = compared(self.network, module, graph, numbers)
        self.row["equal"] = self.row["max_abs_diff"] <= EQUAL * max(1.0, self.row["largest_output"])
        if not self.row["equal"]:
            raise GraphError(f"an output differs by {self.row['max_abs_diff']:.2g}")

    def _make_elastic(
        self, graph: OpGraph, numbers: Mapping[str, Tensor]
    ) -> tuple[AdaptedSpace, AdaptedSupernet] | None:
        from hwnas.graph.costs import macs
        from hwnas.graph.joining import joined
        from hwnas.spaces.adapted.wishes import Wishes, adapt
        from hwnas.spaces.kinds import block_graph
        from hwnas.supernet.adapted import AdaptedSupernet

        with self._stage("elastic"):
            if len(graph.inputs) != 1:
                raise SpaceError("traced; one input only so far")
            graph = joined(graph, [f"output_{i}" for i in range(len(graph.outputs))])
            began, began_cpu = time.perf_counter(), time.process_time()
            space = adapt(self.network.name, [graph], Wishes())
            supernet = AdaptedSupernet(space, numbers)
            seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
            work = [
                sum(macs(block_graph(b)) for _, b in space.named_blocks(e)) for e in (space.smallest(), space.largest())
            ]
            self.row |= {
                "elastic": True,
                "elastic_s": round(self.row["trace_s"] + seconds, 2),
                "elastic_cpu_s": round(self.row["trace_cpu_s"] + cpu, 2),
                "slots": len(space.slots),
                "choices": len(space.choices),
                "networks": float(space.count()),
                "distinct_blocks": len(space.distinct_blocks()),
                "smallest_macs_share": round(work[0] / max(1, work[1]), 4),
            }
            return space, supernet
        return None

    def _compare_largest(self, module: nn.Module, space: AdaptedSpace, supernet: AdaptedSupernet) -> None:
        import torch

        found = supernet.extract(with_precision(space, space.largest(), EXACT))
        x = self.network.inputs(_SAMPLES, seed=2)
        expected = in_a_row(module(x))
        difference = relative(found(x), expected)
        if not difference <= EQUAL:
            raise SpaceError(f"the largest network's outputs differ by {difference:.2g} of the largest one")
        own = module.state_dict()  # under all names of those that have several
        for path, parameter in found.named_parameters():
            name = path.split(".", 2)[2]
            if not torch.equal(parameter, own[name]):
                raise SpaceError(f"the largest network has another weight {name}")
        self.row["largest_equal"] = True

    # ------------------------------------------------------------ smaller networks

    def _try_subnetwork(self, supernet: AdaptedSupernet, blocks: Mapping[str, NamedBlocks]) -> None:
        """Run one, extract it, and make its files.

        Args:
            supernet: of the given network.
            blocks: precision -> those of the sub-network.
        """
        from hwnas.supernet.recalibration import recalibrate

        x = self.network.inputs(_TRIED, seed=3)
        floats = None
        with self._stage("sub-network"):
            compare_active(supernet, blocks[EXACT], x)
            floats = recalibrate(supernet.extract(blocks[EXACT]), [x])
        if floats is None:
            return
        quantized: dict[tuple[str, str], nn.Module] = {}
        for target in self.targets:
            for precision in target.precisions:
                with self._stage(f"{target.name} {precision}"):
                    model: nn.Module = floats
                    if is_quantized(precision):
                        how = (target.computed[precision], target.runtime.quantization)
                        if how not in quantized:
                            quantized[how] = shipped_int8(supernet, blocks[precision], x, *how)
                        model = quantized[how]
                    self._try_file(model, floats, target, precision)
                    self._passed[target.name, precision] += 1

    def _try_file(self, model: nn.Module, floats: nn.Module, target: Target, precision: str) -> None:
        """Write a sub-network, run the file, hold the outputs against torch's.

        Args:
            model: as it is deployed.
            floats: the same in fp32.
            target: what for.
            precision: `fp32` or `int8`.

        Raises:
            SpaceError: they differ.
        """
        x = self.network.inputs(_TRIED, seed=3)
        size, outputs = target.outputs(model, x, precision)
        run: dict[str, Any] = {"target": target.name, "as": precision, "file_bytes": size}
        self.row["runs"].append(run)
        if outputs is not None:
            expected = model(x).numpy()
            run |= measured(outputs, expected, model)
            if model is not floats:
                run["error_ratio"] = error_ratio(outputs, expected, floats(x).numpy(), model)
            hold(run, precision)


# ---------------------------------------------------------------- helpers


def traced(network: Network, module: nn.Module) -> tuple[OpGraph, dict[str, Tensor], bool]:
    """The graph, its numbers, and whether it is that of the module as it trains: some do then what no graph can.

    Raises:
        GraphError: it cannot be traced either way.
    """
    from hwnas.graph import unknown_operators
    from hwnas.supernet.tracing import trace_with_numbers

    try:
        graph, numbers = trace_with_numbers(module, network.inputs(1))
        if not unknown_operators(graph):
            return graph, numbers, True
    except GraphError:
        pass
    return *trace_with_numbers(module, network.inputs(1), training=False), False


def compared(network: Network, module: nn.Module, graph: OpGraph, numbers: Mapping[str, Tensor]) -> tuple[float, float]:
    """The largest output of a network in magnitude, and by how much its graph's differ, with the same numbers."""
    from torch.utils._pytree import tree_leaves

    from hwnas.supernet.graph_module import OpGraphModule

    made = OpGraphModule(graph)
    # a count of batches that only a module of the graph has decides nothing
    made.load_state_dict({name: numbers[name] for name in made.state_dict() if name in numbers}, strict=False)
    x = network.inputs(_SAMPLES, seed=2)
    expected, found = tree_leaves(module(x)), tree_leaves(made.eval()(x))
    pairs = list(zip(expected, found, strict=True))
    return max(float(a.abs().max()) for a, _ in pairs), max(float((a - b).abs().max()) for a, b in pairs)


def in_a_row(outputs: Any) -> Tensor:
    """What a module gives; several outputs side by side, (N, sum of their sizes)."""
    import torch
    from torch.utils._pytree import tree_leaves

    found = tree_leaves(outputs)
    return found[0] if len(found) == 1 else torch.cat([y.flatten(1) for y in found], 1)


def with_precision(space: AdaptedSpace, encoding: IntArray, precision: str) -> NamedBlocks:
    """The blocks of a network with every region in one precision."""
    chosen = encoding.copy()
    for i, choice in enumerate(space.choices):
        if choice.name.endswith(".precision"):
            chosen[i] = choice.options.index(precision)
    return space.named_blocks(space.canonical(chosen[None])[0])


def relative(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest number if that is above 1."""
    return float((found - expected).abs().max()) / max(1.0, float(expected.abs().max()))


def compare_active(supernet: AdaptedSupernet, blocks: NamedBlocks, x: Tensor) -> None:
    """Hold an extracted network against the same one inside the supernet, as they train.

    Raises:
        SpaceError: they differ, or what comes out is not finite.
    """
    import torch

    network = supernet.extract(blocks).train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        alone = network(x)
        torch.manual_seed(0)  # dropout drops the same numbers
        active = supernet.train()(x, blocks)
    if not bool(torch.isfinite(alone).all()):
        raise SpaceError("outputs are not finite")
    difference = relative(alone, active)
    if not difference <= EQUAL:
        raise SpaceError(f"an extracted network differs from the active one by {difference:.2g}")


def shipped_int8(
    supernet: AdaptedSupernet, blocks: NamedBlocks, x: Tensor, computed: str, quantization: str
) -> nn.Module:
    """A sub-network as it is deployed in int8: recalibrated and calibrated on these samples.

    Args:
        supernet: of the given network.
        blocks: of the sub-network.
        x: samples.
        computed: what the device computes int8 in.
        quantization: of activations, as the runtime has it.
    """
    from hwnas.supernet.quantization import quantize
    from hwnas.supernet.recalibration import recalibrate

    named = [(n, replace(b, precision=computed) if is_quantized(b.precision) else b) for n, b in blocks]
    return quantize(recalibrate(supernet.extract(named), [x]), [x], symmetric=quantization == "symmetric")
