"""The benchmark programs: every one explains itself, and runs in seconds with `--smoke`."""

from __future__ import annotations

import importlib
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from hwnas._arguments import changes
from hwnas.cli import app
from hwnas.config import Config, load_config
from hwnas.errors import ConfigError, HwnasError, SpaceError
from tests.once import made_once
from tests.runs import FinishedRun

FOLDER = Path(__file__).parents[1] / "benchmarks"
PROGRAMS = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
ON_A_RUN = ("budgets", "new_device", "parity", "runtimes", "zero_cost")
ON_A_DEPLOYMENT = ("attacks",)
# `quickstart` starts a process for its command by the same function; here more commands would load torch again, and its
# imports take longer than what is tried
IN_THIS_PROCESS = ("adapt_first_file", "budgets", "new_device")
ON_A_TABLE = (
    "families",
    "fashion_mnist",
    "preprocessing",
    "quickstart",
    "runtimes",
)  # they profile, but not to see how
MINUTES = ("emulated_board",)  # an emulated processor has no smaller run; tests/emulated tries the same board in parts


@pytest.fixture(scope="module")
def on_path() -> Iterator[None]:
    """The folder of a program is where its imports are looked for first, as when it is started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield
        for name in (*PROGRAMS, "_common"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def common(on_path: None) -> ModuleType:
    return importlib.import_module("_common")


@pytest.fixture(scope="module")
def smoke_run(common: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "smoke", common.make_smoke_run)


def command_in_this_process(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
    """What `_common.hwnas` gives, without a process that loads torch anew."""
    ended = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    return ended.exit_code, json.loads(ended.stdout) if ended.stdout.strip() else {}


# ---------------------------------------------------------------- every program


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_explains_itself(name: str, on_path: None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(name).main(["--help"])
    assert ended.value.code == 0
    assert "--smoke" in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name not in MINUTES])
def test_it_runs_in_seconds_and_writes_its_figures(
    name: str, on_path: None, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    if name in IN_THIS_PROCESS:
        monkeypatch.setattr(importlib.import_module(name), "hwnas", command_in_this_process)
    if name in ON_A_TABLE:
        tables = shutil.copytree(request.getfixturevalue("smoke_run") / "latency_tables", tmp_path / "tables")
        monkeypatch.setitem(importlib.import_module("_common").SMOKE, "profile.tables", str(tables))
    if name in ON_A_RUN:
        given = [str(request.getfixturevalue("smoke_run"))]
    elif name in ON_A_DEPLOYMENT:
        finished: FinishedRun = request.getfixturevalue("finished")
        given = [str(finished.deployment)]
    assert importlib.import_module(name).main([*given, "--smoke", "--results", str(tmp_path)]) == 0
    result = json.loads((tmp_path / f"{name}.json").read_text())
    assert result["smoke"] is True
    assert result["command"].startswith(f"python benchmarks/{name}.py")
    assert result["machine"]["processor"]
    assert result["machine"]["packages"]["torch"]
    assert result["figures"]
    assert all(math.isfinite(figure["value"]) for figure in result["figures"].values())


def test_parity_of_a_space_needs_no_run(on_path: None, tmp_path: Path) -> None:
    arguments = ["--space", "test-tiny", "--smoke", "--results", str(tmp_path), "--as", "parity_tiny"]
    assert importlib.import_module("parity").main(arguments) == 0
    figures = json.loads((tmp_path / "parity_tiny.json").read_text())["figures"]
    assert figures["fake_fp32_max_abs_diff"]["reached"] is True
    assert figures["fake_int8_agreement_near_ties_aside_percent_worst"]["reached"] is True
    assert not any("accuracy" in name for name in figures)


def test_it_can_be_started_as_a_script_and_loads_nothing_heavy_before_it_works() -> None:
    code = (
        "import runpy, sys; sys.path.insert(0, 'benchmarks'); "
        f"[runpy.run_path(f'benchmarks/{{name}}.py') for name in {PROGRAMS}]; "
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'optuna', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=FOLDER.parent, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_smoke_run_leaves_the_results_alone(on_path: None) -> None:
    before = {path: path.stat().st_mtime_ns for path in (FOLDER / "results").glob("*")}
    importlib.import_module("search").main(["--smoke"])
    assert {path: path.stat().st_mtime_ns for path in (FOLDER / "results").glob("*")} == before


def test_the_list_in_the_readme_is_complete() -> None:
    text = (FOLDER / "README.md").read_text()
    assert [name for name in PROGRAMS if f"`{name}.py" not in text] == []


# ---------------------------------------------------------------- figures


@pytest.mark.parametrize(
    ("bounds", "reached"),
    [
        ({}, None),
        ({"at_least": 2.0}, True),
        ({"at_least": 2.1}, False),
        ({"at_most": 2.0}, True),
        ({"at_most": 1.9}, False),
    ],
)
def test_a_figure_knows_whether_it_reaches_its_target(
    common: ModuleType, bounds: dict[str, float], reached: bool | None
) -> None:
    assert common.Figure(name="x", value=2.0, **bounds).reached is reached


@pytest.mark.parametrize("value", [math.nan, None])
def test_a_value_that_is_no_number_reaches_no_target(common: ModuleType, value: float | None) -> None:
    assert common.Figure(name="x", value=value, at_most=1.0).reached is False


@pytest.mark.parametrize(("value", "status"), [(1.0, 0), (3.0, 1)])
def test_the_exit_status_tells_of_a_missed_target(
    common: ModuleType, value: float, status: int, tmp_path: Path
) -> None:
    import argparse

    bench = common.Benchmark("trial", argparse.ArgumentParser(), ["--results", str(tmp_path)])
    assert bench.publish([common.Figure(name="x", value=value, at_most=2.0)]) == status
    assert json.loads((tmp_path / "trial.json").read_text())["figures"]["x"]["reached"] is (status == 0)


# ---------------------------------------------------------------- runs


def test_a_borrowed_run_stays_as_it_is(common: ModuleType, smoke_run: Path) -> None:
    before = sorted(smoke_run.rglob("*"))
    with common.borrowed_run(smoke_run) as config:
        output = Path(config.output.folder)
        (output / "deployments").mkdir()
        assert (output / "search" / "study.safetensors").read_bytes() == (
            smoke_run / "search" / "study.safetensors"
        ).read_bytes()
    assert sorted(smoke_run.rglob("*")) == before
    assert not output.exists()


def test_the_deployment_that_is_attacked_is_made_if_none_is_given(
    on_path: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = importlib.import_module("attacks")
    asked: list[tuple[str | Path, ...]] = []

    def run(*arguments: str | Path, cwd: Path) -> tuple[int, dict[str, object]]:
        asked.append(arguments)
        return len(asked) - 1, {"deployment": "made"}

    monkeypatch.setattr(program, "hwnas", run)
    assert program._deployed(tmp_path) == Path("made")
    command, *sets, output, folder = asked[0]
    assert (command, output, folder) == ("run", "--output", str(tmp_path / "run"))
    config = Config().replaced(changes([str(text).removeprefix("--set=") for text in sets]))
    assert (config.space.precisions, config.device.name) == (("fp32",), "fake")
    with pytest.raises(HwnasError, match="ended with status 1"):
        program._deployed(tmp_path)


def test_a_program_on_a_run_asks_for_one(on_path: None) -> None:
    with pytest.raises(HwnasError, match="name the folder of a run"):
        importlib.import_module("budgets").main([])


def test_the_budgets_lie_between_the_reachable_bounds(on_path: None, smoke_run: Path) -> None:
    from hwnas.search import load_study

    upper = load_study(smoke_run / "search" / "study.safetensors").upper["latency_ms"]
    budgets = importlib.import_module("budgets").random_budgets(load_config(smoke_run), 20, seed=3)
    assert len(set(budgets)) == 20
    assert all(upper.min() <= budget <= upper.max() for budget in budgets)


# ---------------------------------------------------------------- two checkouts


def test_a_figure_that_one_side_lacks_stands_alone_in_the_table(on_path: None) -> None:
    program = importlib.import_module("side_by_side")
    both, alone = program.Row(), program.Row()
    for side, value in (("there", 2.0), ("here", 1.0), ("here", 4.0), ("here", 3.0), ("there", 4.0)):
        both.add(side, {"value": value, "target": "<= 3", "reached": value <= 3})
    alone.add("here", {"value": "onnx", "target": "", "reached": None})
    rows = {("parity.py RUN", "error"): both, ("parity.py RUN", "format"): alone}
    assert program.Compared(rows=rows).shown.rows == [
        ("parity", "error", "<= 3", 3.0, 3.0, 1.0),
        ("parity", "format", "", None, "onnx", None),
    ]
    assert (both.missed("there"), both.missed("here"), alone.missed("here")) == (1, 1, 0)


def test_both_sides_run_on_their_own_copy_of_the_folder(
    on_path: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    arguments = ["--run", f"parity.py RUN --smoke --device {tmp_path}", "--folder", str(run), "--smoke"]
    with pytest.raises(HwnasError, match="wrote no result"):  # an empty folder is no run; each side says so of its own
        importlib.import_module("side_by_side").main(arguments)
    said = capfd.readouterr().err
    assert "there" in said
    assert str(run) not in said


# ---------------------------------------------------------------- Fashion-MNIST


def test_the_configuration_of_fashion_mnist_is_valid() -> None:
    config = load_config(FOLDER / "fashion_mnist.toml")
    assert config.train.total_steps(54_000) == 7000
    assert config.limits.absolute() == {}


@pytest.mark.parametrize("family", ["resnet", "transformer", "series"])
def test_the_configurations_of_other_families_are_valid(family) -> None:
    config = load_config(FOLDER / f"families_{family}.toml")
    assert config.output.folder == f"runs/family-{family}"
    assert config.limits.absolute() == {}


def test_a_fresh_start_deletes_what_a_run_made_and_nothing_else(on_path: None, tmp_path: Path) -> None:
    for name in ("checkpoint.safetensors", "checkpoint.previous.safetensors", "config.toml", "mine.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "search").mkdir()
    importlib.import_module("_whole_way").forget(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_fresh_start_leaves_a_folder_that_is_no_run_alone(on_path: None, tmp_path: Path) -> None:
    (tmp_path / "search").mkdir()
    with pytest.raises(ConfigError, match="does not look like"):
        importlib.import_module("_whole_way").forget(tmp_path)
    assert (tmp_path / "search").is_dir()


def test_the_time_of_an_interrupted_training_is_noted(
    on_path: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = importlib.import_module("_whole_way")
    steps = iter([0, 40, 40, 100, 100])
    monkeypatch.setattr(program, "_trained_steps", lambda folder: next(steps))
    with pytest.raises(KeyboardInterrupt), program.training_timed(tmp_path):
        raise KeyboardInterrupt
    with program.training_timed(tmp_path):
        pass
    figures = {figure.name: figure.value for figure in program.training_figures(tmp_path)}
    assert figures["training_steps"] == figures["training_steps_timed"] == 100
    assert figures["training_s"] >= 0


# ---------------------------------------------------------------- zero-cost scores


def test_zero_cost_scores_are_what_their_authors_say(on_path: None) -> None:
    import torch
    from torch import nn

    program = importlib.import_module("zero_cost")
    first, second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -8.0]]))
        second.weight.copy_(torch.tensor([[2.0, 0.5], [0.0, -1.0]]))
    network = nn.Sequential(first, nn.BatchNorm1d(2, eps=0.0), nn.ReLU6(), second).eval()
    x, y = torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), torch.tensor([0, 0])
    # no unit is on for both images or off for both
    assert program.naswot(network, x, y) == pytest.approx(2 * math.log(2))
    # 1 and 8 flow through columns that sum to 2 and 1.5, in each of three layers with weights, and nothing is cut off
    assert program.synflow(network, x, y) == pytest.approx(math.log(3 * (1 * 2 + 8 * 1.5)))
    # of image 1 one unit of value 1 is on, of image 2 one that 8 became and 6 cut off, so that nothing flows below it
    by_second, by_norm, by_first = 1 + 36, 2 * 2.0**2, 2 * 2.0**2
    assert program.kernel_trace(network, x, y) == pytest.approx(math.log(by_second + by_norm + by_first))


def test_the_norm_of_a_gradient_is_that_of_the_loss(on_path: None) -> None:
    import torch
    from torch import nn

    network = nn.Linear(2, 2)
    nn.init.zeros_(network.weight)
    nn.init.zeros_(network.bias)
    found = importlib.import_module("zero_cost").gradient_norm(network, torch.tensor([[3.0, 0.0]]), torch.tensor([0]))
    # each logit's is half, with another sign, by three weights that see 3, 0 and 1
    assert found == pytest.approx(math.log(math.sqrt(2 * 0.25 * 10)))


def test_a_score_that_tells_the_accuracy_is_found_to_help(on_path: None) -> None:
    import numpy as np

    from hwnas.predict.ensemble import rank_correlation

    program, rng = importlib.import_module("zero_cost"), np.random.default_rng(0)
    known, noise = rng.normal(size=(2, 50))
    guess = noise.copy()
    gain, error = program.gained(rank_correlation, guess, known, known, rng=rng)
    assert gain == pytest.approx(1 - rank_correlation(guess, known))
    assert gain > 3 * error > 0
    assert program.gained(program.rmse, guess, guess, known, rng=rng) == (0, 0)


def test_the_house_is_counted_from_its_source_alone(on_path: None, tmp_path: Path) -> None:
    house = importlib.import_module("house")
    sources = {
        "__init__.py": "",
        "low/__init__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import hwnas.high\n",
        "low/a.py": '"""Knows mbconv."""\nfrom . import b  # a comment\nKIND = "mbconv"\n',
        "low/b.py": "def f():\n    from hwnas.low.a import KIND\n    return KIND, 'fp32'\n",
        "high.py": "from hwnas.low import a\n@app.command('x')\ndef x(a, b, c): ...\ndef y(self, a, *, b): ...\n",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = dict(house.House(tmp_path.parent, packages={"hwnas": tmp_path.name}).figures())
    assert (found["rooms"], found["arrows_between_rooms"], found["circles_of_rooms"]) == (2, 1, 0)
    assert found["circles_of_modules"] == 1
    assert (found["most_parameters"], found["most_options_of_a_command"]) == (2, 3)
    assert (found["files_naming_a_kind_of_block"], found["files_spelling_a_precision"]) == (1, 1)
    assert found["comments_per_100_lines"] == pytest.approx(100 / 13, abs=0.01)


# ---------------------------------------------------------------- networks to adapt


@pytest.mark.parametrize("name", ["mlperf_resnet8", "mlperf_autoencoder", "decoder_tied"])
def test_no_number_of_a_network_is_one_that_layers_begin_with(name: str, on_path: None) -> None:
    (network,) = (n for n in importlib.import_module("_adapt_networks").own_networks() if n.name == name)
    module, again = network.module(), network.module()
    numbers = [t for key, t in module.state_dict().items() if not key.endswith("num_batches_tracked")]
    assert all(t.std() > 0 for t in numbers)
    assert all(torch.equal(t, again.state_dict()[key]) for key, t in module.state_dict().items())
    with torch.no_grad():
        assert module(network.inputs(2)).isfinite().all()


def test_where_norms_stand_behind_activations_no_channel_of_the_next_layer_is_dead(on_path: None) -> None:
    def make() -> torch.nn.Module:
        rows = [(torch.nn.Conv2d(32, 32, 1), torch.nn.GELU(), torch.nn.BatchNorm2d(32)) for _ in range(24)]
        return torch.nn.Sequential(*(part for row in rows for part in row))

    network = importlib.import_module("_adapt_networks").Network(name="x", family="own", make=make, shape=(32, 9, 9))
    module = network.module()
    variances = [float(m.running_var.min()) for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert min(variances) > 0.01
    with torch.no_grad():
        assert float(module(network.inputs(3, seed=2)).abs().max()) < 20


def test_a_trained_network_keeps_its_numbers(on_path: None, tmp_path: Path) -> None:
    made = importlib.import_module("_tiny_networks").ResNet8()
    stored = {key: t for key, t in made.state_dict().items() if not key.endswith("num_batches_tracked")}
    save_file(stored, tmp_path / "resnet8.safetensors")
    (network,) = importlib.import_module("_adapt_networks").trained_networks(tmp_path / "resnet8.safetensors")
    assert all(torch.equal(network.module().state_dict()[key], t) for key, t in stored.items())
    save_file({"stem.weight": torch.zeros(1)}, tmp_path / "resnet8.safetensors")
    with pytest.raises(ConfigError, match="is not MLPerf Tiny's ResNet8"):
        network.module()


def test_a_folder_without_timm_is_told_with_how_to_get_it(on_path: None, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no timm; put it there: pip install .*--timm FOLDER"):
        importlib.import_module("adapt_zoo").main(["--timm", str(tmp_path), "--only", "nothing"])


def test_a_sweep_of_networks_tells_every_step_that_failed_and_goes_on(on_path: None) -> None:
    networks, sweep = importlib.import_module("_adapt_networks"), importlib.import_module("_adapt_sweep")

    class Odd(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.cumsum(1)

    odd = networks.Network(name="odd", family="own", make=Odd, shape=(3,))
    row = sweep.Sweep(odd, [], subnetworks=1).run(limit_s=60)
    assert not row["traced"]
    assert [(f["stage"], f["reason"]) for f in row["failures"]] == [("trace", "operators without a rule: aten.cumsum")]
    two = networks.Network(name="two", family="own", make=_TwoOutputs, shape=(3,))
    row = sweep.Sweep(two, [], subnetworks=1).run(limit_s=60)
    assert row["traced"]
    assert row["equal"]
    assert not row["elastic"]
    assert "'output_1' is what the network is given" in row["failures"][0]["reason"]


def test_a_sweep_takes_a_network_of_several_outputs_to_its_files(on_path: None) -> None:
    (fpn,) = (n for n in importlib.import_module("_adapt_networks").own_networks() if n.name == "fpn")
    target = importlib.import_module("_adapt_targets").Target.of("onnxruntime")
    row = importlib.import_module("_adapt_sweep").Sweep(fpn, [target], subnetworks=1).run(limit_s=120)
    assert row["failures"] == []
    assert row["largest_equal"]
    assert row["verified"] == {"onnxruntime": {"fp32": True, "int8": True}}


class _TwoOutputs(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.layer(x), x


def test_a_sweep_of_networks_is_held_to_its_limits(on_path: None) -> None:
    sweep, targets = importlib.import_module("_adapt_sweep"), importlib.import_module("_adapt_targets")
    targets.hold({"relative_difference": 1e-5}, "fp32")
    with pytest.raises(SpaceError, match=r"differ by 1\.0e-03 of the largest"):
        targets.hold({"relative_difference": 1e-3}, "fp32")
    for steps, ratio in ((4.0, 9.0), (30.0, 1.2)):
        targets.hold({"steps": steps, "error_ratio": ratio, "identical": 0.5}, "int8")
    with pytest.raises(SpaceError, match=r"differ by 5\.0 steps, and their error is 1\.30 times torch's"):
        targets.hold({"steps": 5.0, "error_ratio": 1.3, "identical": 0.5}, "int8")
    exact, near = np.zeros(4), np.array([1.0, -1.0, 1.0, -1.0])
    assert targets.error_ratio(near[::-1], near, exact) == 1.0
    assert targets.error_ratio(3 * near, near, exact) == 3.0
    with pytest.raises(SpaceError, match="outputs differ by nan"):
        targets.hold({"relative_difference": math.nan}, "fp32")
    with pytest.raises(sweep.TimeUpError), sweep.time_limit(0.01):
        time.sleep(5)


def test_rows_of_a_sweep_are_kept_and_not_mixed_with_others(on_path: None, tmp_path: Path) -> None:
    program, path = importlib.import_module("adapt_zoo"), tmp_path / "rows.jsonl"
    rows = [{"name": name, "subnetworks": n, "elastic": n > 0} for name, n in (("a", 1), ("b", 0), ("a", 2))]
    for row in rows:
        program._Kept(path, {"formats": ["x"]}).add(row)
    kept = program._Kept(path, {"formats": ["x"]})
    assert kept.row("a", subnetworks=2) == rows[2]  # the last
    assert kept.row("a", subnetworks=5) is None
    assert kept.row("b", subnetworks=5) == rows[1]  # nothing to try
    assert kept.row("c", subnetworks=1) is None
    with pytest.raises(ConfigError, match="give another file, or the same options"):
        program._Kept(path, {"formats": ["y"]})


def test_rows_of_a_sweep_whose_outputs_are_no_numbers_can_be_written_and_counted(on_path: None, tmp_path: Path) -> None:
    program, path = importlib.import_module("adapt_zoo"), tmp_path / "rows.jsonl"
    run = {"target": "onnxruntime", "as": "int8", "steps": math.nan, "identical": 0.0, "error_ratio": math.inf}
    row = {"name": "a", "family": "A", "traced": True, "equal": True, "elastic": True, "largest_equal": False}
    row |= {"max_abs_diff": math.nan, "elastic_s": 1.0, "elastic_cpu_s": 1.0, "failures": [], "subnetworks": 1}
    row |= {"verified": {"onnxruntime": {"fp32": False, "int8": False}}, "runs": [run]}
    program._Kept(path, {}).add(row)  # as rows were kept before
    found = program._Kept(path, {}).row("a", subnetworks=1)
    assert found == program.finite(row)
    assert json.loads(json.dumps(found, allow_nan=False))["runs"] == [{**run, "steps": None, "error_ratio": None}]
    counted = {figure.name: figure.value for figure in program.figures([found], ["onnxruntime"])}
    assert counted["equal_to_the_bit"] == 0
    assert counted["strictly_onnxruntime_int8_steps"] == counted["strictly_onnxruntime_int8_identical"] == 0


def test_a_sweep_of_networks_becomes_a_table_by_family(on_path: None) -> None:
    program = importlib.import_module("adapt_zoo")
    whole = {"family": "A", "elastic": True, "elastic_s": 2.0, "networks": 2e6}
    rows = [
        {**whole, "verified": {"onnxruntime": {"fp32": True, "int8": True}}},
        {**whole, "networks": 1e18, "verified": {"onnxruntime": {"fp32": True, "int8": False}}},
        {"family": "B", "elastic": False, "verified": {"onnxruntime": {"fp32": False, "int8": False}}},
    ]
    _, _, *found = program.table(rows, ["onnxruntime"])
    assert found == ["| A | 2 | 2 | 2 | 1 | 10^6 to 10^18 | 2.0 |", "| B | 1 | 0 | 0 | 0 |  |  |"]
