"""The whole way with a kind of block and a space from a file of the user's, which no part of hwnas knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hwnas import pipeline
from hwnas.config import Config, load_config
from hwnas.pipeline.costs import load_costs
from hwnas.search import load_study
from hwnas.testing.run import tiny_config
from hwnas.workspace import Workspace
from tests.runs import ReadConsole

MODULE = '''
from hwnas import registry
from hwnas.graph import GraphBuilder
from hwnas.spaces import Space
from hwnas.spaces.kinds import BlockKind
from hwnas.spaces.parts import conv_norm
from hwnas.types import Block, Choice, Slot


def twice(block, attributes):
    """Two convolutions whose outputs are added."""
    g = GraphBuilder()
    x = g.input(block.in_shape)
    size = int(attributes["kernel_size"])
    a = conv_norm(g, x, block.out_shape[0], kernel_size=size, stride=2, name="a")
    b = conv_norm(g, x, block.out_shape[0], stride=2, name="b")
    return g.build(g.op("add", a, b, name="sum"))


registry.register(
    "block_kinds", "own-twice", BlockKind(name="own-twice", build=twice, required=("kernel_size",))
)


class OwnSpace(Space):
    """Two blocks of one's own kind, with a choice of kernel size each, and a shipped head."""

    kind = "own-space"
    precisions = ("fp32",)

    def __init__(self, name, in_channels, n_classes):
        self.shapes = ((in_channels, 8, 8), (8, 4, 4), (8, 2, 2), (n_classes,))
        choices = [Choice(name=f"kernel{i}", options=(1, 3, 5)) for i in range(2)]
        slots = [Slot(name=f"blocks.{i}", depends_on=(i,)) for i in range(2)]
        super().__init__(name, choices=choices, slots=[*slots, Slot(name="head", depends_on=())])

    def block_at(self, slot, options):
        kind, attributes = "classifier", ()
        if slot < 2:
            kind, attributes = "own-twice", (("kernel_size", (1, 3, 5)[options[0]]),)
        return Block(
            kind=kind,
            in_shape=self.shapes[slot],
            out_shape=self.shapes[slot + 1],
            precision="fp32",
            attributes=attributes,
        )

    def arguments(self):
        return {"in_channels": self.shapes[0][0], "n_classes": self.shapes[-1][0]}

    @classmethod
    def from_arguments(cls, name, arguments):
        return cls(name, **arguments)


def make(in_channels, n_classes):
    return OwnSpace("own", in_channels, n_classes)
'''


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Config, pipeline.RunResult]]:
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_space_of_a_user.py").write_text(MODULE)
    changes = {
        "space.preset": "python:own_space_of_a_user:make",
        "limits.latency_fraction": 1.2,
        "train.steps": 2,
        "profile.n_networks": 8,
        "search.n_trials": 3,
        "search.population_size": 2,
        "deploy.test_samples": 20,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config = tiny_config(folder / "run", changes)
        yield config, pipeline.run_all(config, console=ReadConsole())


def test_every_block_of_the_space_is_in_the_table(made: tuple[Config, pipeline.RunResult]) -> None:
    work = Workspace(made[0])
    wanted = {block.key for block in work.space.distinct_blocks()}
    assert {key.partition("|")[0] for key in wanted} == {"own-twice", "classifier"}
    assert wanted <= set(load_costs(work).entries)


def test_the_search_finds_networks_of_the_space(made: tuple[Config, pipeline.RunResult]) -> None:
    work = Workspace(made[0])
    study = load_study(work.study)
    assert len(study) == 3
    assert all(set(study.trial_at(i).architecture) == {"kernel0", "kernel1"} for i in range(3))


def test_the_deployment_keeps_what_it_promises(made: tuple[Config, pipeline.RunResult]) -> None:
    assert made[1].manifest.parity.top1_agreement == 1.0
    assert pipeline.verify(Path(made[1].deployment), console=ReadConsole()).exit_status == 0


def test_the_report_draws_its_blocks(made: tuple[Config, pipeline.RunResult]) -> None:
    assert "own-twice" in (Path(made[1].deployment) / "report.html").read_text()


def test_the_runs_configuration_names_the_function(made: tuple[Config, pipeline.RunResult]) -> None:
    again = load_config(made[0].output.folder)
    assert again.space.preset == "python:own_space_of_a_user:make"
    assert Workspace(again).identity == Workspace(made[0]).identity
