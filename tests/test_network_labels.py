"""Images without labels that fit: what the given network answers takes their place, and is never called accuracy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwnas import pipeline
from hwnas.answers import best_networks
from hwnas.config import Config
from hwnas.data import load_data
from hwnas.data.arrays import UNLABELLED
from hwnas.deployment import Manifest
from hwnas.errors import ConfigError, DataError, SpaceError
from hwnas.network_labels import LABELS
from hwnas.search import load_study
from hwnas.testing.run import tiny_config
from hwnas.workspace import Workspace
from tests.pipeline.test_adapting import NET
from tests.runs import ReadConsole

_SEVEN = NET + "\ndef of_seven():\n    torch.manual_seed(1)\n    return Net(classes=7).eval()\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "seven.py").write_text(_SEVEN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(folder: Path, **changes: object) -> Config:
    model = {"model.source": "python:seven:of_seven", "model.input": [1, 16, 16], "space.preset": None}
    given = {k.replace("__", "."): v for k, v in changes.items()}
    return tiny_config(folder / "run").replaced({**model, "data.labels": "network", "train.steps": 0, **given})


def unsorted(folder: Path, n: int = 40) -> str:
    """A folder of pictures of noise, some of them in a folder below it."""
    rng = np.random.default_rng(0)
    (folder / "photos" / "more").mkdir(parents=True)
    for i in range(n):
        path = folder / "photos" / ("more" if i % 4 == 0 else ".") / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(path)
    return "folder:photos?classes=none"


def test_labels_that_do_not_fit_the_network_are_refused_with_what_to_do(folder: Path) -> None:
    with pytest.raises(SpaceError, match=r'gives 7 outputs; .* 10 classes\. To take .*: \[data\] labels = "network"'):
        pipeline.adapt(asked(folder, data__labels="source"), console=ReadConsole())


def test_the_whole_way_by_a_networks_own_answers_speaks_of_agreement(folder: Path) -> None:
    config, console = asked(folder), ReadConsole()
    adapted = pipeline.adapt(config, console=console)
    assert adapted.slices[0].name == "as it is"
    assert adapted.slices[0].accuracy == 1.0  # it agrees with itself
    assert adapted.slices[-1].accuracy < 1.0
    assert adapted.to_json()["slices"][0]["agreement"] == 1.0
    rows = [str(name) for name, _ in adapted.shown.rows]
    assert "agreement with the given network, as it is" in rows
    result = pipeline.run_all(config, console=console)
    study = load_study(Workspace(config).study)
    assert study.ranked_by == "agreement"
    assert "accuracy" not in study.values
    manifest = Manifest.read(result.deployment)
    assert (manifest.accuracy.metric, manifest.accuracy.by_class) == ("agreement", None)
    assert len(manifest.classes) == 7
    assert "agreement" in manifest.predicted
    # all that people and programs are told
    page = (result.deployment / "report.html").read_text()
    assert "test images as the given network does" in page
    assert "Agreement with the given network" in page
    answer = best_networks(folder / "run", limits={}, metric="", top=1)
    told = [
        console.said,
        *map(str, (adapted.shown, result.shown, answer.shown)),
        str(answer.values()),
        str(adapted.to_json()),
    ]
    for text in [page, *told]:
        assert "accura" not in text.lower()
    assert pipeline.verify(result.deployment, console=ReadConsole()).exit_status == 0


def test_a_folder_without_classes_is_enough_to_train_by_the_networks_answers(folder: Path) -> None:
    config = asked(folder, data__source=unsorted(folder), train__steps=2, train__batch_size=8)
    console = ReadConsole()
    pipeline.adapt(config, console=console)
    trained = pipeline.train(config, console=console)
    assert trained.data["counts"] == {"train": {"images": 29}, "validation": {"images": 3}, "test": {"images": 8}}
    work = Workspace(config)
    assert (work.images.train.targets == UNLABELLED).all()
    given = Workspace(asked(folder, data__source=config.data.source, train__steps=0)).supernet
    import torch

    with torch.no_grad():
        blocks = work.adapted_space.named_blocks(work.adapted_space.largest())
        (x, y), *_ = work.stream("validation").unaugmented()
        assert given.extract(blocks)(given.fit(x)).argmax(1).tolist() == y.tolist()


def test_the_network_is_asked_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = asked(folder)
    pipeline.adapt(config, console=ReadConsole(), with_images=False)
    first = Workspace(config).data
    assert (folder / "run" / LABELS).is_file()
    monkeypatch.setattr("hwnas.network_labels._answers", None)  # who asks again, fails
    again = Workspace(config).data
    assert again.fingerprint == first.fingerprint != Workspace(config).images.fingerprint
    np.testing.assert_array_equal(again.test.targets, first.test.targets)


def test_answers_to_other_images_are_asked_anew(folder: Path) -> None:
    config = asked(folder)
    pipeline.adapt(config, console=ReadConsole(), with_images=False)
    n = len(Workspace(config).data.test)
    fewer = config.replaced({"data.test_fraction": 0.05})
    assert len(Workspace(fewer).data.test) < n


def test_other_images_have_other_known_accuracies_without_training_too(folder: Path) -> None:
    config = asked(folder)
    pipeline.adapt(config, console=ReadConsole(), with_images=False)
    other = config.replaced({"data.seed": 1})
    assert Workspace(config).weights_and_data() != Workspace(other).weights_and_data()


def test_a_preset_has_no_network_to_ask(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.labels is 'network', which is for a network that is given trained"):
        tiny_config(folder / "run", {"data.labels": "network"})


def test_a_limit_on_accuracy_asks_for_agreement_instead(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"limits has accuracy, .* give agreement instead"):
        asked(folder, limits__accuracy=0.9)
    assert asked(folder, limits__agreement=0.9).limits.absolute()["agreement"].at_least == 0.9  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match=r"limits has agreement, .* give accuracy instead"):
        tiny_config(folder / "run", {"limits.agreement": 0.9})


def test_images_without_labels_are_refused_where_labels_are_needed(folder: Path) -> None:
    with pytest.raises(DataError, match=r'have no labels.*\[data\] labels = "network"'):
        load_data(unsorted(folder), seed=0)


def test_labels_that_are_there_are_left_aside(folder: Path) -> None:
    data = load_data("digits", seed=0, labelled=False)
    assert data.class_names == ()
    assert (data.validation.targets == UNLABELLED).all()
    assert len(data.train) + len(data.validation) + len(data.test) == 1797
