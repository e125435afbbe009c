"""Networks that nobody wrote for hwnas, as operator graphs: which are traced, and whether the graph is the network.

    python benchmarks/adapt_zoo.py --timm FOLDER

timm's architectures over all families (`_timm.py` says how to get them), and networks for segmentation, detection,
text, sound and MLPerf Tiny written here in plain torch. Each gets other numbers than layers begin with, is traced, and
its graph runs as a module on the network's own weights, found by their names, beside the network itself. What fails
stands in the result with the reason.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from _adapt_networks import Network, chosen, own_networks, timm_networks, trained_networks
from _common import Benchmark, Figure, script
from _timm import HOW, find_timm

from hwnas.errors import ConfigError, GraphError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hwnas.graph import OpGraph

SMOKE = ("mlperf_resnet8", "text_encoder")
TOLERANCE = 1e-5  # of an output, relative to the largest if that is above 1
_SAMPLES = 3  # another number than the network is traced with


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="TEXT", default="", help="networks whose names or families hold this text")
    parser.add_argument("--timm", type=Path, metavar="FOLDER", help="that timm was installed into; see _timm.py")
    parser.add_argument(
        "--resnet8", type=Path, metavar="FILE", help="weights of MLPerf Tiny's ResNet8, to try it trained"
    )
    bench = Benchmark("adapt_zoo", parser, argv)
    networks = own_networks()
    if bench.options.resnet8 is not None:
        networks += trained_networks(bench.options.resnet8)
    if bench.smoke:
        networks = [n for n in networks if n.name in SMOKE]
    elif (timm := find_timm(bench.options.timm)) is not None:
        networks += timm_networks(timm)
    else:
        bench.console.note(f"timm is not at hand: only networks written here are tried ({HOW})")
    networks = chosen(networks, bench.options.only)
    if not networks:
        raise ConfigError(f"no network here has {bench.options.only!r} in its name or family")
    rows = []
    for network in networks:
        rows.append(tried(network))
        bench.console.note(f"{network.name}: {rows[-1].get('failure', rows[-1])}")
    return bench.publish(figures(rows), details={"networks": rows, "tolerance": TOLERANCE})


def tried(network: Network) -> dict[str, Any]:
    """One network: what was found, and under `failure` why it came no further."""
    import torch

    from hwnas.graph import unknown_operators

    row: dict[str, Any] = {"name": network.name, "family": network.family, "shape": list(network.shape)}
    row |= {"traced": False, "equal": False}
    module = network.module()
    row["parameters"] = sum(p.numel() for p in module.parameters())
    began = time.perf_counter()
    try:
        graph, row["as_it_trains"] = traced(network, module)
    except GraphError as e:
        return {**row, "failure": str(e)}
    row |= {"trace_s": round(time.perf_counter() - began, 2), "operators": len(graph.ops)}
    if unknown := unknown_operators(graph):
        return {**row, "unknown": list(unknown), "failure": f"operators without a rule: {', '.join(unknown)}"}
    row["traced"] = True
    if lost := sorted({w.name for w in graph.weights()} - set(named(module))):
        return {**row, "failure": f"numbers that the network does not hold under a name: {', '.join(lost)}"}
    with torch.no_grad():
        row["largest_output"], row["max_abs_diff"] = compared(network, module, graph)
    row["equal"] = row["max_abs_diff"] <= TOLERANCE * max(1.0, row["largest_output"])
    return row if row["equal"] else {**row, "failure": f"an output differs by {row['max_abs_diff']:.2g}"}


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


def figures(rows: Sequence[dict[str, Any]]) -> list[Figure]:
    """What the rows show."""
    times = [row["trace_s"] for row in rows if "trace_s" in row]
    equal = [row for row in rows if row["equal"]]
    return [
        Figure(name="networks", value=len(rows)),
        Figure(name="families", value=len({row["family"] for row in rows})),
        Figure(name="traced", value=sum(row["traced"] for row in rows), at_least=40),
        Figure(name="equal_as_graphs", value=len(equal), at_least=len(rows)),
        Figure(name="equal_to_the_bit", value=sum(row["max_abs_diff"] == 0.0 for row in equal)),
        Figure(name="failures", value=sum("failure" in row for row in rows)),
        Figure(name="trace_s_median", value=median(times) if times else None, at_most=5),
        Figure(name="trace_s_max", value=max(times, default=None)),
    ]


if __name__ == "__main__":
    script(main)
