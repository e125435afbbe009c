"""Networks that nobody wrote for hwnas: which can be made elastic, and whether what is made of them is right.

    python benchmarks/adapt_zoo.py --timm FOLDER

timm's architectures over all families (`_timm.py` says how to get them), and networks for segmentation, detection,
text, sound and MLPerf Tiny written here in plain torch. Each gets other numbers than layers begin with. Then it is
traced, and its graph runs beside it; a space and a supernet are made of it, whose largest network must be the given
one; random sub-networks run, are extracted and written to files, which a runtime must compute as torch does, in fp32
and in int8 (calibrated on noise: it is the arithmetic that is compared, not an accuracy). What fails stands in the
result with the step and the reason.

Of int8, `verified` counts networks whose files give torch's outputs to four steps of their scale, or are no further
from fp32 than torch's int8 is by a quarter: in networks of many layers of noise, a number that two programs round to
different sides moves others, up to what int8 costs by itself. How many keep the four steps throughout, and how many
give 95 % of outputs to the step, as the exporters' own tests ask of small networks, stands beside it (`strictly`).
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from _adapt_networks import Network, chosen, own_networks, timm_networks, trained_networks
from _adapt_sweep import EQUAL, Sweep
from _adapt_targets import FORMATS, FP32, INT8_ERROR, INT8_STEPS, Target
from _common import Benchmark, Figure, script
from _timm import HOW, find_timm

from hwnas.errors import ConfigError

SMOKE = ("mlperf_resnet8", "text_encoder")
IDENTICAL = 0.95  # of outputs: what exporters are held to, of networks of a few layers


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="TEXT", default="", help="networks whose names or families hold this text")
    parser.add_argument("--families", metavar="NAME", nargs="+", default=[], help="only these, as they are written")
    parser.add_argument("--timm", type=Path, metavar="FOLDER", help="that timm was installed into; see _timm.py")
    parser.add_argument(
        "--resnet8", type=Path, metavar="FILE", help="weights of MLPerf Tiny's ResNet8, to try it trained"
    )
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=["onnxruntime"], help="runtimes to try")
    parser.add_argument("--subnetworks", type=int, metavar="N", default=5, help="random ones of each network (5)")
    parser.add_argument("--limit-s", type=float, metavar="SECONDS", default=300.0, help="for each network (300)")
    parser.add_argument("--kept", type=Path, metavar="FILE", help="rows that are there already, and grow")
    parser.add_argument("--table", type=Path, metavar="FILE", help="a table by family in Markdown")
    bench = Benchmark("adapt_zoo", parser, argv)
    subnetworks = 1 if bench.smoke else bench.options.subnetworks
    targets = [Target.of(name) for name in bench.options.formats]
    settings = {"formats": list(bench.options.formats), "subnetworks": subnetworks}
    rows, kept = [], _Kept(bench.options.kept, {"formats": settings["formats"]})
    for network in _networks(bench):
        row = kept.row(network.name, subnetworks=subnetworks)
        if row is None:
            row = finite(Sweep(network, targets, subnetworks=subnetworks).run(limit_s=bench.options.limit_s))
            kept.add(row)
        rows.append(row)
        told = "; ".join(f"{f['stage']}: {f['reason']}" for f in row["failures"])
        bench.console.note(f"{network.name}: {row['seconds']} s; {told or 'all is well'}")
    if bench.options.table is not None:
        bench.options.table.write_text("\n".join(table(rows, bench.options.formats)) + "\n", encoding="utf-8")
    allowed = {"equal": EQUAL, "fp32": FP32, "int8_steps": INT8_STEPS, "int8_error": INT8_ERROR}
    details = {**settings, "allowed": allowed, "stages": stages(rows), "networks": rows}
    return bench.publish(figures(rows, bench.options.formats), details=details)


def _networks(bench: Benchmark) -> list[Network]:
    """What is tried.

    Raises:
        ConfigError: nothing is left.
    """
    options = bench.options
    networks = own_networks()
    if options.resnet8 is not None:
        networks += trained_networks(options.resnet8)
    if bench.smoke:
        networks = [n for n in networks if n.name in SMOKE]
    elif (timm := find_timm(options.timm)) is not None:
        networks += timm_networks(timm)
    else:
        bench.console.note(f"timm is not at hand: only networks written here are tried ({HOW})")
    networks = chosen(networks, options.only)
    known = sorted({n.family for n in networks})
    if unknown := [f for f in options.families if f not in known]:
        raise ConfigError(f"there is no family {unknown[0]!r} among the networks; there are: {', '.join(known)}")
    networks = [n for n in networks if not options.families or n.family in options.families]
    if not networks:
        raise ConfigError(f"no network here has {options.only!r} in its name or family")
    return networks


class _Kept:
    """Rows in a file, one a line, behind a first line that says how they came about; of one network the last counts.

    Raises:
        ConfigError: it holds rows of a sweep with other options.
    """

    def __init__(self, path: Path | None, settings: Mapping[str, Any]) -> None:
        self._path = path
        self._rows: dict[str, dict[str, Any]] = {}
        if path is None:
            return
        if not path.exists():
            self._append(settings)
            return
        first, *lines = path.read_text(encoding="utf-8").splitlines()
        if json.loads(first) != settings:
            raise ConfigError(f"{path} holds rows of a sweep with {first}; give another file, or the same options")
        for line in lines:
            row = finite(json.loads(line))
            self._rows[row["name"]] = row

    def row(self, name: str, *, subnetworks: int) -> dict[str, Any] | None:
        """What is known of a network, if at least so many of its sub-networks were tried, or none can be."""
        row = self._rows.get(name)
        return row if row is not None and (row["subnetworks"] >= subnetworks or not row["elastic"]) else None

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep one more."""
        if self._path is not None:
            self._append(row)

    def _append(self, value: Mapping[str, Any]) -> None:
        assert self._path is not None
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(f"{json.dumps(value)}\n")


