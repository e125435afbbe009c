"""What a run was last used with: changed settings are told, and tables that lost lines at their end are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas import pipeline
from hwnas.config import Config, load_config
from hwnas.errors import TableError
from hwnas.pipeline._last_used import FILE, LastUsed, begin, settings_of
from hwnas.pipeline.costs import MIXED, load_costs, table_path
from hwnas.testing.run import tiny_config
from hwnas.workspace import Workspace
from tests.runs import ReadConsole
from tests.sealed import change_lines


def test_a_run_that_nobody_touched_has_nothing_to_tell(config: Config) -> None:
    console = ReadConsole()
    begin(Workspace(config), console=console)
    assert console.said == ""


def test_a_digit_that_changed_in_the_configuration_is_told_once(config: Config) -> None:
    file = Path(config.output.folder) / "config.toml"
    text = file.read_text()
    file.write_text(text.replace("latency_fraction = 0.8", "latency_fraction = 0.9"))
    assert file.read_text() != text
    changed = load_config(config.output.folder)
    said = []
    for _ in range(2):
        console = ReadConsole()
        begin(Workspace(changed), console=console)
        said.append(" ".join(console.said.split()))
    assert said[0] == "limits.latency_fraction is 0.9 and was 0.8 when this run was last used"
    assert said[1] == ""


def test_the_export_tells_it_too(config: Config) -> None:
    console = ReadConsole()
    table_path(Workspace(config), "fp32").unlink()  # it is told before anything else
    with pytest.raises(TableError):
        pipeline.export(config.replaced({"limits.latency_fraction": 0.9}), console=console)
    assert "limits.latency_fraction is 0.9 and was 0.8" in console.said


def test_a_run_may_be_moved(config: Config, tmp_path: Path) -> None:
    Path(config.output.folder).rename(tmp_path / "elsewhere")
    assert LastUsed.of(tmp_path / "elsewhere").changes(load_config(tmp_path / "elsewhere")) == []


def test_a_new_run_knows_nothing_and_a_damaged_memory_says_so_and_is_made_again(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    assert LastUsed.of(tmp_path).changes(config) == []
    begin(Workspace(config), console=ReadConsole())
    file = tmp_path / FILE
    file.write_text(file.read_text().replace("0.8", "0.7"))
    console = ReadConsole()
    begin(Workspace(config), console=console)
    assert "last_used.json is damaged" in console.said
    assert LastUsed.of(tmp_path).settings == settings_of(config)
    file.unlink()
    begin(Workspace(config), console=console)
    assert "last_used.json is missing" in console.said


@pytest.mark.parametrize("precision", ["fp32", MIXED])
def test_a_table_cut_at_the_end_of_a_line_is_refused_and_measured_again(
    precision: str, config: Config, measured: list[str]
) -> None:
    path = table_path(Workspace(config), precision)
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:-2]))
    with pytest.raises(TableError, match=r"restore the file, or measure the others again with `hwnas profile`"):
        load_costs(Workspace(config))
    pipeline.profile(config, console=ReadConsole())
    assert len(measured) == 2
    load_costs(Workspace(config))


def test_a_table_that_is_gone_is_not_done_without(config: Config) -> None:
    table_path(Workspace(config), MIXED).unlink()
    with pytest.raises(TableError, match=r"mixed.*does not exist.*hwnas profile"):
        load_costs(Workspace(config))


def test_another_table_of_the_same_name_is_refused(config: Config) -> None:
    path = table_path(Workspace(config), "fp32")
    change_lines(path, lambda v: {**v, "date": "2020-01-01"} if v["kind"] == "context" else v)
    with pytest.raises(TableError, match="is another table than the one this run was profiled with"):
        load_costs(Workspace(config))
    pipeline.profile(config, console=ReadConsole())
    load_costs(Workspace(config))
