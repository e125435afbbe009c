"""Once-for-All's checkpoints as supernets: their networks are the same, and what is none of them is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from hwnas import pipeline
from hwnas.cli import app
from hwnas.config import Config
from hwnas.errors import CheckpointError, ConfigError, DataError, ModelError
from hwnas.registry import load
from hwnas.spaces.once_for_all import once_for_all_space
from hwnas.supernet.checkpoint import load_checkpoint
from hwnas.supernet.elastic import Supernet
from hwnas.testing.run import tiny_config
from hwnas.workspace import Workspace
from hwnas.zoo import find_entry, importing, one_entry
from hwnas.zoo.importing import import_ofa
from tests.runs import ReadConsole
from tests.zoo.ofa import FULL, NARROW, WIDE, checkpoint, logits, save, setting_of

Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a narrow one for ten classes; not to be changed."""
    folder = tmp_path_factory.mktemp("imported")
    import_ofa(save(folder / "ofa_narrow_w0.5", checkpoint()), folder / "narrow")
    return folder / "narrow"


def supernet_in(folder: Path) -> Supernet:
    entry = find_entry(str(folder))
    supernet = Supernet(entry.card.space)
    supernet.load_state_dict(entry.tensors())
    return supernet.train()


def check_same(supernet: Supernet, folder: Path, tensors: Tensors, encodings: list[np.ndarray]) -> None:
    space = find_entry(str(folder)).card.space
    with torch.no_grad():
        for encoding in encodings:
            blocks = space.named_blocks(encoding)
            x = torch.randn(3, *blocks[0][1].in_shape, generator=torch.Generator().manual_seed(1))
            wanted = logits(tensors, x, setting_of(space.decode(encoding)))
            assert wanted.std() > 0.1
            torch.testing.assert_close(supernet(x, blocks), wanted, rtol=0, atol=1e-4)
            torch.testing.assert_close(supernet.extract(blocks).train()(x), wanted, rtol=0, atol=1e-4)


def test_networks_are_those_of_the_checkpoint(imported: Path) -> None:
    space = find_entry(str(imported)).card.space.restrict(precisions=("fp32",), resolutions=(128,))
    whole = find_entry(str(imported)).card.space
    drawn = [space.smallest(), space.largest(), *space.sample(8, np.random.default_rng(0), over="encodings")]
    encodings = [whole.encode({"resolution": 128, **_in_floats(whole), **space.decode(e)}) for e in drawn]
    check_same(supernet_in(imported), imported, checkpoint(), encodings)


def _in_floats(space) -> dict[str, str]:
    return {c.name: "fp32" for c in space.choices if c.name.endswith(".precision")}


@pytest.mark.parametrize(("widths", "preset"), [(FULL, "ofa-mobilenet-v3"), (WIDE, "ofa-mobilenet-v3-w1.2")])
def test_those_of_the_published_widths_are_of_the_space_of_that_name(
    widths: tuple[int, ...], preset: str, tmp_path: Path
) -> None:
    tensors = checkpoint(widths, n_classes=1000)
    result = import_ofa(save(tmp_path / "ofa_mbv3_d234_e346_k357_w1.0", tensors), tmp_path / "new")
    space = load("spaces", preset)()
    assert find_entry(str(tmp_path / "new")).card.space == space
    assert (result.space, result.classes, result.networks) == (preset, 1000, space.count())
    check_same(supernet_in(tmp_path / "new"), tmp_path / "new", tensors, [space.smallest()])


def test_names_of_other_versions_are_the_same_tensors(imported: Path, tmp_path: Path) -> None:
    def of_today(name: str) -> str:
        name = name.replace(".mobile_inverted_conv.", ".conv.")
        return name.replace(".linear.", ".linear.linear.")

    import_ofa(save(tmp_path / "file.pth", {of_today(k): t for k, t in checkpoint().items()}), tmp_path / "new")
    assert (tmp_path / "new" / "supernet.safetensors").read_bytes() == (imported / "supernet.safetensors").read_bytes()


