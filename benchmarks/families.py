"""One supernet of each other family, trained on real data and deployed within 30, 50 and 80 % of its largest latency.

Residual networks on CIFAR-10, vision transformers on Fashion-MNIST, 1-D networks on sensor series split by person, as
`families_<name>.toml` has them. Goes on from what it finds in the run's folder; `parity.py RUN_FOLDER` then holds
networks with the trained weights against torch on each runtime.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from _common import SMOKE, Benchmark, script
from _whole_way import deploy, forget, train_and_search

from hwnas.config import load_config

FAMILIES = ("resnet", "transformer", "series")
BUDGETS = (0.3, 0.5, 0.8)  # shares of the largest fp32 network's latency


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=FAMILIES, nargs="?", help="which one (resnet)", default="resnet")
    parser.add_argument("--data", metavar="SOURCE", help="as [data] source has it; as the configuration if left out")
    parser.add_argument("--output", metavar="FOLDER", help="of the run; as the configuration has it if left out")
    parser.add_argument("--fresh", action="store_true", help="delete what the run's folder holds and train anew")
    bench = Benchmark("families", parser, argv)
    family = bench.options.family
    if bench.options.name is None and not bench.smoke:
        bench.name = f"families_{family}"
    config = load_config(Path(__file__).with_name(f"families_{family}.toml"))
    with tempfile.TemporaryDirectory(prefix="hwnas-families-") as temporary:
        if bench.smoke:
            limits = {"limits.latency_fraction": None}
            config = config.replaced({**SMOKE, **limits, "output.folder": f"{temporary}/run"})
        asked = {"data.source": bench.options.data, "output.folder": bench.options.output}
        config = config.replaced({key: value for key, value in asked.items() if value})
        if bench.options.fresh:
            forget(Path(config.output.folder))
        trained = train_and_search(config, console=bench.console)
        # the simulated networks are not that small
        shares = {1.3: 1.3} if bench.smoke else {b: b for b in BUDGETS}
        figures, manifests = deploy(config, shares=shares, targets=dict.fromkeys(shares), console=bench.console)
    return bench.publish([*trained.figures, *figures], details={**trained.details, "deployments": manifests})


if __name__ == "__main__":
    script(main)
