"""Stage `adapt`: from a network of one's own to a space of smaller ones with its weights, before any training."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas._console import Console, format_seconds
from hwnas._places import quoted
from hwnas._tables import format_value
from hwnas.adapted_run import AdaptedRun
from hwnas.allowed import AGREEMENT
from hwnas.config import CONFIG_FILE, Config, load_config, model_name
from hwnas.cost import analytic
from hwnas.errors import ConfigError, TableError
from hwnas.graph import unknown_operators
from hwnas.graph.joining import input_parts, output_parts
from hwnas.pipeline._last_used import begin
from hwnas.pipeline._ranking import rank_by_weights_, ranked
from hwnas.pipeline._sizing import sized_by
from hwnas.pipeline._traced import inputs_of, shared_norms, traced
from hwnas.pipeline._zero_shot import Slice, zero_shot
from hwnas.pipeline.costs import load_costs
from hwnas.quantities import count, metric_name, percent, quantity
from hwnas.results import Result, Shown
from hwnas.row_parts import RowPart
from hwnas.torch_process import prepare_torch
from hwnas.workspace import Workspace

if TYPE_CHECKING:
    from torch import nn

    from hwnas.graph import OpGraph
    from hwnas.spaces.adapted import AdaptedSpace
    from hwnas.supernet.adapted import AdaptedSupernet
    from hwnas.types import Block

_MOST_SHOWN = 4  # names of modules in a reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """What of a network keeps its size.

    Attributes:
        reason: why, as it goes on from "because".
        modules: paths of the layers whose width it concerns.
    """

    reason: str
    modules: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class AdaptResult(Result):
    """What can be elastic of a network.

    Attributes:
        folder: of the run.
        name: of the network.
        slots: regions that are timed by themselves.
        choices: name -> options, precisions left out.
        networks: how many there are, in all precisions.
        macs: of the smallest and of the largest network.
        parameters: likewise.
        latencies_ms: device -> of the fastest and the slowest network there, estimated by its tables; of the run's
            devices those that are profiled for the space.
        fixed: what keeps its size, and why.
        unknown: operators that nothing is known of.
        slices: what some of the networks are worth before any training; none where no images were named.
        outputs: of a network of several, each; none of a network of one.
        inputs: likewise.
        seconds: it took.
        trains: whether the run trains the smaller networks.
    """

    folder: Path
    name: str
    slots: tuple[str, ...]
    choices: Mapping[str, tuple[object, ...]]
    networks: int
    macs: tuple[int, int]
    parameters: tuple[int, int]
    latencies_ms: Mapping[str, tuple[float, float]]
    fixed: tuple[Fixed, ...]
    unknown: tuple[str, ...]
    slices: tuple[Slice, ...]
    outputs: tuple[RowPart, ...]
    inputs: tuple[RowPart, ...]
    seconds: float
    trains: bool

    @property
    def shown(self) -> Shown:
        """In a few lines, by what can be chosen."""
        kinds = Counter(name.rpartition(".")[2] for name in self.choices)
        rows: list[tuple[str, object]] = [
            ("regions", f"{len(self.slots)}: {_some(self.slots)}"),
            ("networks", format_value(self.networks)),
            ("MACs", _span(self.macs)),
            ("parameters", _span(self.parameters)),
        ]
        if self.inputs:
            rows.append(("inputs, in one row", f"{len(self.inputs)}: {', '.join(map(str, self.inputs))}"))
        if self.outputs:
            rows.append(("outputs", f"{len(self.outputs)}: {', '.join(map(str, self.outputs))}"))
        for device, ends in self.latencies_ms.items():
            low, high = (quantity("latency_ms", ms) for ms in ends)
            rows.append((f"latency on {device}", f"{low} to {high} (estimated)"))
        words = {"width": "widths", "depth": "depths", "kernel_size": "kernel sizes", "resolution": "resolutions"}
        for kind, n in kinds.items():
            named = [f"{name.removesuffix(f'.{kind}')}" for name in self.choices if name.rpartition(".")[2] == kind]
            sides = f"{n}: {_some(named)}" if kind != "resolution" else ", ".join(map(str, self.choices[kind]))
            rows.append((words.get(kind, kind), sides))
        for i, found in enumerate(self.slices):
            of = (
                f" of {count(found.images, 'validation image')}"
                if i == 0
                else f", {percent(found.macs / self.macs[1])} of the MACs"
            )
            rows.append((f"{metric_name(found.metric)}, {found.name}", f"{percent(found.accuracy, decimals=1)}{of}"))
        rows.append(("time", format_seconds(self.seconds)))
        notes = [f"stays as it is, because {f.reason}: {_some(f.modules)}" for f in self.fixed]
        if self.outputs:
            notes.append(
                'With [task] name = "outputs" smaller networks learn from all outputs alike: from how far each is from '
                "the given network's, in units of its mean square; a task of your own gets all of them"
            )
        if self.slices and self.slices[0].metric == AGREEMENT:
            notes.append(
                "The labels are what the network itself answers: agreement tells how far others answer as it does, "
                "whether it is right or not; of classes it is the share of samples that are answered alike"
            )
        elif self.slices:
            notes.append(
                "Data without validation images of their own lend some of the training images: a network that was "
                "trained on these scores higher there than on images it never saw"
            )
        else:
            notes.append("What slices of it are worth before any training: name its images with --data")
        folder = quoted(str(self.folder))
        if not self.latencies_ms:
            notes.append(f"How fast they are on a device: not profiled yet; hwnas profile {folder}")
        what = "Train, profile, search, export and verify" if self.trains else "Profile, search, export and verify"
        notes.append(f"{what}: hwnas run {folder}")
        return Shown(title=f"Elastic: {self.name}", rows=rows, notes=notes)


def adapt(
    config: Config, *, console: Console, with_images: bool = True, said: Collection[str] | None = None
) -> AdaptResult:
    """Make the network that [model] names elastic, and keep it in the run's folder.

    Args:
        config: of the run.
        console: where progress is told.
        with_images: evaluate slices of it on the run's images; else these are not looked at.
        said: keys of the configuration that somebody chose; how much later stages spend on a network follows from its
            work, but for these (see `sized_by`). None: all stays as it is.

    Raises:
        ConfigError: there is no [model], or no such function.
        DataError: images are named that cannot be used.
        ModelError: the function or the weights cannot be used.
        GraphError: the network cannot be traced.
        SpaceError: nothing of it can be searched.
    """
    from hwnas.supernet.adapted import AdaptedSupernet
    from hwnas.supernet.given import load_given

    model = config.model
    if model is None:
        raise ConfigError(
            "no network is named; give python:module:function with --input, onnx:FILE, or a [model] section"
        )
    begun = time.monotonic()
    prepare_torch(config.train.threads)
    work = Workspace(config)
    _refuse_other_run(work)  # before minutes may go into it
    if with_images:
        _ = work.images  # what is wrong with them shows before the network is looked at
    module = load_given(model.source, weights=model.weights, inputs=model.input, tell=console.note)
    graphs, numbers = traced(module, model, inputs=inputs_of(module, model), tell=console.note)
    name = model_name(model.source)
    space = _space(name, graphs, config)
    if with_images:  # before anything is written
        work.check_fits(space)
        _tell_of_numbers(work, console)
    _tell_of(module, graphs[-1], work=work, console=console)
    supernet = _ranked(work, AdaptedSupernet(space, numbers).eval(), console=console, with_images=with_images)
    space = supernet.space
    if said is not None:
        n_validation = len(work.images.validation) if with_images else None
        work.config = sized_by(config, space, said=said, n_validation=n_validation, tell=console.note)
    with work.alone("adapting"):
        _refuse_other_run(work)
        begin(work, console=console)
        AdaptedRun(folder=work.folder).write(space, supernet, model=model)
    slices: tuple[Slice, ...] = ()
    if with_images:
        with console.progress(f"{config.ranked_by} of slices") as progress:
            slices = zero_shot(work, space, supernet, progress=progress)
    return AdaptResult(
        folder=work.folder,
        name=name,
        slots=tuple(s.name for s in space.slots),
        choices={c.name: c.options for c in space.choices if not c.name.endswith(".precision")},
        networks=space.count(),
        macs=_ends(space, analytic.macs),
        latencies_ms=dict(_latencies(config, space)),
        parameters=_ends(space, analytic.parameters),
        fixed=_fixed(space),
        unknown=unknown_operators(graphs[-1]),
        slices=slices,
        outputs=output_parts(graphs[-1]),
        inputs=input_parts(graphs[-1]),
        seconds=round(time.monotonic() - begun, 1),
        trains=work.is_trained,
    )


def _refuse_other_run(work: Workspace) -> None:
    """Hold that nothing of another run is written over: its configuration, or the network its supernet is of.

    Raises:
        ConfigError: the folder holds such.
    """
    if any(work.folder.glob("checkpoint*.safetensors")):
        raise ConfigError(
            f"{work.folder} holds a trained supernet, which is of the network as it is there; name another output "
            "folder, or delete its checkpoint files"
        )
    kept = work.folder / CONFIG_FILE
    if kept.is_file() and not work.adapted.exists and load_config(str(work.folder)).model is None:
        raise ConfigError(f"{work.folder} holds a run without a network of its own; name another output folder")


def _tell_of(module: nn.Module, graph: OpGraph, *, work: Workspace, console: Console) -> None:
    """What of a network is not kept as it is, or cannot be."""
    frozen = sum(not p.requires_grad for p in module.parameters())
    if frozen and work.is_trained:
        console.note(
            f"{count(frozen, 'parameter')} of the network were frozen; smaller networks are trained as a whole"
        )
    if work.config.train.batch_norm != "frozen" and (shared := shared_norms(graph)):
        console.warn(
            f"{_some(shared)} normalises by batches in several places; smaller networks get statistics of their own at "
            'the first of them only, and keep the given ones at the others: train.batch_norm = "frozen" keeps all'
        )


def _tell_of_numbers(work: Workspace, console: Console) -> None:
    """That samples which are no images are brought to mean 0 and deviation 1, which the network may not know."""
    assert work.config.model is not None
    if not work.images.are_images and work.config.model.mean is None:
        console.note(
            "the network is given samples of mean 0 and deviation 1 in each channel, by those of the training samples; "
            "if it was trained on others say so, as model.mean = [0.0] and model.std = [1.0] for samples as they are"
        )


def _ranked(work: Workspace, supernet: AdaptedSupernet, *, console: Console, with_images: bool) -> AdaptedSupernet:
    """The supernet with units and blocks in the order in which they would be missed."""
    if work.config.train.batch_norm == "frozen":
        supernet.freeze_statistics_()
    if with_images:
        console.note("ranking channels, heads and blocks by what the network makes of its images")
        return ranked(work, supernet)
    rank_by_weights_(supernet)
    return supernet


def _space(name: str, graphs: Sequence[OpGraph], config: Config) -> AdaptedSpace:
    """What of it is elastic, as the configuration wishes."""
    from hwnas.spaces.adapted.wishes import Wishes
    from hwnas.spaces.adapted.wishes import adapt as made_elastic

    assert config.model is not None
    e = config.model.elastic
    wishes = Wishes(
        width=e.width, residual=e.residual, depth=e.depth, kernel=e.kernel, fixed=e.fixed, multiple_of=e.multiple_of
    )
    return made_elastic(name, graphs, wishes)


# ---------------------------------------------------------------- what is told


def _ends(space: AdaptedSpace, cost: Callable[[Block], int]) -> tuple[int, int]:
    """What the blocks of the smallest and of the largest network cost together."""
    smallest, largest = (
        sum(cost(block) for _, block in space.named_blocks(encoding))
        for encoding in (space.smallest(), space.largest())
    )
    return smallest, largest


def _latencies(config: Config, space: AdaptedSpace) -> Iterator[tuple[str, tuple[float, float]]]:
    """Each of the run's devices that is profiled for the space, with what its fastest and slowest network take."""
    for name in config.device.all:
        work = Workspace(config.part(name, limits={}))  # none that name another device, which need not be profiled
        if not work.tables.is_dir():
            continue
        # tables tell without images, which need not be there yet
        work.training_space = space.restrict(resolutions=config.space.resolutions)
        with contextlib.suppress(TableError):  # they are of other networks, or not complete: as if there were none
            yield work.device.name, load_costs(work).models["latency_ms"].bounds()


