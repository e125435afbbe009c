"""Fashion-MNIST, the whole way: one supernet, three budgets, three int8 deployments, and the README's picture.

Goes on from what it finds in the run's folder, so training may be interrupted. Knows the pipeline's stages and
their results, nothing below them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

from _common import ROOT, SMOKE, Benchmark, script
from _whole_way import deploy, forget, train_and_search

from hwnas.config import Config, load_config

CONFIG = Path(__file__).with_suffix(".toml")
PICTURE = ROOT / "docs" / "images" / "front.png"
BUDGETS = {0.3: 88.0, 0.5: 90.0, 0.8: 91.0}  # share of the largest fp32 network's latency -> test accuracy, percent


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", metavar="FOLDER", help="of the run; as the configuration has it if left out")
    parser.add_argument("--fresh", action="store_true", help="delete what the run's folder holds and train anew")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="the front as PNG (docs/images/front.png)")
    bench = Benchmark("fashion_mnist", parser, argv)
    with contextlib.ExitStack() as stack:
        config = load_config(CONFIG)
        picture: Path = bench.options.picture or PICTURE
        if bench.smoke:
            temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="hwnas-fashion-"))
            limits = {"limits.latency_fraction": None}
            config = config.replaced({**SMOKE, **limits, "output.folder": f"{temporary}/run"})
            picture = bench.options.picture or Path(temporary, "front.png")
        if bench.options.output:
            config = config.replaced({"output.folder": bench.options.output})
        if bench.options.fresh:
            forget(Path(config.output.folder))
        return _whole_way(bench, config, picture)


def _whole_way(bench: Benchmark, config: Config, picture: Path) -> int:
    trained = train_and_search(config, console=bench.console)
    draw_front(Path(config.output.folder), picture, title=f"Fashion-MNIST, {config.space.preset}, int8")
    # the simulated networks are not that small
    shares = {b: b if not bench.smoke else 1.0 + b for b in list(BUDGETS)[: 1 if bench.smoke else None]}
    figures, manifests = deploy(config, shares=shares, targets=BUDGETS, console=bench.console)
    return bench.publish([*trained.figures, *figures], details={**trained.details, "deployments": manifests})


def draw_front(folder: Path, path: Path, *, title: str) -> None:
    """Write the front of a run's study as a PNG of 1000 pixels' width, the same bytes for the same study."""
    from hwnas.files import write_whole
    from hwnas.report import front_figure
    from hwnas.search import load_study

    figure = front_figure(load_study(folder / "search" / "study.safetensors"), title=title)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=200, metadata={"Software": None})
    write_whole(path, image.getvalue())


if __name__ == "__main__":
    script(main)
