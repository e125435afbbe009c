"""The whole way with networks of tokens, which no stage knows by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hwnas import pipeline, registry
from hwnas.config import Config
from hwnas.pipeline.costs import load_costs
from hwnas.spaces.vision_transformer import TransformerStage, VisionTransformerSpace, VisionTransformerSpec
from hwnas.testing.run import tiny_config
from hwnas.workspace import Workspace
from tests.runs import ReadConsole


def tiny_transformer(in_channels: int, n_classes: int) -> VisionTransformerSpace:
    """One or two blocks on 8x8 images, at two resolutions."""
    stage = TransformerStage(embed_dims=(8, 16), depths=(1, 2), heads=(1, 2), mlp_ratios=(1, 2))
    return VisionTransformerSpace(
        "tiny-transformer",
        VisionTransformerSpec(
            in_channels=in_channels, n_classes=n_classes, resolutions=(4, 8), patch_size=2, head_width=8, stages=[stage]
        ),
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Config, pipeline.RunResult]]:
    changes = {
        "space.preset": "tiny-transformer",
        "train.steps": 2,
        "search.n_trials": 4,
        "search.population_size": 2,
        "deploy.test_samples": 20,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._BUILT_IN["spaces"], "tiny-transformer", (f"{__name__}:tiny_transformer", ""))
        config = tiny_config(tmp_path_factory.mktemp("transformer") / "run", changes)
        yield config, pipeline.run_all(config, console=ReadConsole())


def test_every_block_of_the_space_is_in_the_table(made: tuple[Config, pipeline.RunResult]) -> None:
    work = Workspace(made[0])
    wanted = {block.key for block in work.space.distinct_blocks()}
    kinds = {"patch_embedding", "self_attention", "mlp", "token_classifier", "quantize", "dequantize"}
    assert {key.partition("|")[0] for key in wanted} == kinds
    assert wanted <= set(load_costs(work).entries)


def test_the_deployment_keeps_what_it_promises(made: tuple[Config, pipeline.RunResult]) -> None:
    assert pipeline.verify(Path(made[1].deployment), console=ReadConsole()).exit_status == 0


def test_the_report_draws_its_blocks_by_their_features(made: tuple[Config, pipeline.RunResult]) -> None:
    page = (Path(made[1].deployment) / "report.html").read_text()
    assert "self_attention" in page
    assert "token_classifier" in page
