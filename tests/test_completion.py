"""What a shell is offered while a command is typed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hwnas import _completion, registry
from hwnas.config import Config


def offered(*words: str) -> list[str]:
    """As bash asks for the last word."""
    asked = {"_HWNAS_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv = ['hwnas']; from hwnas.cli import main; main()"],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_every_key_of_a_configuration_is_offered() -> None:
    offered = _completion.setting_keys("")
    assert {"train.steps=", "search.n_trials=", "model.elastic.width=", "data.source="} <= set(offered)
    assert len(set(offered)) == len(offered)
    # each is a key, not a section: with a value that has no place anywhere it is not called unknown
    for key in offered:
        section, _, name = key.removesuffix("=").partition(".")
        assert section in Config.model_fields
        assert name or section == "budgets"


def test_strategies_are_offered_by_what_is_typed_of_them() -> None:
    assert _completion.strategy_names("") == list(registry.names("strategies"))
    assert _completion.strategy_names("split") == ["split-sandwich"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("hwnas", "prof"), ["profile"]),
        (("hwnas", "run", "--set", "train.st"), ["train.start_from=", "train.strategy=", "train.steps="]),
        (("hwnas", "query", "runs/mine", "--device", "cpu-l"), ["cpu-litert"]),
        (("hwnas", "run", "--limit", "latency_m"), ["latency_ms="]),
    ],
)
def test_a_shell_is_answered(words: tuple[str, ...], found: list[str]) -> None:
    assert offered(*words) == found
