"""What becomes of one network that nobody wrote for hwnas: its graph, its space, its smaller networks, their files.

Each step that fails is a row of what failed and why, and whatever can still be tried is. Knows networks as modules and
inputs; never where they come from or what is made of the rows.
"""

from __future__ import annotations

import contextlib
import re
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from _adapt_networks import Network

from hwnas import registry
from hwnas.errors import GraphError, SpaceError
from hwnas.precisions import EXACT, INTEGERS, computed_in, is_quantized
from hwnas.types import Array, Device, Exporter, IntArray, Runtime

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hwnas.graph import OpGraph
    from hwnas.spaces.adapted import AdaptedSpace
    from hwnas.supernet.adapted import AdaptedSupernet
    from hwnas.types import Block

    NamedBlocks = Sequence[tuple[str, Block]]

EQUAL = 1e-5  # of an output, relative to the largest if that is above 1: the same numbers by the same operators
FP32 = 1e-4  # of an output, relative to the largest: the same operators by other code
INT8_STEPS = 4  # of the scale of the outputs: what exporters are held to
# of what int8 changes: many layers with weights that nobody trained enlarge a number that two programs round to
# different sides as much as they enlarge all other rounding; wrong arithmetic is off by as much as int8 is, or more
INT8_SHARE = 0.25
_SAMPLES = 3  # another number than the network is traced with
_TRIED = 8  # samples that sub-networks are calibrated and tried on, the same: no range is left
_LONGEST_REASON = 300
_DIGITS = re.compile(r"[0-9.e+-]+")

