"""Labels by a given network: what it answers to the images that smaller networks are evaluated on, asked once a run.

    network_labels.safetensors   its answers to the validation and test samples, in their order

Training images get none: networks learn from all of what the given one says of an image, not from its answer alone.
Knows a run's folder and images; torch inside functions only.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwnas.adapted_run import AdaptedRun
from hwnas.data import ArrayDataset, Data
from hwnas.data.arrays import Targets
from hwnas.errors import IntegrityError
from hwnas.files import write_whole
from hwnas.graph.joining import output_parts
from hwnas.integrity import digest, open_tensors, seal_tensors

if TYPE_CHECKING:
    from hwnas.spaces.adapted import AdaptedSpace
    from hwnas.supernet.subnetwork import SubNetwork
    from hwnas.tasks import Task

LABELS = "network_labels.safetensors"
SCHEMA = 1
_PARTS = ("validation", "test")
_BATCH = 64  # images at once


def labelled_by_network(data: Data, run: AdaptedRun, space: AdaptedSpace, *, task: Task) -> Data:
    """The data set with the given network's answers as labels of what networks are evaluated on.

    Args:
        data: without labels, normalised as the network sees it.
        run: what keeps the network, and its answers.
        space: that was made of the network.
        task: what the network is for.

    Raises:
        CheckpointError: the network's weights cannot be read.
    """
    other = [] if task.name == "classification" else [task.name]  # of classes there was no other task once
    of = digest([data.fingerprint, run.weights_digest(), *other])
    parts = {name: getattr(data, name) for name in _PARTS}
    path = run.folder / LABELS
    answers = _kept(path, of=of, sizes={name: len(part) for name, part in parts.items()})
    if answers is None:
        network = run.supernet(space, whole=space).extract(space.named_blocks(space.largest()))
        answers = {name: _answers(network, part, data=data, task=task) for name, part in parts.items()}
        with contextlib.suppress(OSError):  # of a run that can only be read it is asked again
            _keep(path, answers, of=of)
    several = output_parts(space.network.largest.graph)
    n_outputs = [block.out_shape for _, block in space.named_blocks(space.largest())][-1][0]
    answered = {name: dataclasses.replace(part, targets=answers[name]) for name, part in parts.items()}
    names = [part.name for part in several] or list(map(str, range(n_outputs)))
    # to networks of another one these are other data
    return dataclasses.replace(data, **answered, class_names=tuple(names), fingerprint=of)


def _keep(path: Path, answers: Mapping[str, Targets], *, of: str) -> None:
    from safetensors.numpy import save

    stored = {name: np.ascontiguousarray(values) for name, values in answers.items()}
    write_whole(path, seal_tensors(save(stored, metadata={"schema": str(SCHEMA), "of": of})))


def _kept(path: Path, *, of: str, sizes: Mapping[str, int]) -> Mapping[str, Targets] | None:
    """The answers of an earlier stage; None where there are none, or they are another network's or to other samples."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        data = path.read_bytes()
        told = open_tensors(data)
        found = load(data)
        known = told.get("schema") == str(SCHEMA) and told.get("of") == of
        return found if known and {name: len(found[name]) for name in _PARTS} == sizes else None
    except (OSError, IntegrityError, SafetensorError, KeyError, TypeError, ValueError):  # asked again
        return None


def _answers(network: SubNetwork, part: ArrayDataset, *, data: Data, task: Task) -> Targets:
    import torch

    from hwnas.data.tensors import fit
    from hwnas.supernet.batches import BatchStream

    stream = BatchStream(part, batch_size=_BATCH, mean=data.mean, std=data.std)
    with torch.inference_mode():
        found = [task.answers(network(fit(x, network.in_shape))) for x, _ in stream.unaugmented()]
    return np.asarray(torch.cat(found).numpy())
