"""The supernet of a run: before its first step, and trained. Knows a run's parts; never a device, costs or search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas.config import MOST_EXPERTS
from hwnas.errors import CheckpointError
from hwnas.spaces.adapted import AdaptedSpace

if TYPE_CHECKING:
    from hwnas.supernet.adapted import AdaptedSupernet
    from hwnas.supernet.checkpoint import Checkpoint
    from hwnas.supernet.kinds import AnySupernet
    from hwnas.workspace import Workspace


def trained_supernet(work: Workspace) -> AnySupernet:
    """The one in the run's checkpoint, with its averaged weights; that of a given network where nothing is trained.

    Raises:
        CheckpointError: there is none yet, its training is not finished, or it is of another space or data.
    """
    from hwnas.supernet.checkpoint import load_newest
    from hwnas.supernet.identity import EARLIER
    from hwnas.supernet.training import load_averaged

    if not work.is_trained:
        return work.new_supernet().eval()
    damaged: list[str] = []
    found = load_newest(work.checkpoint, warn=damaged.append)
    if found is None:
        raise CheckpointError(f"there is no trained supernet in {work.folder}; train one with `hwnas train`")
    identity = {**EARLIER, **found.meta["identity"]}
    # before it is loaded: weights of another space may have fitting shapes
    for what, now in work.identity.items():
        if identity.get(what) != now:
            raise CheckpointError(
                f"{work.checkpoint} was trained with another {what}; use its own configuration, "
                "or name another output folder"
            )
    # half-trained weights rank networks wrongly, and every search would keep the ranks
    if found.meta["step"] < found.meta["steps"]:
        told = f"{damaged[0]}. " if damaged else ""
        raise CheckpointError(
            f"{told}{work.checkpoint} is at step {found.meta['step']} of {found.meta['steps']}; "
            "go on with `hwnas train` first"
        )
    supernet = load_averaged(new_supernet(work, trained=found), found)
    if work.zoo_entry is not None:
        supernet.is_given = work.zoo_entry.card.is_given
    if work.config.model is not None:
        from hwnas.supernet.adapted import AdaptedSupernet

        given = work.new_supernet()
        assert isinstance(supernet, AdaptedSupernet)
        assert isinstance(given, AdaptedSupernet)
        supernet.remember_given(given.eval())
    return supernet


def new_supernet(work: Workspace, *, trained: Checkpoint | None = None) -> AnySupernet:
    """One before its first step: of a given network's weights, or of such as torch begins with.

    Args:
        work: of the run.
        trained: what it is to hold; None: what the configuration wants to train.

    Raises:
        CheckpointError: the given network's weights cannot be read.
    """
    from hwnas.supernet.elastic import Supernet

    # all of a trained one's weights, also where fewer of its networks are asked for
    space = work.training_space if work.zoo_entry is None else work.zoo_entry.card.space
    if not isinstance(space, AdaptedSpace):
        c = work.config.train
        if trained is None:
            rounded, parted = c.quantized_fraction > 0, c.split_fraction > 0
            return Supernet(space, rounded=rounded, experts=c.experts, parted=parted)
        # by its tensors: of one that was packed the configuration does not tell
        rounded, parted = (f"ema.{name}" in trained.tensors for name in ("input_range.scale", "parts.table"))
        experts = _experts_of(trained)
        if experts > 1 and parted:
            raise CheckpointError("the weights have experts and parts, which no supernet has")
        return Supernet(space, rounded=rounded, experts=experts, parted=parted)
    supernet = _of_given(work, space, trained=trained)
    if work.batch_norm == "frozen":
        supernet.freeze_statistics_()
    return supernet


def _of_given(work: Workspace, space: AdaptedSpace, *, trained: Checkpoint | None) -> AdaptedSupernet:
    """Networks of a given one: of the run's own, of a packed one, or of a definition, which has no weights."""
    from hwnas.supernet.adapted import AdaptedSupernet
    from hwnas.supernet.untrained_numbers import take_fixed_, take_orders_

    if work.config.model is not None:
        return work.adapted.supernet(space, whole=work.adapted_space)
    supernet = AdaptedSupernet(space)
    if work.zoo_entry is not None and trained is not None:
        tensors = {name.removeprefix("ema."): tensor for name, tensor in trained.tensors.items()}
        take_fixed_(supernet, tensors)
        take_orders_(supernet, tensors)
    return supernet


def _experts_of(trained: Checkpoint) -> int:
    """How many sets of weights are mixed; 1 where none are.

    Raises:
        CheckpointError: what mixes them is none of ours.
    """
    router = trained.tensors.get("ema.router.weight")
    if router is None:
        return 1
    if router.dim() != 3 or not 2 <= router.shape[1] <= MOST_EXPERTS:  # (slots, experts, features)
        raise CheckpointError(
            f"the weights have a router of shape {tuple(router.shape)}; it must have three axes, and 2 to "
            f"{MOST_EXPERTS} experts"
        )
    return int(router.shape[1])
