"""What an attacker's files and boards achieve: hostile inputs of every kind, each tried in a sandbox that is watched.

An input is refused as it should be if nothing of it ran, nothing outside was read or written, and the answer is one
line with the status of wrong input, in bounded time and memory. Knows the sandbox and the list of inputs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from _common import SMOKE, Benchmark, Figure, hwnas, script

from hwnas.errors import HwnasError

# networks that learned nothing have near ties, which int8 may decide otherwise
_EXACT = {"space.precisions": ["fp32"], "limits.latency_fraction": 1.0}
_SMOKE_EVERY = 12  # one of so many


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "deployment", type=Path, nargs="?", metavar="DEPLOYMENT", help="to alter copies of; a tiny one, made first"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="inputs whose kind or name contains this")
    bench = Benchmark("attacks", parser, argv)
    with tempfile.TemporaryDirectory(prefix="hwnas-attacks-") as folder:
        root = Path(folder)
        return _tried(bench, root, bench.options.deployment or _deployed(root))


def _deployed(root: Path) -> Path:
    """A tiny deployment."""
    sets = [f"--set={key}={json.dumps(value)}" for key, value in {**SMOKE, **_EXACT}.items()]
    status, result = hwnas("run", *sets, "--output", str(root / "run"), cwd=root)
    if status:
        raise HwnasError(f"hwnas run ended with status {status}; its messages are above")
    return Path(result["deployment"])


def _tried(bench: Benchmark, root: Path, deployment: Path) -> int:
    from _attacks import all_attacks, readers
    from _sandbox import Sandbox

    import hwnas.cli  # noqa: F401
    import hwnas.data  # noqa: F401
    import hwnas.pipeline  # noqa: F401  before the attempts are forked off, which would each import it
    from hwnas.testing import lying

    readers()
    (root / "sandbox").mkdir()
    sandbox = Sandbox(root / "sandbox")
    sandbox.board(lying.__file__)
    only = bench.options.only
    attacks = [a for a in all_attacks(deployment) if only in f"{a.kind}: {a.name}"]
    attacks = attacks[::_SMOKE_EVERY] if bench.smoke else attacks
    failed: dict[str, list[str]] = {}
    kinds: Counter[str] = Counter()
    slowest_s = largest_mb = 0.0
    said = {}
    with bench.console.progress("attacks") as progress:
        for i, attack in enumerate(attacks):
            name = f"{attack.kind}: {attack.name}"
            outcome = sandbox.attempt(attack)
            kinds[attack.kind] += 1
            said[name] = outcome.said.strip()
            slowest_s, largest_mb = max(slowest_s, outcome.seconds), max(largest_mb, outcome.memory_mb)
            if outcome.problems:
                failed[name] = list(outcome.problems)
                bench.console.warn(f"{name}: {'; '.join(outcome.problems)}")
            progress(i + 1, len(attacks), attack.kind)
    return bench.publish(
        [
            Figure(name="attacks", value=len(attacks), at_least=1 if bench.smoke or only else 100),
            Figure(name="failures", value=len(failed), at_most=0),
            *(Figure(name=f"{kind}_attacks", value=n) for kind, n in kinds.items()),
            Figure(name="slowest_s", value=round(slowest_s, 1), at_most=15),
            Figure(name="largest_mb", value=round(largest_mb), at_most=1024),
        ],
        details={"failures": failed, "said": said},
    )


if __name__ == "__main__":
    script(main)
