"""Operator graphs against counters that know nothing of them: MACs, parameters, activation memory; and trace times.

    python benchmarks/graphs.py --timm FOLDER

With timm (`_timm.py` says how to get it), on 27 of its networks; fvcore is asked too where it is installed. Without
timm on two small networks of its own, which reaches no target.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _common import Benchmark, Figure, script, spread
from _counters import fvcore_macs, held_bytes, torch_macs
from _networks import Make, own, timms
from _timm import HOW


def main(argv: Sequence[str] | None = None) -> int:
    """Count, compare, publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="TEXT", default="", help="networks whose names hold this text")
    parser.add_argument("--timm", type=Path, metavar="FOLDER", help="that timm was installed into; see _timm.py")
    bench = Benchmark("graphs", parser, argv)
    networks = own() if bench.smoke else {**own(), **timms(bench.options.timm)}
    if not bench.smoke and len(networks) == len(own()):
        bench.console.note(f"timm is not at hand: two small networks alone are counted ({HOW})")
    rows: dict[str, dict[str, Any]] = {}
    for name, make in networks.items():
        if bench.options.only in name:
            rows[name] = compared(make)
            bench.console.note(f"{name}: {rows[name]}")
    return bench.publish(figures(rows), details={"networks": rows, "conventions": CONVENTIONS})


CONVENTIONS = {
    "macs": "torch.utils.flop_counter.FlopCounterMode, halved, attention by plain products of matrices; fvcore: its "
    "conv, linear, addmm, matmul and bmm alone, as it also counts normalisations, pools and interpolation; it does not "
    "know fused attention and leaves it out",
    "memory": "storages held by the exported module run operator by operator on one sample: number by number in place, "
    "moves written, nothing inside a kernel, nothing that follows from weights alone",
    "parameters": "sum(p.numel() for p in module.parameters())",
}


def compared(make: Make) -> dict[str, Any]:
    """One network by its graph and by the counters."""
    import torch

    from hwnas.graph import macs, parameters, peak_memory_bytes, unknown_operators
    from hwnas.supernet.tracing import trace

    torch.manual_seed(0)
    module, shape = make()
    began = time.perf_counter()
    graph = trace(module, torch.zeros(1, *shape), training=False)
    row: dict[str, Any] = {"trace_s": round(time.perf_counter() - began, 2), "operators": len(graph.ops)}
    row |= {"parameters": parameters(graph), "parameters_torch": sum(p.numel() for p in module.parameters())}
    row["unknown"] = list(unknown_operators(graph))
    if row["unknown"]:
        return row
    row |= {"macs": macs(graph), "macs_torch": torch_macs(module, shape)}
    row |= {"memory_bytes": peak_memory_bytes(graph), "memory_bytes_held": held_bytes(module, shape)}
    try:
        row["macs_fvcore"], row["fvcore_counts_too"] = fvcore_macs(module, shape)
    except ImportError:
        row["macs_fvcore"] = None
    return row


def figures(rows: dict[str, dict[str, Any]]) -> list[Figure]:
    """What the rows show."""
    known = [row for row in rows.values() if not row["unknown"]]
    by_fvcore = [row for row in known if row["macs_fvcore"] is not None]
    errors = [abs(row["memory_bytes"] / row["memory_bytes_held"] - 1) for row in known]
    times = spread([row["trace_s"] for row in rows.values()])
    return [
        Figure(name="networks", value=len(known), at_least=20),
        Figure(name="networks_with_operators_without_a_rule", value=len(rows) - len(known)),
        Figure(name="parameters_equal", value=sum(r["parameters"] == r["parameters_torch"] for r in rows.values())),
        Figure(name="macs_equal_to_torchs_counter", value=sum(r["macs"] == r["macs_torch"] for r in known)),
        Figure(name="macs_largest_difference", value=_largest(known, "macs_torch"), at_most=0.0),
        Figure(name="networks_counted_by_fvcore", value=len(by_fvcore)),
        Figure(name="macs_equal_to_fvcore", value=sum(r["macs"] == r["macs_fvcore"] for r in by_fvcore)),
        Figure(name="memory_equal_to_held", value=sum(e == 0 for e in errors)),
        Figure(name="memory_largest_difference", value=max(errors), at_most=0.05),
        Figure(name="trace_median_s", value=times["median"]),
        Figure(name="trace_max_s", value=times["max"]),
    ]


def _largest(rows: Sequence[dict[str, Any]], other: str) -> float:
    return max(abs(row["macs"] / row[other] - 1) for row in rows)


if __name__ == "__main__":
    script(main)