def finite(value: Any) -> Any:
    """JSON values with None for numbers that JSON has no word for: those that are not finite."""
    if isinstance(value, Mapping):
        return {key: finite(of_key) for key, of_key in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def stages(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Step -> how many networks failed there."""
    return dict(Counter(stage for row in rows for stage in {f["stage"] for f in row["failures"]}))


def table(rows: Sequence[Mapping[str, Any]], formats: Sequence[str]) -> list[str]:
    """Lines of Markdown, one a family: how many networks came how far."""
    columns = [(name, p) for name in formats for p in rows[0]["verified"][name]]
    head = ["family", "networks", "elastic", *(f"{name} {p}" for name, p in columns), "smaller networks", "seconds"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for family in dict.fromkeys(row["family"] for row in rows):
        members = [row for row in rows if row["family"] == family]
        elastic = [row for row in members if row["elastic"]]
        counts = [sum(row["verified"][name][p] for row in members) for name, p in columns]
        powers = sorted(int(math.log10(row["networks"])) for row in elastic)
        span = dict.fromkeys([powers[0], powers[-1]] if powers else [])
        seconds = f"{median(row['elastic_s'] for row in elastic):.1f}" if elastic else ""
        cells = [family, len(members), len(elastic), *counts, " to ".join(f"10^{n}" for n in span), seconds]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def within_steps(run: Mapping[str, Any]) -> bool:
    """Whether no int8 output is more than INT8_STEPS steps of its scale from torch's; not known of compiled files."""
    steps = run.get("steps")  # None where an output is no number
    return steps is not None and bool(steps <= INT8_STEPS + 0.01)


def identical(run: Mapping[str, Any]) -> bool:
    """Whether IDENTICAL of the outputs are torch's to the step as well."""
    return within_steps(run) and bool(run["identical"] >= IDENTICAL)


def figures(rows: Sequence[Mapping[str, Any]], formats: Sequence[str]) -> list[Figure]:
    """What the rows show."""
    times = [row["trace_s"] for row in rows if "trace_s" in row]
    elastic = [row for row in rows if row["elastic"]]
    equal = [row for row in rows if row["equal"]]
    found = [
        Figure(name="networks", value=len(rows)),
        Figure(name="families", value=len({row["family"] for row in rows})),
        Figure(name="traced", value=sum(row["traced"] for row in rows), at_least=40),
        Figure(name="equal_as_graphs", value=len(equal), at_least=len(rows)),
        Figure(name="equal_to_the_bit", value=sum(row["max_abs_diff"] == 0.0 for row in equal)),
        Figure(name="elastic", value=len(elastic), at_least=40),
        Figure(name="largest_equal", value=sum(row["largest_equal"] for row in rows), at_least=len(elastic)),
        Figure(name="trace_s_median", value=median(times) if times else None),
        Figure(
            name="elastic_s_median", value=median(row["elastic_s"] for row in elastic) if elastic else None, at_most=5
        ),
        Figure(name="elastic_cpu_s_median", value=median(row["elastic_cpu_s"] for row in elastic) if elastic else None),
        Figure(name="elastic_s_max", value=max((row["elastic_s"] for row in elastic), default=None)),
    ]
    asked = {"onnxruntime": {"fp32": 36, "int8": 32}}  # how many networks are to be verified
    for name in formats:
        for precision in ("fp32", "int8"):
            tried = [row["verified"][name][precision] for row in elastic if precision in row["verified"][name]]
            if tried:
                least = asked.get(name, {}).get(precision)
                found.append(Figure(name=f"verified_{name}_{precision}", value=sum(tried), at_least=least))
        for rule, kept in (("steps", within_steps), ("identical", identical)):  # what exporters' own tests ask for
            runs = [[r for r in row.get("runs", ()) if (r["target"], r["as"]) == (name, "int8")] for row in elastic]
            if any(runs):
                value = sum(bool(of_one) and all(map(kept, of_one)) for of_one in runs)
                found.append(Figure(name=f"strictly_{name}_int8_{rule}", value=value))
    return [*found, Figure(name="networks_with_failures", value=sum(bool(row["failures"]) for row in rows))]


if __name__ == "__main__":
    script(main)
