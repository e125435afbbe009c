"""A training that begins with a trained supernet: whether it can, and doing it. Knows runs; never devices or search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas._console import Console
from hwnas._places import quoted
from hwnas.errors import ConfigError
from hwnas.spaces.adapted import AdaptedSpace
from hwnas.starting_point import StartingPoint, starting_point
from hwnas.workspace import Workspace

if TYPE_CHECKING:
    from hwnas.supernet.kinds import AnySupernet

_TASKS = ("classification", "multi_label")


def look_at_beginning(work: Workspace) -> StartingPoint:
    """The trained supernet that the run begins with, looked at.

    Raises:
        ConfigError: there is none, or the run's networks cannot begin with one.
        CheckpointError: it is not trained to its end, has several sets of weights, or does not tell its classes.
    """
    from hwnas.supernet.growing import check_beginning

    named = work.config.train.start_from
    assert named is not None
    if work.config.task.name not in _TASKS:
        raise ConfigError(
            f"train.start_from is for tasks whose outputs are found by their names ({', '.join(_TASKS)}), and the task "
            f"of the run is {work.config.task.name!r}; leave it out"
        )
    if isinstance(work.training_space, AdaptedSpace):
        raise ConfigError(
            "train.start_from is for presets, and the run's space is made of a given network; leave it out"
        )
    found = starting_point(named)
    if found.entry is not None and found.entry.card.is_of_given:
        raise ConfigError(
            f"train.start_from is {named!r}, whose networks are parts of a given one, and a training begins with "
            f"networks of presets; take networks of it as they are (hwnas run --supernet {quoted(named)}), or adapt "
            "the network itself to the run's images (`hwnas adapt`)"
        )
    check_beginning(found.tensors)
    _ = found.class_names
    return found


def begin_with(work: Workspace, supernet: AnySupernet, *, console: Console) -> None:
    """Give a new supernet the weights of a trained one.

    Raises:
        CheckpointError: that has none, or the two have nothing in common.
    """
    from hwnas.supernet.elastic import Supernet
    from hwnas.supernet.growing import grow_

    found, space = look_at_beginning(work), work.training_space
    assert isinstance(supernet, Supernet)
    names, known = work.images.class_names, found.class_names
    classes = [known.index(name) if name in known else None for name in names]
    grown = grow_(supernet, found.tensors, largest=space.named_blocks(space.largest()), classes=classes)
    n_known = sum(c is not None for c in classes)
    console.note(
        f"the supernet begins with {found.named}: {len(grown.kept)} of {len(grown.kept) + len(grown.anew)} tensors are "
        f"its, and it knows {n_known} of the {len(names)} classes"
    )
