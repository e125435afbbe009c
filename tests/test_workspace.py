"""What stages share: where things are, and what is refused before anything is done."""

from __future__ import annotations

import dataclasses
import os
import socket
import threading
from pathlib import Path

import pytest

from hwnas import pipeline, registry
from hwnas.config import Config, load_config
from hwnas.errors import CheckpointError, ConfigError, SpaceError
from hwnas.testing.run import tiny_config
from hwnas.workspace import Workspace
from tests.runs import ReadConsole, contents


def test_tables_are_kept_under_their_device(tmp_path: Path) -> None:
    work = Workspace(tiny_config(tmp_path))
    assert work.tables == tmp_path / "latency_tables" / "fake"
    shared = Workspace(tiny_config(tmp_path, {"profile.tables": "elsewhere"}))
    assert shared.tables == Path("elsewhere/fake")


def test_the_exporter_writes_what_the_runtime_reads(tmp_path: Path) -> None:
    assert Workspace(tiny_config(tmp_path)).exporter.format == "onnx"


def test_a_network_of_ones_own_is_not_passed_over_for_a_preset(tmp_path: Path) -> None:
    model = {"model.source": "python:nets:make", "model.input": [3, 32, 32]}
    config = tiny_config(tmp_path).replaced({"space.preset": None, "space.width_mults": None, **model})
    with pytest.raises(ConfigError, match="adapt it first: `hwnas adapt`"):
        pipeline.train(config, console=ReadConsole())


class OfAnEarlierVersion:
    format = "onnx"

    def export(self, model: object, example: object, path: Path, *, precision: str) -> None:
        """Knows no ends."""

    def export_block(self, block: object, path: Path, *, seed: int = 0) -> None:
        """Nobody asks for it any more."""


@pytest.mark.parametrize(
    ("made", "why"),
    [(OfAnEarlierVersion, "got an unexpected keyword argument 'ends'"), (object, "has no attribute 'export'")],
)
def test_an_exporter_without_the_one_method_is_refused_and_told_what_to_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: type, why: str
) -> None:
    load = registry.load
    monkeypatch.setattr(registry, "load", lambda kind, name: made if kind == "exporters" else load(kind, name))
    called = (
        rf"exporter 'onnx' \({made.__name__}\) cannot be called as export\(model, example, path, \*, precision, ends\)"
    )
    with pytest.raises(ConfigError, match=rf"{called}: .*{why}.*exporter_suite"):
        _ = Workspace(tiny_config(tmp_path)).exporter


def test_only_precisions_that_are_asked_for_and_legal_are_searched(tmp_path: Path) -> None:
    assert set(Workspace(tiny_config(tmp_path)).space.precisions) == {"fp32", "int8"}
    assert Workspace(tiny_config(tmp_path, {"space.precisions": ["int8"]})).space.precisions == ("int8",)


def test_the_supernet_does_not_depend_on_the_precisions(tmp_path: Path) -> None:
    both, one = tiny_config(tmp_path), tiny_config(tmp_path, {"space.precisions": ["int8"]})
    assert Workspace(both).identity == Workspace(one).identity


def test_a_precision_the_device_lacks_is_refused(tmp_path: Path) -> None:
    device = tmp_path / "old.toml"
    device.write_text('schema = 1\nruntime = "fake"\nprecisions = ["fp32"]\n')
    changes = {"device.name": str(device), "space.precisions": ["int8"]}
    with pytest.raises(ConfigError, match="'old' computes in fp32; the configuration asks for int8"):
        _ = Workspace(tiny_config(tmp_path, changes)).space


def test_a_style_the_space_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'test-tiny' does not take activation"):
        _ = Workspace(tiny_config(tmp_path, {"space.activation": "relu6"})).space


def test_an_option_the_space_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="9"):
        _ = Workspace(tiny_config(tmp_path, {"space.resolutions": [9]})).space


def test_a_folder_that_cannot_be_made_is_wrong_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    work = Workspace(tiny_config(tmp_path / "file" / "run"))
    with pytest.raises(ConfigError, match=r"output folder .* cannot be made"):
        work.begin()


def test_a_lock_is_free_again_after_its_stage(tmp_path: Path) -> None:
    work = Workspace(tiny_config(tmp_path))
    for _ in range(2):
        with work.alone("training"):
            pass


def test_stages_do_not_keep_each_other_out(tmp_path: Path) -> None:
    work = Workspace(tiny_config(tmp_path))
    with work.alone("training"), work.alone("profiling"):
        pass


def test_a_lock_that_is_held_says_by_whom(tmp_path: Path) -> None:
    work = Workspace(tiny_config(tmp_path))
    expected = rf"another process is training in .*\(process {os.getpid()} on .*, training since \d\d:\d\d\)"
    with work.alone("training"), pytest.raises(ConfigError, match=expected), work.alone("training"):
        pass


def test_a_lock_that_is_a_link_is_refused_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / ".training.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(ConfigError, match="a symbolic link"), Workspace(tiny_config(tmp_path)).alone("training"):
        pass
    assert (tmp_path / "precious").read_text() == "kept"


class _Impatient(ReadConsole):
    def note(self, text: str) -> None:
        super().note(text)
        if text.startswith("waiting"):
            raise KeyboardInterrupt