# name on the command line -> description of the device whose runtime reads the files
FORMATS: Mapping[str, str] = {
    "onnxruntime": "cpu",
    "litert": "cpu-litert",
    "openvino": "cpu-openvino",
    "vela": "ethos-u55-128",
}
COMPILED_ONLY = ("vela",)  # its estimates need no run


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What files are made for.

    Attributes:
        name: one of FORMATS.
        exporter: of the files.
        runtime: that reads them.
        device: its description.
        computed: `fp32` and `int8` -> the name of what it computes them in here.
    """

    name: str
    exporter: Exporter
    runtime: Runtime
    device: Device
    computed: Mapping[str, str]

    @classmethod
    def of(cls, name: str) -> Target:
        """The target of one of FORMATS.

        Raises:
            MissingPackageError: its runtime is not installed.
        """
        from hwnas.devices import load_device

        device = load_device(FORMATS[name])
        runtime: Runtime = registry.load("runtimes", device.runtime)()
        format = next(f for f in registry.names("exporters") if f in runtime.formats)
        return cls(
            name=name,
            exporter=registry.load("exporters", format)(),
            runtime=runtime,
            device=device,
            computed=computed_in(runtime, device, runtime.context(device)),
        )

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those of `fp32` and `int8` that the device has."""
        return tuple(p for p in (EXACT, INTEGERS) if p in self.device.precisions)


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
        graph = self._trace(module)
        if graph is None:
            return
        with self._stage("graph"), torch.no_grad():
            self._compare_graph(module, graph)
        made = self._make_elastic(module, graph)
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

    def _trace(self, module: nn.Module) -> OpGraph | None:
        from hwnas.graph import unknown_operators

        began = time.perf_counter()
        try:
            graph, self.row["as_it_trains"] = traced(self.network, module)
        except GraphError as e:
            self._failed("trace", str(e))
            return None
        self.row |= {"trace_s": round(time.perf_counter() - began, 2), "operators": len(graph.ops)}
        if unknown := unknown_operators(graph):
            self._failed("trace", f"operators without a rule: {', '.join(unknown)}")
            return None
        self.row["traced"] = True
        return graph

    def _compare_graph(self, module: nn.Module, graph: OpGraph) -> None:
        if lost := sorted({w.name for w in graph.weights()} - set(named(module))):
            raise GraphError(f"numbers that the network does not hold under a name: {', '.join(lost)}")
        self.row["largest_output"], self.row["max_abs_diff"] = compared(self.network, module, graph)
        self.row["equal"] = self.row["max_abs_diff"] <= EQUAL * max(1.0, self.row["largest_output"])
        if not self.row["equal"]:
            raise GraphError(f"an output differs by {self.row['max_abs_diff']:.2g}")

    def _make_elastic(self, module: nn.Module, graph: OpGraph) -> tuple[AdaptedSpace, AdaptedSupernet] | None:
        from hwnas.graph.costs import macs
        from hwnas.spaces.adapted.wishes import Wishes, adapt
        from hwnas.spaces.kinds import block_graph
        from hwnas.supernet.adapted import AdaptedSupernet

        with self._stage("elastic"):
            if len(graph.inputs) != 1 or len(graph.outputs) != 1:
                raise SpaceError("traced; one input and output only so far")
            began = time.perf_counter()
            space = adapt(self.network.name, [graph], Wishes())
            supernet = AdaptedSupernet(space, named(module))
            seconds = time.perf_counter() - began
            work = [
                sum(macs(block_graph(b)) for _, b in space.named_blocks(e)) for e in (space.smallest(), space.largest())
            ]
            self.row |= {
                "elastic": True,
                "elastic_s": round(self.row["trace_s"] + seconds, 2),
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
        expected = module(x)
        difference = relative(found(x), expected)
        if not difference <= EQUAL:
            raise SpaceError(f"the largest network's outputs differ by {difference:.2g} of the largest one")
        own = named(module)
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
        with tempfile.TemporaryDirectory(prefix="hwnas-zoo-") as folder:
            path = Path(folder, f"network.{target.exporter.format}")
            artefact = target.exporter.export(model, x[:1], path, precision=target.computed[precision])
            with target.runtime.load(artefact, target.device) as session:
                outputs = None
                if target.name not in COMPILED_ONLY:
                    outputs = through(session, artefact, x)
        run: dict[str, Any] = {"target": target.name, "as": precision, "file_bytes": artefact.size_bytes}
        self.row["runs"].append(run)
        if outputs is not None:
            run |= measured(outputs, model(x).numpy(), model)
            if model is not floats:
                run["share"] = share(outputs, model(x).numpy(), floats(x).numpy())
            _hold(run, precision)


# ---------------------------------------------------------------- helpers


def traced(network: Network, module: nn.Module) -> tuple[OpGraph, bool]:
    """The graph, and whether it is that of the module as it trains: some give further outputs meanwhile.

    Raises:
        GraphError: it cannot be traced either way.
    """
    from hwnas.supernet.tracing import trace

    try:
        return trace(module, network.inputs(1)), True
    except GraphError:
        return trace(module, network.inputs(1), training=False), False


def compared(network: Network, module: nn.Module, graph: OpGraph) -> tuple[float, float]:
    """The largest output of a network in magnitude, and by how much its graph's differ, with the same weights."""
    from torch.utils._pytree import tree_leaves

    from hwnas.supernet.graph_module import OpGraphModule

    made = OpGraphModule(graph)
    own = named(module)
    # a count of batches that only a module of the graph has decides nothing
    made.load_state_dict({name: own[name] for name in made.state_dict() if name in own}, strict=False)
    x = network.inputs(_SAMPLES, seed=2)
    expected, found = tree_leaves(module(x)), tree_leaves(made.eval()(x))
    pairs = list(zip(expected, found, strict=True))
    return max(float(a.abs().max()) for a, _ in pairs), max(float((a - b).abs().max()) for a, b in pairs)


def named(module: nn.Module) -> dict[str, Tensor]:
    """A module's numbers under all of their names, those that are not stored with it among them."""
    return {**dict(module.named_buffers()), **module.state_dict(keep_vars=True)}


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


def through(session: Any, artefact: Any, x: Tensor) -> Array:
    """What a file gives for these inputs, one after the other, as float32."""
    from hwnas.measure.interface import from_artefact, to_artefact

    samples = [sample[None] for sample in x.numpy()]
    given = [to_artefact(s, artefact.input) for s in samples] if x.is_floating_point() else samples  # token ids
    return np.concatenate([from_artefact(session.run([one])[0], artefact.output) for one in given])


def measured(found: Array, expected: Array, model: nn.Module) -> dict[str, float]:
    """How far a runtime's outputs are from torch's: absolutely, relative to the largest, in steps of their scale."""
    difference = np.abs(found - expected)
    quantizer = getattr(model, "output_quantizer", None)
    step = float(quantizer.scale) if quantizer is not None else float(np.ptp(expected)) / 255
    return {
        "largest_output": float(np.abs(expected).max()),
        "relative_difference": float(difference.max() / np.abs(expected).max()),
        "steps": float(difference.max() / step),
        # differences are whole steps, but for the rounding of the floats they are given in
        "identical": float((difference < 0.01 * step).mean()),
    }


def share(found: Array, expected: Array, floats: Array) -> float:
    """Root of the mean square by which a runtime is off, over that by which int8 is off from fp32."""
    off = float(np.sqrt(np.mean((found - expected) ** 2)))
    return off / max(float(np.sqrt(np.mean((expected - floats) ** 2))), 1e-12)


def _hold(run: Mapping[str, Any], precision: str) -> None:
    """Hold what was measured against what is allowed.

    Raises:
        SpaceError: it is more.
    """
    if not is_quantized(precision):
        if not run["relative_difference"] <= FP32:
            raise SpaceError(f"outputs differ by {run['relative_difference']:.1e} of the largest")
    elif not (run["steps"] <= INT8_STEPS + 0.01 or run["share"] <= INT8_SHARE):
        raise SpaceError(
            f"outputs differ by {run['steps']:.1f} steps and by {run['share']:.2f} of what int8 changes; "
            f"{run['identical']:.0%} are identical"
        )
