"""Studies that can be compared, made by searches of a small space."""

from __future__ import annotations

import dataclasses
from typing import Any

from hwnas.search import Problem, Sampling, Study, search
from tests.search.problems import SPACE, cost, quality


def study(sampler: str = "random", seed: int = 0, *, n: int = 20, **changes: Any) -> Study:
    """Of a search whose accuracy is within [0, 1]."""
    problem = Problem(
        SPACE,
        {"accuracy": "maximize", "cost": "minimize"},
        n_trials=n,
        limits=changes.pop("within", None),
        closed_form={"cost": cost},
    )
    found = search(
        problem,
        lambda architecture: {"accuracy": quality(architecture)["accuracy"] ** 0.5 / 4},
        sampling=Sampling(sampler=sampler, seed=seed),
    )
    told = {"device": "here", "sampler": sampler, "seed": seed, **found.provenance}
    return dataclasses.replace(found, **{"provenance": told, **changes})
