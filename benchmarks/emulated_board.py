"""`hwnas run` for a Raspberry Pi that QEMU plays, over SSH to this machine, then `hwnas verify --device`.

Correctness only: agent, transport, runtime and Arm kernels are real, no time means anything, and what was measured
says so. Needs the board (`python -m tests.emulated.board` makes it), root, sshd and ssh. `--smoke` changes nothing:
it is tiny anyway.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _common import ROOT, SMOKE, Benchmark, Figure, children_cpu_s, hwnas, script

from hwnas.errors import HwnasError

if TYPE_CHECKING:
    from hwnas.types import Array

_EMULATED = "emulated: correctness only"
_TINY = {
    **SMOKE,
    "space.kernel_sizes": [3],
    "space.width_mults": [1.0],
    "profile.rounds": 3,
    "search.n_trials": 4,
    "limits.latency_fraction": None,
    "limits.size_bytes": 1e5,  # of no time anything can be asked
    "deploy.finetune_steps": 0,
    "deploy.candidates": 1,
    "deploy.test_samples": 20,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    bench = Benchmark("emulated_board", argparse.ArgumentParser(description=__doc__), argv)
    sys.path.insert(0, str(ROOT))  # the board and the server are made with the tests' means
    from tests.emulated.board import CannotEmulateError, cache_folder, describe, emulated_python
    from tests.measure.ssh_server import SSHD, loopback_server

    try:
        python = emulated_python(cache_folder(), make=True)
    except CannotEmulateError as e:
        raise HwnasError(f"no emulated board: {e}") from e
    if SSHD is None or os.geteuid() != 0:
        raise HwnasError("an SSH server of one's own needs root and sshd")
    home = os.environ.get("HOME")
    with tempfile.TemporaryDirectory(prefix="hwnas-emulated-") as temporary:
        folder = Path(temporary)
        os.environ["HOME"] = temporary  # where a configuration of ssh may be
        try:
            with loopback_server(folder):
                figures, details = _try(folder, describe(folder, python, runtime="onnxruntime"))
        finally:
            os.environ.pop("HOME") if home is None else os.environ.update(HOME=home)
    return bench.publish(figures, details=details)


def _try(folder: Path, description: Path) -> tuple[list[Figure], dict[str, Any]]:
    """The way of a user, then the deployed file on both processors."""
    from hwnas.config import Config

    config = Config().replaced({**_TINY, "device.name": str(description), "output.folder": str(folder / "run")})
    (folder / "config.toml").write_text(config.to_toml())
    began = children_cpu_s()
    status, said = hwnas("run", folder / "config.toml")
    if status:
        raise HwnasError(f"hwnas run ended with {status}: {said.get('error', {}).get('message', '')}")
    (deployment,) = (path for path in (folder / "run/deployments").iterdir() if path.is_dir())
    verified, found = hwnas("verify", deployment, "--device", str(description))
    seconds = children_cpu_s() - began
    manifest = json.loads((deployment / "manifest.json").read_text())
    outputs = _outputs(deployment, description)
    there = outputs["board"]
    context = manifest["device"]["context"]
    figures = [
        Figure(name="run_status", value=status, at_most=0),
        Figure(name="verify_status", value=verified, at_most=0),
        Figure(name="marked_as_emulated", value=int(manifest["measured"]["source"] == _EMULATED), at_least=1),
        Figure(name="verify_says_emulated", value=int(found.get("source") == _EMULATED), at_least=1),
        Figure(name="same_board_when_verified", value=int(found.get("same_context", False)), at_least=1),
        Figure(name="equal_predictions_when_verified", value=found.get("top1_agreement"), at_least=1),
        Figure(name="outputs", value=there.size),
        Figure(name="other_bits_than_x86_with_whole_sums", value=int((there != outputs["whole"]).sum()), at_most=0),
        Figure(name="other_bits_than_x86_as_it_is", value=int((there != outputs["as it is"]).sum())),
        Figure(name="other_bits_than_torch", value=int((there != outputs["torch"]).sum())),
        Figure(name="cpu_s_of_commands_here", value=round(seconds, 1)),
    ]
    told = {key: context.get(key) for key in ("hardware", "machine", "runtime_version", "source")}
    return figures, {"board": told, "precision": manifest["precision"], "blocks": manifest["blocks"]}


def _outputs(deployment: Path, description: Path) -> dict[str, Array]:
    """Logits of the deployed file for its own samples: the board's, torch's, and this processor's in two ways.

    An x86 processor without VNNI saturates sums of 8-bit weights. ONNX Runtime has slower kernels that add in 32 bits
    there, and those are compared bit by bit; beside them the default ones.
    """
    import onnxruntime as ort

    from hwnas.deployment import Manifest, Samples, checked_artefact
    from hwnas.devices import load_device
    from hwnas.measure import Worker

    manifest = Manifest.read(deployment)
    artefact = checked_artefact(deployment, manifest.artefact, precision=manifest.precision)
    samples = Samples.read(deployment, raw=manifest.is_sealed)
    with Worker(load_device(description)) as board:
        found = {"board": board.predict(artefact, samples.inputs), "torch": samples.outputs}
    for name, whole_sums in (("as it is", "0"), ("whole", "1")):
        options = ort.SessionOptions()
        options.add_session_config_entry("session.x64quantprecision", whole_sums)
        session = ort.InferenceSession(str(artefact.path), options, providers=["CPUExecutionProvider"])
        (found[name],) = session.run(None, {session.get_inputs()[0].name: samples.inputs})
    return found


if __name__ == "__main__":
    script(main)