def _fixed(space: AdaptedSpace) -> tuple[Fixed, ...]:
    """Layers whose width is no choice, by why it is none."""
    dependencies, spec = space.network.dependencies, space.spec
    elastic = {d for w in spec.widths for d in w.dims if len(w.ratios) > 1}
    by_reason: dict[str, list[str]] = {}
    layers = {w.name: op.name for op in space.network.largest.graph.ops for role, w in op.weights if role == "weight"}
    for dim in dependencies.dims:
        if dim.name not in elastic:
            reason = (
                "blocks hand it on to each other (model.elastic.residual lets it shrink)"
                if dim.joined
                else "it was named in model.elastic.fixed, or has too few channels or too little work"
            )
            by_reason.setdefault(reason, []).extend(layers[w] for w in dim.made_by if w in layers)
    for weight, axes in dependencies.pinned.items():
        if axes.get(0) and weight in layers:  # what has no reason has one position, as a class token
            by_reason.setdefault(axes[0], []).append(layers[weight])
    return tuple(Fixed(reason=reason, modules=tuple(dict.fromkeys(names))) for reason, names in by_reason.items())


def _span(ends: tuple[int, int]) -> str:
    return f"{format_value(ends[0])} to {format_value(ends[1])}"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_SHOWN])
    more = len(names) - _MOST_SHOWN
    return f"{shown} and {count(more, 'other')}" if more > 0 else shown