def test_the_card_says_what_is_known(imported: Path, tmp_path: Path) -> None:
    card = find_entry(str(imported)).card
    assert (card.mean, card.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert card.class_names == tuple(map(str, range(10)))
    assert card.licence == "MIT (the code of its repository); ask the owner about the weights"
    assert card.files.keys() == {"supernet.safetensors"}
    assert ("classes", "10, without names") in one_entry(str(imported)).shown.rows
    import_ofa(save(tmp_path / "file", checkpoint()), tmp_path / "new", licence="ours")
    assert find_entry(str(tmp_path / "new")).card.licence == "ours"


# ---------------------------------------------------------------- what is refused


def _without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {k: t for k, t in tensors.items() if k != name}


def _with(name: str, tensor: Tensor) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, name: tensor}


_REDUCE = "blocks.5.mobile_inverted_conv.depth_conv.se.fc.reduce"
_MATRIX = "blocks.1.mobile_inverted_conv.depth_conv.conv.5to3_matrix"
REFUSED: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "a ResNet": (
        lambda _: {"input_stem.0.conv.weight": torch.zeros(8, 3, 3, 3), "classifier.linear.weight": torch.zeros(9, 8)},
        r"it is no OFAMobileNetV3: it has no first_conv\.conv\.weight, but 2 tensors of classifier, input_stem\. Files "
        r"that can be imported: ofa_mbv3_d234_e346_k357_w1\.0, ofa_mbv3_d234_e346_k357_w1\.2",
    ),
    "a ProxylessNAS": (_without("final_expand_layer.conv.weight"), r"it has no final_expand_layer\.conv\.weight"),
    "fewer blocks": (
        lambda tensors: {k: t for k, t in tensors.items() if not k.startswith("blocks.20.")},
        r"it lacks .*blocks\.20\..* and 11 more\. Networks that can be imported have kernels of 3, 5 and 7",
    ),
    "one kernel size": (_without(_MATRIX), r"it lacks blocks\.1\.conv\.depth_conv\.conv\.5to3_matrix\. Networks"),
    "a layer too much": (_with("extra.weight", torch.zeros(1)), r"beyond those of the network, extra\.weight\. Net"),
    "another ratio of squeeze-and-excitation": (
        _with(f"{_REDUCE}.bias", torch.zeros(8)),
        r"blocks\.5\.conv\.depth_conv\.se\.fc\.reduce\.bias has the shape 8, and 24 is wanted",
    ),
    "no numbers": (_with(f"{_REDUCE}.bias", torch.full((24,), torch.nan)), r"reduce\.bias holds what are no numbers"),
    "whole numbers": (_with(f"{_REDUCE}.bias", torch.zeros(24, dtype=torch.int64)), r"holds what are no numbers"),
    "grey images": (_with("first_conv.conv.weight", torch.zeros(8, 1, 3, 3)), r"images of 1 channels, and 3 are"),
    "channels that are no multiples of 8": (
        _with("first_conv.conv.weight", torch.zeros(9, 3, 3, 3)), r"it has layers of 9 channels, and multiples of 8"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_another_checkpoint_is_refused_with_what_was_found_and_what_is_allowed(name: str, tmp_path: Path) -> None:
    change, said = REFUSED[name]
    file = save(tmp_path / "file", change(checkpoint()))
    with pytest.raises(ModelError, match=f"file cannot be imported: .*{said}"):
        import_ofa(file, tmp_path / "new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    file = save(tmp_path / "file", checkpoint())
    file.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(ModelError, match=r"the file is damaged, cut off, or not of torch\.save"):
        import_ofa(file, tmp_path / "new")
    file.write_bytes(b"")
    with pytest.raises(ModelError, match="are an empty file"):
        import_ofa(file, tmp_path / "new")
    torch.save({"a": {"w": torch.zeros(2)}, "b": {"w": torch.zeros(2)}}, file)
    with pytest.raises(ModelError, match=r"hold several networks \(a, b\)"):
        import_ofa(file, tmp_path / "new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_is_there_stays_and_nothing_is_left_of_an_import_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save(tmp_path / "file", checkpoint())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is there already; name a new folder"):
        import_ofa(file, tmp_path / "mine")

    def full(entry: object, names: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(importing, "seal", full)
    with pytest.raises(OSError, match="No space left"):
        import_ofa(file, tmp_path / "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "mine"]
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["letter.txt"]


def test_the_command_ends_with_what_it_made_and_how_it_is_used(tmp_path: Path) -> None:
    file = save(tmp_path / "file", checkpoint())
    found = CliRunner().invoke(app, ["zoo", "import", "ofa", str(file), str(tmp_path / "new"), "--json"])
    assert found.exit_code == 0
    told = json.loads(found.stdout)
    assert (told["folder"], told["classes"], told["space"]) == (str(tmp_path / "new"), 10, "ofa-mobilenet-v3")
    assert any("--data SOURCE" in note for note in told["notes"])
    again = CliRunner().invoke(app, ["zoo", "import", "ofa", str(file), str(tmp_path / "new"), "--json"])
    assert again.exit_code != 0
    assert "is there already" in again.stdout


# ---------------------------------------------------------------- what is done with one


def photos(file: Path, n_classes: int) -> Path:
    """Small colour images by class, as an archive."""
    rng = np.random.default_rng(0)
    y = np.arange(60 * n_classes) % n_classes
    x = np.clip(rng.normal(20 + 20 * y[:, None, None, None], 10, (len(y), 16, 16, 3)), 0, 255).astype(np.uint8)
    np.savez(file, x_train=x, y_train=y, class_names=np.array([f"kind{i}" for i in range(n_classes)]))
    return file


def config_of(folder: Path, data: Path, changes: dict[str, object]) -> Config:
    small = {
        "space.resolutions": [128],
        "space.precisions": ["fp32"],
        "search.n_trials": 2,
        "limits.latency_fraction": 1.5,
    }
    return tiny_config(folder, {"data.source": f"npz:{data}", "train.batch_size": 8, **small, **changes})


def test_a_run_of_one_takes_images_of_its_classes(imported: Path, tmp_path: Path) -> None:
    data = photos(tmp_path / "photos.npz", 10)
    changes = {"train.supernet": str(imported), "train.steps": None, "space.preset": None, "train.n_random": 2}
    few = {"space.kernel_sizes": [3], "search.validation_samples": 20, "search.recalibration_samples": 16}
    config, console = config_of(tmp_path / "run", data, {**changes, **few}), ReadConsole()
    for stage in (pipeline.train, pipeline.profile, pipeline.search):
        stage(config, console=console)
    assert "nothing is trained: the supernet is narrow" in console.said
    assert (Workspace(config).images.mean, Workspace(config).images.class_names[1]) == ((0.485, 0.456, 0.406), "kind1")
    named = dict(Workspace(config).supernet.named_parameters())
    assert all(torch.equal(named[k].detach(), t) for k, t in find_entry(str(imported)).tensors().items())
    with pytest.raises(
        DataError, match="narrow came without images; give images of its 10 classes: --data 'folder:PHOTOS"
    ):
        pipeline.train(config.replaced({"data.source": None}), console=console)


def test_a_training_for_other_classes_begins_with_one(imported: Path, tmp_path: Path) -> None:
    data = photos(tmp_path / "flowers.npz", 3)
    definition = tmp_path / "narrow.json"
    definition.write_text(json.dumps(once_for_all_space(NARROW, in_channels=3, n_classes=3).to_json()))
    changes = {"space.preset": str(definition), "train.start_from": str(imported), "train.steps": 1}
    config, console = config_of(tmp_path / "run", data, changes), ReadConsole()
    n = len(find_entry(str(imported)).tensors())
    pipeline.train(config, console=console)
    assert (
        f"the supernet begins with {imported}: {n - 2} of {n} tensors are its, and it knows 0 of the 3" in console.said
    )
    trained = load_checkpoint(tmp_path / "run" / "checkpoint.safetensors").tensors
    old = find_entry(str(imported)).tensors()["slots.stages/1/blocks/1.weights.expand/conv/weight"]
    new = trained["ema.slots.stages/1/blocks/1.weights.expand/conv/weight"]
    assert (new - old).abs().mean() < 0.2 * old.abs().mean()
    other = {"space.preset": "vit-tiny", "space.resolutions": [16], "output.folder": str(tmp_path / "other")}
    with pytest.raises(CheckpointError, match="less than half of that one's"):
        pipeline.train(config.replaced(other), console=console)
