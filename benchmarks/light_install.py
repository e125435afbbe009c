"""hwnas-light in empty environments, one for each Python: its size, what works in it, what tells that it needs more.

Makes the wheel, a tiny run with it all installed, and for each interpreter a virtual environment with
`hwnas-light[serve]` from the package index. With `--smoke` nothing is installed: what is left out cannot be imported.
Knows commands and what they end with, nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _common import ROOT, Benchmark, Figure, script

from hwnas.errors import HwnasError

_MOST_MB = 300
# what follows `hwnas`; {run}, {deployment} and {folder} are put in
_WORKING = (
    *("query {run}", "query {run} --device cpu", "query {run} --json --top 3", "verify {deployment}", "devices"),
    *(
        "devices show cpu",
        "devices new mine --yes --force --like cpu --output {folder}/devices",
        "spaces",
        "spaces mobilenet-tiny",
    ),
    *("zoo", "zoo show cifar10-mobilenet", "doctor", "agent --write {folder}/agent.pyz"),
)
_NEEDING_MORE = (
    *("run {run}", "train {run}", "profile {run}", "search {run}", "search {run} --exact", "export {run}"),
    *(
        "report {run}",
        "predict {run}",
        "query {run} --predicted 1",
        "query {run} --measured",
        "zoo pack {run} {folder}/zoo",
    ),
    *("devices audit cpu --output {folder}/audit", "adapt onnx:net.onnx --output {folder}/adapted"),
)
_TELLS = re.compile(
    r"^error: hwnas [a-z ]+ needs the package '.+', which is not installed; install it with: pip install "
)
_PREDICTS = """\
import sys, numpy, hwnas.deployment
with hwnas.deployment.load(sys.argv[1]) as network:
    print(network.predict(numpy.zeros((8, 8), numpy.uint8)).class_name)
"""
_COMMAND = "from hwnas.cli import main; main()"
_MODULES = {"scikit-learn": "sklearn"}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where hwnas-light is.

    Attributes:
        python: the interpreter.
        before: code that is run first.
        size_mb: of all that is installed there; 0 where nothing was.
    """

    python: Path
    before: str = ""
    size_mb: float = 0.0

    @property
    def environ(self) -> dict[str, str]:
        """The environment of its processes: where something is installed, no other modules are found first."""
        return {key: value for key, value in os.environ.items() if self.before or key != "PYTHONPATH"}

    def starting(self, code: str, *arguments: str) -> list[str]:
        """The command line that runs some code."""
        return [str(self.python), "-c", self.before + code, *arguments]

    def ended(self, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run some code to its end."""
        return subprocess.run(
            self.starting(code, *arguments),
            capture_output=True,
            text=True,
            check=False,
            cwd=tempfile.gettempdir(),
            env=self.environ,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pythons", nargs="+", default=[sys.executable], metavar="PYTHON", help="interpreters")
    bench = Benchmark("light_install", parser, argv)
    figures, details = [], {}
    most = 2 if bench.smoke else None  # commands: the tests have the others
    with tempfile.TemporaryDirectory(prefix="hwnas-light-") as name:
        folder = Path(name)
        _make_run(folder)
        for place in [_blocked()] if bench.smoke else _environments(folder, bench.options.pythons):
            version = place.ended("import platform; print(platform.python_version())").stdout.strip()
            bench.console.note(f"Python {version}")
            working, needing_more = _tried(place, _WORKING[:most], folder), _tried(place, _NEEDING_MORE[:most], folder)
            works = [status == 0 for status, _ in working.values()] + [_predicts(place, folder), _serves(place, folder)]
            tells = [status == 2 and bool(_TELLS.match(last)) for status, last in needing_more.values()]
            figures += [
                Figure(name=f"size_mb_python_{version}", value=place.size_mb, at_most=_MOST_MB),
                Figure(name=f"ways_that_work_python_{version}", value=sum(works), at_least=len(works)),
                Figure(
                    name=f"commands_that_say_what_they_need_python_{version}", value=sum(tells), at_least=len(tells)
                ),
            ]
            details[version] = {
                each: {"status": status, "last_line": last}
                for each, (status, last) in {**working, **needing_more}.items()
            }
    return bench.publish(figures, details=details)


def _make_run(folder: Path) -> None:
    """A finished run of digits that are in a file, so that who answers budgets needs no scikit-learn."""
    from hwnas import pipeline
    from hwnas._console import Console
    from hwnas.data.sources import digits
    from hwnas.testing.run import tiny_config

    images, labels = digits("", options={}).train
    np.savez(folder / "digits.npz", x_train=images, y_train=np.asarray(labels))
    # one precision: half the blocks, and nothing here depends on it
    changes = {"data.source": f"npz:{folder / 'digits.npz'}", "device.name": "cpu", "space.precisions": ["fp32"]}
    pipeline.run_all(tiny_config(folder / "run", changes), console=Console())


def _blocked() -> Place:
    """The interpreter of this program, as if what hwnas-light leaves out were not there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    names = [re.split(r"\W*[<>=]", each, maxsplit=1)[0] for each in project["project"]["dependencies"]]
    absent = [_MODULES.get(n, n) for n in names if n not in project["tool"]["hwnas"]["light"]["dependencies"]]
    return Place(python=Path(sys.executable), before=f"import sys; sys.modules.update(dict.fromkeys({absent!r})); ")


def _environments(folder: Path, pythons: Sequence[str]) -> Iterator[Place]:
    """An environment for each interpreter.

    Raises:
        HwnasError: nothing can be installed there; says what pip said.
    """
    _done([sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT / "light")])
    (wheel,) = folder.glob("*.whl")
    for i, python in enumerate(pythons):
        home = folder / f"environment{i}"
        _done([python, "-m", "venv", str(home)])
        own = home / "bin" / "python"
        _done([str(own), "-m", "pip", "install", f"{wheel}[serve]"])
        size = sum(path.lstat().st_size for path in (home / "lib").rglob("*") if path.is_file())
        yield Place(python=own, size_mb=round(size / 1e6, 1))


def _done(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HwnasError(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr.strip()}")


def _deployment(folder: Path) -> str:
    (found,) = (folder / "run" / "deployments").glob("*/")
    return str(found)


def _tried(place: Place, commands: Sequence[str], folder: Path) -> dict[str, tuple[int, str]]:
    """Command -> its exit status and the last line that it said on standard error."""
    found = {}
    for command in commands:
        words = command.format(run=folder / "run", deployment=_deployment(folder), folder=folder).split()
        done = place.ended(_COMMAND, *words)
        found[command] = done.returncode, "\n".join(done.stderr.splitlines()[-1:])
    return found


def _predicts(place: Place, folder: Path) -> bool:
    """Whether a deployment names the class of an image."""
    done = place.ended(_PREDICTS, _deployment(folder))
    return done.returncode == 0 and done.stdout.strip().isdigit()


def _serves(place: Place, folder: Path) -> bool:
    """Whether a server of the run answers a budget."""
    starting = place.starting(_COMMAND, "serve", str(folder / "run"), "--port", "0")
    with subprocess.Popen(starting, stderr=subprocess.PIPE, text=True, env=place.environ) as server:
        try:
            assert server.stderr is not None
            said = next((m for line in server.stderr if (m := re.search(r"serving on (http://\S+)/", line))), None)
            if said is None:
                return False
            question = json.dumps({"device": "cpu", "limits": {"latency_ms": 1000}}).encode()
            asked = urllib.request.Request(
                f"{said[1]}/api/query", data=question, headers={"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return bool(json.load(answer)["answers"])
        finally:
            server.terminate()


if __name__ == "__main__":
    script(main)
