"""Makes a run's catalogue: its studies' networks at each profiled device's costs, and the predicted ones beside them.

Knows a run's folder; never a runtime, a fleet or a page. Loads no torch: everything is read from files.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from hwnas._console import Console
from hwnas._places import quoted
from hwnas.catalogue.networks import Catalogue, DeviceNetworks
from hwnas.catalogue.pool import promising
from hwnas.catalogue.predicting import FEATURES, AccuracyPredictor
from hwnas.catalogue.predictor_file import load_predictor
from hwnas.config import Config, device_name
from hwnas.errors import HwnasError, MissingPackageError, PredictorError, TableError, UnknownNameError
from hwnas.files import sha256_file
from hwnas.pipeline.costs import Costs, load_costs
from hwnas.pipeline.evaluated import Evaluated, evaluated_on
from hwnas.quantities import count
from hwnas.search import Study
from hwnas.types import FloatArray, IntArray
from hwnas.workspace import Workspace

N_PREDICTED = 50_000
PAID = ("latency_ms", "size_bytes", "energy_mj", "memory_bytes", "macs")  # costs by which networks are offered
_LEAST = 8  # evaluated networks: what is learned from fewer is not worth offering


@dataclass(frozen=True, kw_only=True)
class KnownDevice:
    """A device with what is known of it."""

    work: Workspace
    costs: Costs
    evaluated: Evaluated

    @property
    def supernet(self) -> str:
        """SHA-256 of the weights whose sub-networks were evaluated; empty if they are not there."""
        checkpoint = self.work.checkpoint
        return sha256_file(checkpoint) if checkpoint.exists() else ""

    @property
    def predictor(self) -> Path:
        """Where the predictor of its accuracies is kept."""
        return self.work.searched / "predictor.json"

    def predict(self, *, seed: int) -> AccuracyPredictor:
        """The predictor that is kept, or a new one where that is not of these networks."""
        study, models = self.evaluated.study, self.costs.models
        space = self.work.space.fingerprint()
        with contextlib.suppress(PredictorError):
            return load_predictor(self.predictor, study, models, space=space, supernet=self.supernet, seed=seed)
        return AccuracyPredictor(study, models, seed=seed)


def open_catalogue(
    config: Config, *, console: Console, devices: Sequence[str] = (), n_predicted: int = N_PREDICTED
) -> Catalogue:
    """What a run offers on each device that is profiled for its space.

    Args:
        config: of the run.
        console: told of devices that are left out, and why.
        devices: more of them than the run's own and those with tables in its folder that are known by name: paths of
            their descriptions. One of these that is not profiled is an error.
        n_predicted: networks to predict, for each space; 0, or where a package for it is not installed: none.

    Raises:
        StudyError: the run has no finished study.
        TableError: a device that was named is not profiled, or none is.
    """
    first = Workspace(config.whole.part(config.device.all[0]))
    known: dict[str, KnownDevice] = {}
    for entry in _entries(config, first.tables.parent, devices):
        try:
            work = known[next(iter(known))].work.on(entry) if known else first.on(entry)
            costs = _costs(work)
            found = KnownDevice(work=work, costs=costs, evaluated=evaluated_on(work, costs))
        except HwnasError as e:
            if entry in devices:
                raise
            # tables tell a name; where the description was is not known
            hint = "; name the file of its description with --device" if isinstance(e, UnknownNameError) else ""
            console.note(f"{device_name(entry)} is left out: {e}{hint}")
            continue
        known[found.work.device.name] = found
    if not known:
        raise TableError(
            f"no device is profiled and searched for in {first.folder}; `hwnas run {quoted(first.folder)}` does both"
        )
    entered = partial(_entered, list(known.values()), seed=config.search.seed)
    try:
        return Catalogue(dict(entered(n_predicted=n_predicted)))
    except ModuleNotFoundError as e:
        missing = MissingPackageError.of(e, needed_for="predicting the others")
        if missing is None:
            raise
        console.note(f"networks that were evaluated are offered, and no others: {missing}")
        return Catalogue(dict(entered(n_predicted=0)))


def networks_of(config: Config, device: str, *, n_predicted: int = 0) -> DeviceNetworks:
    """What a run offers on one device, its own or another that is profiled for its space.

    Args:
        config: of the run.
        device: a name, or the path of a description; empty: the run's only one.
        n_predicted: networks to predict; 0: none.

    Raises:
        UnknownNameError, ConfigError: it is not described, or not named and the run is for several.
        TableError: it is not profiled.
        StudyError: the run has no finished study, or none of its networks can be had there.
    """
    known = known_device(config, device)
    ((_, found),) = _entered([known], n_predicted=n_predicted, seed=config.search.seed)
    return found


def known_device(config: Config, device: str) -> KnownDevice:
    """What is known of one device; arguments and errors as of `networks_of`."""
    work = Workspace(config.whole.part_for(device))
    costs = _costs(work)
    return KnownDevice(work=work, costs=costs, evaluated=evaluated_on(work, costs))


def _entries(config: Config, tables: Path, devices: Sequence[str]) -> Iterator[str]:
    """The run's devices, those that were named, and those with tables; each once."""
    seen: set[str] = set()
    profiled = sorted(path.name for path in tables.glob("*/") if any(path.glob("*.jsonl")))
    for entry in (*config.whole.device.all, *devices, *profiled):
        if device_name(entry) not in seen:
            seen.add(device_name(entry))
            yield entry


