"""Conformance checks for samplers: what `search` promises, whatever proposes the networks.

A sampler of one's own joins with one parametrised test:

    @pytest.mark.parametrize("check", SAMPLER_CHECKS)
    def test_my_sampler(check, tmp_path):
        check(my_factory, tmp_path)

Knows the search only through its public functions; never how a sampler works.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from hwnas.precisions import INTEGERS
from hwnas.search import Problem, Sampling, Study, search
from hwnas.search.space_sampler import SamplerFactory
from hwnas.spaces import CategoricalSpace
from hwnas.types import PRECISIONS, FloatArray, IntArray, Option

SamplerCheck = Callable[[str | SamplerFactory, Path], None]

COST_LIMIT = 9.0


def suite_space() -> CategoricalSpace:
    """Seven choices, three of them switched off by others: 312 distinct networks of 648 encodings."""
    return CategoricalSpace(
        {
            "depth": (1, 2, 3),
            "kernel_1": (3, 5, 7),
            "kernel_2": (3, 5, 7),
            "kernel_3": (3, 5, 7),
            "width": (1.0, 1.5),
            "precision": PRECISIONS,
            "gate": (False, True),
        },
        name="sampler-suite",
        conditions={"kernel_2": ("depth", (2, 3)), "kernel_3": ("depth", (3,))},
    )


def small_space() -> CategoricalSpace:
    """Two choices, one of them switched off by the other: 4 distinct networks of 6 encodings."""
    return CategoricalSpace(
        {"block": ("none", "conv"), "kernel": (3, 5, 7)}, name="small", conditions={"kernel": ("block", ("conv",))}
    )


def suite_cost(encodings: IntArray) -> FloatArray:
    """(N, D) -> (N,) a made-up cost of architectures of `suite_space`."""
    weights = np.array([2.0, 1.0, 1.0, 1.0, 3.0, -1.0, 0.5])
    cost: FloatArray = 1.0 + np.asarray(encodings, dtype=float) @ weights
    return cost


def suite_quality(architecture: Mapping[str, Option]) -> dict[str, float]:
    """Made-up accuracy in [0, 1] of an architecture of `suite_space`."""
    kernels = [int(architecture.get(f"kernel_{i}", 0)) for i in (1, 2, 3)]
    score = sum(kernels) + 4 * float(architecture["width"]) - 2 * (architecture["precision"] == INTEGERS)
    return {"accuracy": score / 32 + 0.02 * bool(architecture["gate"]) * (kernels[0] == 5)}


def check_keeps_limits(sampler: str | SamplerFactory, folder: Path) -> None:
    """Every trial keeps a limit on a closed-form metric, also one that few networks keep."""
    for limit in (COST_LIMIT, 2.0):
        study = _search(sampler, n_trials=12, limit=limit)
        assert len(study) > 0
        assert study.feasible.all()
        assert (study.values["cost"] <= limit).all()


def check_never_repeats(sampler: str | SamplerFactory, folder: Path) -> None:
    """No network is evaluated twice, and every trial is in canonical form."""
    asked: list[tuple[tuple[str, Option], ...]] = []

    def evaluate(architecture: dict[str, Option]) -> dict[str, float]:
        asked.append(tuple(sorted(architecture.items())))
        return suite_quality(architecture)

    study = _search(sampler, n_trials=60, evaluate=evaluate)
    assert len(study) == len(asked) == len(set(asked)) == 60
    assert (suite_space().canonical(study.encodings) == study.encodings).all()


def check_is_deterministic(sampler: str | SamplerFactory, folder: Path) -> None:
    """The same seed gives the same trials; another seed gives others."""
    first, again, other = (_search(sampler, n_trials=30, seed=seed) for seed in (1, 1, 2))
    assert (first.encodings == again.encodings).all()
    assert (first.encodings != other.encodings).any()


def check_exhausts_a_small_space(sampler: str | SamplerFactory, folder: Path) -> None:
    """A space with fewer networks than trials is evaluated once completely; then the search ends and says so."""
    space = small_space()
    study = search(
        Problem(space, {"accuracy": "maximize"}, n_trials=20),
        lambda architecture: {"accuracy": float(architecture.get("kernel", 1))},
        sampling=Sampling(sampler=sampler),
    )
    assert len(study) == space.count() == 4
    assert "4 of 20" in study.note


def check_resumes(sampler: str | SamplerFactory, folder: Path) -> None:
    """A search that stopped half way goes on to the number of trials asked for, and repeats nothing."""
    storage = folder / "suite.journal"
    half = _search(sampler, n_trials=15, storage=storage)
    whole = _search(sampler, n_trials=30, storage=storage)
    assert len(whole) == 30
    assert (whole.encodings[:15] == half.encodings).all()
    assert len(np.unique(whole.encodings, axis=0)) == 30


def check_learns_under_an_evaluated_limit(sampler: str | SamplerFactory, folder: Path) -> None:
    """A limit on a metric known only after evaluation marks trials, and ends nothing."""
    study = search(
        Problem(
            suite_space(),
            {"accuracy": "maximize", "measured_cost": "minimize"},
            n_trials=40,
            limits={"measured_cost": 2.0},
        ),
        lambda architecture: {**suite_quality(architecture), "measured_cost": float(architecture["depth"])},
        sampling=Sampling(sampler=sampler, seed=3),
    )
    assert (study.feasible == (study.values["measured_cost"] <= 2.0)).all()
    assert study.best("accuracy").feasible


SAMPLER_CHECKS: tuple[SamplerCheck, ...] = (
    check_keeps_limits,
    check_never_repeats,
    check_is_deterministic,
    check_exhausts_a_small_space,
    check_resumes,
    check_learns_under_an_evaluated_limit,
)


def _search(
    sampler: str | SamplerFactory,
    *,
    n_trials: int,
    seed: int = 0,
    limit: float = COST_LIMIT,
    evaluate: Callable[[dict[str, Option]], Mapping[str, float]] = suite_quality,
    storage: Path | None = None,
) -> Study:
    return search(
        Problem(
            suite_space(),
            {"accuracy": "maximize", "cost": "minimize"},
            n_trials=n_trials,
            limits={"cost": limit},
            closed_form={"cost": suite_cost},
        ),
        evaluate,
        sampling=Sampling(sampler=sampler, seed=seed),
        storage=storage,
    )
