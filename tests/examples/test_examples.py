"""Each script of `examples/` runs, and prints what it promises; in a process of its own, as small as it can be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hwnas.deployment import Manifest
from hwnas.search import load_study

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


def run(name: str, folder: Path) -> str:
    """What a script prints that writes to `folder / "run"`, in seconds."""
    command = [sys.executable, str(EXAMPLES / name), "--output", "run", "--tiny"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr
    return done.stdout


def deployed(printed: str, folder: Path) -> Manifest:
    """The manifest of the deployment that a script names, which was started in a folder."""
    (named,) = re.findall(r"the deployment is (.+)", printed)
    return Manifest.read(folder / named)


def promised(manifest: Manifest) -> str:
    """How scripts tell a latency and the limit on it."""
    limit = manifest.limits["latency_ms"]
    assert manifest.measured.latency_ms.minimum <= limit
    return f"latency {manifest.measured.latency_ms.minimum:.4f} ms, limit {limit:.4f} ms"


# ---------------------------------------------------------------- what each promises


def test_a_network_of_ones_own_is_adapted_deployed_and_used(tmp_path: Path) -> None:
    printed = run("adapt_own_network.py", tmp_path)
    manifest = deployed(printed, tmp_path)
    assert manifest.space == "ResNet"
    assert f"accuracy {manifest.accuracy.test_runtime:.1%}, {promised(manifest)}" in printed
    assert re.search(r"^given network: accuracy \d+\.\d%$", printed, re.MULTILINE)
    assert re.search(r"^a \d is taken for a \d;", printed, re.MULTILINE)


def test_a_run_that_is_made_first_is_asked_about_budgets(tmp_path: Path) -> None:
    printed = run("query_in_python.py", tmp_path)
    study = load_study(tmp_path / "run" / "search" / "study.safetensors")
    rows = printed[printed.index("     within") :].splitlines()[1:7]
    assert "raise the limit" in rows[0]
    found = [re.fullmatch(r" *(.+?) ms +(.+?) ± .+ +(.+?) ms +.+ kB +(\d+)", row) for row in rows[1:]]
    for each in found:
        assert each is not None
        budget, accuracy, at_most, number = each.groups()
        trial = next(t for t in study.trials if t.number == int(number))
        assert float(at_most) == pytest.approx(trial.upper["latency_ms"], abs=1e-4)
        assert float(at_most) <= float(budget) + 1e-4
        assert accuracy == f"{trial.values['accuracy']:.1%}"
    assert "stages.0.depth = " in printed


def test_a_server_is_started_asked_and_stopped(tmp_path: Path) -> None:
    printed = run("serve_client.py", tmp_path)
    lines = printed[printed.index("serving on") :].splitlines()
    assert re.fullmatch(r"serving on http://127\.0\.0\.1:\d+/", lines[0])
    assert re.fullmatch(r"fake: \d+ networks, .+ to .+", lines[1])
    assert re.fullmatch(r"within .+ ms: .+\s%.*; at most .+\. Trial \d+ has .+", lines[2])
    assert "no network of the study keeps latency_ms <= " in lines[3]
    assert lines[4:] == ["stopped"]


def test_a_server_that_does_not_start_ends_the_script(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "serve_client.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "the server did not start"


def test_masks_are_learned_and_predicted(tmp_path: Path) -> None:
    printed = run("segmentation.py", tmp_path)
    manifest = deployed(printed, tmp_path)
    assert (manifest.space, manifest.accuracy.metric) == ("segment-tiny", "mean_iou")
    assert f"mean IoU {manifest.accuracy.test_runtime:.1%}, {promised(manifest)}" in printed
    assert re.findall(r"^ *(\w+): \d+ of \d+ pixels found$", printed, re.MULTILINE) == ["ground", "disc", "square"]
    rows = printed[printed.index("predicted ") :].splitlines()[1:17]
    assert all(re.fullmatch(r"[ o#]{32}  [ o#]{32}", row) for row in rows)
    assert {*"o#"} & {*"".join(row[34:] for row in rows)}  # the true mask is not empty


def test_words_are_heard(tmp_path: Path) -> None:
    printed = run("keyword_spotting.py", tmp_path)
    manifest = deployed(printed, tmp_path)
    assert (manifest.space, manifest.input.shape) == ("conv1d-keyword", (40, 101))
    assert f"accuracy {manifest.accuracy.test_runtime:.1%}, {promised(manifest)}" in printed
    words = re.findall(r"^ *(\w+): heard as (\w+), score 0\.\d\d$", printed, re.MULTILINE)
    assert [word for word, _ in words] == list(manifest.classes) == ["rise", "fall", "stay", "waver"]
    assert {heard for _, heard in words} <= set(manifest.classes)


def test_a_block_of_ones_own_is_profiled_and_searched(tmp_path: Path) -> None:
    printed = run("own_block.py", tmp_path)
    study = load_study(tmp_path / "run" / "run" / "search" / "study.safetensors")
    assert study.space_name == "two-ways"
    assert re.search(rf"^[\d,]+ networks, {len(study)} evaluated; the front:$", printed, re.MULTILINE)
    trials = re.findall(r"^trial (\d+): \d+\.\d%, \d\.\d{4} ms$", printed, re.MULTILINE)
    assert sorted(map(int, trials)) == sorted(trial.number for trial in study.front())
    table = tmp_path / "run" / "run" / "latency_tables" / "fake" / "fake-fp32.jsonl"
    assert "two-ways|" in table.read_text()


# ---------------------------------------------------------------- what all promise


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_uses_only_public_names_of_hwnas(script: Path) -> None:
    private = [
        name
        for node in ast.walk(ast.parse(script.read_text()))
        if isinstance(node, ast.ImportFrom | ast.Import)
        for name in (*(a.name for a in node.names), getattr(node, "module", None) or "")
        if "._" in f".{name}" and name != "__future__"
    ]
    assert private == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_opens_with_what_it_shows_how_it_is_called_and_what_it_prints(script: Path) -> None:
    text = ast.get_docstring(ast.parse(script.read_text())) or ""
    assert re.search(rf"^    python examples/{script.name} .*\[--output FOLDER\] \[--tiny\]$", text, re.MULTILINE)
    assert "takes" in text
    assert "prints" in text


def test_the_table_names_every_example() -> None:
    named = re.findall(r"\]\(([\w/]+\.(?:py|cpp|hpp|kt))\)", (EXAMPLES / "README.md").read_text())
    files = [path for path in EXAMPLES.rglob("*") if path.suffix in (".py", ".cpp", ".hpp", ".kt")]
    assert sorted(named) == sorted(path.relative_to(EXAMPLES).as_posix() for path in files)
