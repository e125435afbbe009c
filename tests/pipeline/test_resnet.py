"""The whole way with a family that no stage knows by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hwnas import pipeline, registry
from hwnas.config import Config
from hwnas.pipeline.costs import load_costs
from hwnas.search import load_study
from hwnas.spaces import StageSpec
from hwnas.spaces.resnet import ResNetSpace, ResNetSpec
from hwnas.testing.run import tiny_config
from hwnas.workspace import Workspace
from tests.runs import ReadConsole


def tiny_resnet(in_channels: int, n_classes: int) -> ResNetSpace:
    """Two stages of one or two blocks on 8x8 images."""
    return ResNetSpace(
        "tiny-resnet",
        ResNetSpec(
            in_channels=in_channels,
            n_classes=n_classes,
            resolutions=(8,),
            stem_channels=8,
            stages=[
                StageSpec(
                    channels=c, stride=s, depths=(1, 2), kernel_sizes=(3,), expand_ratios=(1, 2), activations=("relu",)
                )
                for c, s in ((8, 1), (16, 2))
            ],
        ),
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Config, pipeline.RunResult]]:
    changes = {
        "space.preset": "tiny-resnet",
        "space.precisions": ["int8"],
        "limits.latency_fraction": 1.2,  # on the simulated device integers gain nothing in networks this small
        "train.steps": 2,
        "search.n_trials": 4,
        "search.population_size": 2,
        "deploy.test_samples": 20,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._BUILT_IN["spaces"], "tiny-resnet", (f"{__name__}:tiny_resnet", ""))
        config = tiny_config(tmp_path_factory.mktemp("resnet") / "run", changes)
        yield config, pipeline.run_all(config, console=ReadConsole())


def test_every_block_of_the_space_is_in_the_table(made: tuple[Config, pipeline.RunResult]) -> None:
    work = Workspace(made[0])
    entries = load_costs(work).entries
    wanted = {block.key for block in work.space.distinct_blocks()}
    assert {key.partition("|")[0] for key in wanted} == {"conv", "basic", "classifier", "quantize", "dequantize"}
    assert wanted <= set(entries)


def test_the_search_finds_networks_of_the_space(made: tuple[Config, pipeline.RunResult]) -> None:
    work = Workspace(made[0])
    study = load_study(work.study)
    assert len(study) == 4
    assert all(len(work.space.encode(study.trial_at(i).architecture)) for i in range(4))


def test_the_deployment_keeps_what_it_promises(made: tuple[Config, pipeline.RunResult]) -> None:
    verified = pipeline.verify(Path(made[1].deployment), console=ReadConsole())
    assert verified.exit_status == 0
    assert made[1].manifest.parity.top1_agreement == 1.0


def test_the_report_draws_its_blocks(made: tuple[Config, pipeline.RunResult]) -> None:
    page = (Path(made[1].deployment) / "report.html").read_text()
    assert "basic 3×3" in page
    assert "classifier" in page