def costs_of(config: Config, device: str) -> Costs:
    """What blocks cost on one device of a run; arguments and errors as of `networks_of`."""
    return _costs(Workspace(config.whole.part_for(device)))


def _costs(work: Workspace) -> Costs:
    name = work.device.name
    try:
        return load_costs(work)
    except TableError as e:
        if not work.tables.is_dir():
            raise TableError(
                f"{name} is not profiled for the space of this run; measure it with "
                f"`hwnas profile {quoted(work.folder)} --device {quoted(name)}`"
            ) from e
        raise


def _entered(known: Sequence[KnownDevice], *, n_predicted: int, seed: int) -> Iterator[tuple[str, DeviceNetworks]]:
    """Each device with its networks; devices that compute alike share one prediction."""
    shared: dict[tuple[str, str], tuple[IntArray, FloatArray, FloatArray, int] | None] = {}
    for device in known:
        alike = [k for k in known if _kind(k) == _kind(device)]
        if _kind(device) not in shared:
            shared[_kind(device)] = _predicted(alike, most=n_predicted, seed=seed)
        yield (
            device.work.device.name,
            DeviceNetworks(
                device=device.work.device.name,
                entry=device.work.config.device.all[0],
                runtime=device.work.device.runtime,
                space=device.work.space,
                evaluated=device.evaluated.study,
                predicted=_as_study(device, shared[_kind(device)]),
                searched_for=device.evaluated.devices,
                left_out=device.evaluated.left_out,
            ),
        )


def _kind(known: KnownDevice) -> tuple[str, str]:
    """What two devices must have in common for one accuracy to be that of both."""
    return known.work.space.fingerprint(), known.work.runtime.quantization


def _predicted(
    alike: Sequence[KnownDevice], *, most: int, seed: int
) -> tuple[IntArray, FloatArray, FloatArray, int] | None:
    """Networks worth offering on some devices that compute alike, with the accuracy predicted for each."""
    one = alike[0]
    study, models = one.evaluated.study, one.costs.models
    if most < 1 or len(study) < _LEAST:
        return None
    predictor = one.predict(seed=seed)
    costs = [models[m] for m in ("size_bytes", *FEATURES) if m in models]
    costs += [k.costs.models[m] for k in alike for m in PAID if m in k.costs.models and m not in ("size_bytes", "macs")]
    start = study.encodings.astype(np.int64)
    encodings, mean, std = promising(one.work.space, predictor, costs, start=start, most=most, seed=seed)
    return encodings, mean, std, predictor.n_networks


def _as_study(known: KnownDevice, predicted: tuple[IntArray, FloatArray, FloatArray, int] | None) -> Study | None:
    """Predicted networks in the columns of evaluated ones, with what they cost on one device."""
    if predicted is None or not len(predicted[0]):
        return None
    encodings, mean, std, n_networks = predicted
    estimates = {metric: model.estimate(encodings) for metric, model in known.costs.models.items()}
    study = known.evaluated.study
    metric = study.ranked_by
    return dataclasses.replace(
        study,
        name="predicted",
        numbers=np.arange(len(encodings)),
        encodings=encodings,
        values={metric: mean, **{m: estimate.value for m, estimate in estimates.items()}},
        upper={metric: estimate.upper for metric, estimate in estimates.items()},
        standard_errors={metric: std},
        feasible=np.ones(len(encodings), dtype=bool),
        sources={**study.sources, metric: f"predicted from {count(n_networks, 'evaluated network')}"},
    )