def test_two_runs_with_the_same_tables_measure_one_after_the_other(tmp_path: Path, measured: list[str]) -> None:
    shared = {"profile.tables": str(tmp_path / "tables")}
    first, second = (tiny_config(tmp_path / name, shared) for name in ("first", "second"))
    console = _Impatient()
    with Workspace(first).measuring_alone(console), pytest.raises(KeyboardInterrupt):
        pipeline.profile(second, console=console)
    expected = f"(process {os.getpid()} on {socket.gethostname()}, measuring for {tmp_path / 'first'} since"
    assert expected in console.said
    assert not measured


def test_who_waits_for_tables_goes_on_when_they_are_free(tmp_path: Path) -> None:
    work, console = Workspace(tiny_config(tmp_path)), ReadConsole()
    got = threading.Event()

    def wait() -> None:
        with work.measuring_alone(console):
            got.set()

    with work.measuring_alone(console):
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert not got.wait(0.2)
    assert got.wait(10)
    waiting.join()


# ---------------------------------------------------------------- the supernet


def test_without_a_supernet_the_command_that_trains_one_is_named(config: Config) -> None:
    (Path(config.output.folder) / "checkpoint.safetensors").unlink()
    with pytest.raises(CheckpointError, match="train one with `hwnas train`"):
        pipeline.export(config, console=ReadConsole())


@pytest.mark.parametrize(
    ("change", "what"),
    [({"space.preset": "mobilenet-tiny"}, "space"), ({"data.seed": 1}, "data")],
)
def test_the_supernet_of_another_space_or_other_data_is_refused(
    change: dict[str, object], what: str, config: Config
) -> None:
    with pytest.raises(CheckpointError, match=f"was trained with another {what}; use its own configuration"):
        _ = Workspace(config.replaced(change)).supernet


def test_a_training_that_is_not_finished_is_no_supernet(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, {"train.checkpoint_every_s": 1e-6})
    with pytest.raises(KeyboardInterrupt):
        pipeline.train(config, console=ReadConsole(interrupt_after=("train", 4)))
    with pytest.raises(CheckpointError, match=r"is at step 3 of 10; go on with `hwnas train` first"):
        _ = Workspace(config).supernet


def test_two_trainings_in_one_folder_are_refused(config: Config) -> None:
    with Workspace(config).alone("training"), pytest.raises(ConfigError, match="another process is training in"):
        pipeline.train(config, console=ReadConsole())


def test_a_refused_training_leaves_the_configuration_of_the_first(config: Config) -> None:
    before = contents(Path(config.output.folder))
    with pytest.raises(CheckpointError, match="belongs to another run"):
        pipeline.train(config.replaced({"train.learning_rate": 0.2}), console=ReadConsole())
    assert contents(Path(config.output.folder)) == before
    assert load_config(config.output.folder) == config


@pytest.mark.parametrize("stage", ["profile", "search"])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"train.steps": 999}, "steps was 10, now 999"),
        ({"train.n_random": 2}, "n_random was 1, now 2"),
        ({"train.batch_size": 16}, "batch_size was 32, now 16"),
        ({"data.seed": 1}, "data was '"),
    ],
)
def test_no_stage_stores_a_setting_that_contradicts_the_supernet(
    stage: str, change: dict[str, object], told: str, config: Config
) -> None:
    before = contents(Path(config.output.folder))
    with pytest.raises(CheckpointError, match="belongs to another run") as caught:
        getattr(pipeline, stage)(config.replaced(change), console=ReadConsole())
    assert told in str(caught.value)
    assert str(caught.value).count(" was ") == 1  # nothing but what differs
    assert contents(Path(config.output.folder)) == before


def test_what_an_older_version_did_not_write_down_is_no_difference(config: Config) -> None:
    from hwnas.supernet.checkpoint import load_checkpoint, save_checkpoint

    path = Path(config.output.folder) / "checkpoint.safetensors"
    found = load_checkpoint(path)
    identity = {k: v for k, v in found.meta["identity"].items() if k != "n_random"}
    save_checkpoint(path, dataclasses.replace(found, meta={**found.meta, "identity": identity}))
    assert pipeline.profile(config, console=ReadConsole()).shown.rows


def test_an_interrupted_training_ends_with_the_same_weights(config: Config, tmp_path: Path) -> None:
    whole = Path(config.output.folder) / "checkpoint.safetensors"
    again = tiny_config(tmp_path / "again", {"train.checkpoint_every_s": 1e-6})
    with pytest.raises(KeyboardInterrupt):
        pipeline.train(again, console=ReadConsole(interrupt_after=("train", 4)))
    console = ReadConsole()
    pipeline.train(again, console=console)
    assert "is at step 3 of 10" in console.said
    assert (tmp_path / "again" / "checkpoint.safetensors").read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("shape", [(4,), (2, 1, 3), (1, 1000, 1)])
def test_a_router_of_another_making_is_refused(shape: tuple[int, ...]) -> None:
    import torch

    from hwnas.run_supernet import _experts_of
    from hwnas.supernet.checkpoint import Checkpoint

    with pytest.raises(CheckpointError, match="router of shape"):
        _experts_of(Checkpoint(tensors={"ema.router.weight": torch.zeros(shape)}, meta={}))
