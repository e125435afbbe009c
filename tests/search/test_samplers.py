"""Every registered sampler passes the conformance checks."""

from pathlib import Path

import pytest
from optuna.samplers import BaseSampler

from hwnas import registry
from hwnas.search import Problem
from hwnas.testing.search_suite import SAMPLER_CHECKS, SamplerCheck, small_space, suite_space


def late_gp(problem: Problem, /, *, seed: int) -> BaseSampler:
    """As registered, but the process, which takes long, proposes the last two networks alone."""
    factory = registry.load("samplers", "gp")
    sampler: BaseSampler = factory(problem, seed=seed, n_startup_trials=max(2, problem.n_trials - 2))
    return sampler


@pytest.mark.parametrize("name", registry.names("samplers"))
@pytest.mark.parametrize("check", SAMPLER_CHECKS, ids=lambda c: c.__name__)
def test_registered_sampler(name: str, check: SamplerCheck, tmp_path: Path) -> None:
    check(late_gp if name == "gp" else name, tmp_path)


def test_suite_spaces_have_the_sizes_their_docs_say() -> None:
    assert (suite_space().count(), small_space().count()) == (312, 4)
