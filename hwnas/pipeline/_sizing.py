"""How much later stages spend on one network of a given one: by its work, which may be 300 times a small one's.

Knows configurations and spaces; never images, devices or a trained network.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from hwnas.config import Config
from hwnas.cost import analytic
from hwnas.quantities import count, quantity

if TYPE_CHECKING:
    from hwnas.spaces.adapted import AdaptedSpace

# MACs that the largest network's images may cost in one evaluation; a core does some 2e10 a second
_RECALIBRATION, _CALIBRATION = 2e10, 1e10
_VALIDATION, _VALIDATION_TRAINED = 3e10, 1.2e11  # who trained for hours has minutes to compare what came of it
_FEWEST = {"search.validation_samples": 100, "search.recalibration_samples": 64, "search.calibration_samples": 32}
_TRIALS_UNTRAINED = 40  # slices of a network that was not trained for it are soon worth nothing: fronts are short
_LARGE = 1e8  # MACs, from which whole networks take seconds to be written and timed
_NETWORKS_LARGE = 12  # that correct sums of blocks: of large networks these are off by little


def sized_by(
    config: Config,
    space: AdaptedSpace,
    *,
    said: Collection[str],
    n_validation: int | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Config:
    """The configuration with numbers of images, trials and timed networks that follow from the given network's work.

    Never more than the configuration has, and nothing that was said.

    Args:
        config: of the run.
        space: of the given network.
        said: keys that somebody chose.
        n_validation: how many validation images there are; None: nobody knows yet, and all are used.
        tell: told what was changed.
    """
    macs = max(1, sum(analytic.macs(b) for _, b in space.named_blocks(space.largest())))
    trained = config.train.steps != 0
    spent = {
        "search.validation_samples": _VALIDATION_TRAINED if trained else _VALIDATION,
        "search.recalibration_samples": _RECALIBRATION,
        "search.calibration_samples": _CALIBRATION,
    }
    wanted = {key: max(_FEWEST[key], int(most / macs)) for key, most in spent.items()}
    if not trained:
        wanted["search.n_trials"] = _TRIALS_UNTRAINED
    if macs >= _LARGE:
        wanted["profile.n_networks"] = _NETWORKS_LARGE
    most = {"search.validation_samples": n_validation or 0}
    changed = {key: n for key, n in wanted.items() if key not in said and n < _now(config, key, all=most.get(key, 0))}
    if changed:
        also = "" if trained else ", and nothing is trained"
        tell(
            f"one image costs this network {quantity('macs', macs)} MACs{also}, so config.toml has {_listed(changed)}; "
            "it may say otherwise"
        )
    return config.replaced(changed) if changed else config


def _now(config: Config, key: str, *, all: int) -> int:
    """What the configuration has; `all` where it has all there are."""
    section, _, name = key.partition(".")
    value: int | None = getattr(getattr(config, section), name)
    return all if value is None else value


def _listed(changed: Mapping[str, int]) -> str:
    nouns = {
        "search.validation_samples": ("validation image", ""),
        "search.recalibration_samples": ("image", " for normalisation"),
        "search.calibration_samples": ("image", " for ranges of int8"),
        "search.n_trials": ("trial", ""),
        "profile.n_networks": ("timed network", " of each precision"),
    }
    return ", ".join(count(n, nouns[key][0]) + nouns[key][1] for key, n in changed.items())
