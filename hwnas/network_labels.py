"""Labels by a given network: what it answers to the images that smaller networks are evaluated on, asked once a run.

    network_labels.json      its answers to the validation and test images, in their order

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
from hwnas.errors import IntegrityError
from hwnas.files import read_document, write_document
from hwnas.integrity import digest

if TYPE_CHECKING:
    from hwnas.spaces.adapted import AdaptedSpace
    from hwnas.supernet.subnetwork import SubNetwork

LABELS = "network_labels.json"
SCHEMA = 1
_PARTS = ("validation", "test")
_BATCH = 64  # images at once


def labelled_by_network(data: Data, run: AdaptedRun, space: AdaptedSpace) -> Data:
    """The data set with the given network's answers as labels of what networks are evaluated on.

    Args:
        data: without labels, normalised as the network sees it.
        run: what keeps the network, and its answers.
        space: that was made of the network.

    Raises:
        CheckpointError: the network's weights cannot be read.
    """
    of = digest([data.fingerprint, run.weights_digest()])
    parts = {name: getattr(data, name) for name in _PARTS}
    path = run.folder / LABELS
    labels = _kept(path, of=of)
    if labels is None:
        network = run.supernet(space, whole=space).extract(space.named_blocks(space.largest()))
        labels = {name: _answers(network, part, data=data) for name, part in parts.items()}
        with contextlib.suppress(OSError):  # of a run that can only be read it is asked again
            write_document(path, {"schema": SCHEMA, "of": of, "labels": labels})
    (n_classes,) = [block.out_shape for _, block in space.named_blocks(space.largest())][-1]
    answered = {
        name: dataclasses.replace(part, labels=np.array(labels[name], dtype=np.int64)) for name, part in parts.items()
    }
    # to networks of another one these are other data
    return dataclasses.replace(data, **answered, class_names=tuple(map(str, range(n_classes))), fingerprint=of)


def _kept(path: Path, *, of: str) -> Mapping[str, list[int]] | None:
    """The answers of an earlier stage; None where there are none, or they are another network's or to other images."""
    try:
        document = read_document(path)
        if document["schema"] != SCHEMA or document["of"] != of:
            return None
        return {name: document["labels"][name] for name in _PARTS}
    except (OSError, IntegrityError, KeyError, TypeError):  # asked again
        return None


def _answers(network: SubNetwork, part: ArrayDataset, *, data: Data) -> list[int]:
    import torch

    from hwnas.data.tensors import fit
    from hwnas.supernet.batches import BatchStream

    stream = BatchStream(part, batch_size=_BATCH, mean=data.mean, std=data.std)
    with torch.inference_mode():
        found = [network(fit(x, network.in_shape)).argmax(1) for x, _ in stream.unaugmented()]
    answers: list[int] = torch.cat(found).tolist()
    return answers
