"""What slices of a given network are worth before any training: by this, hopeless budgets are known in a minute."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwnas.cost import analytic
from hwnas.precisions import is_quantized
from hwnas.workspace import Workspace

if TYPE_CHECKING:
    from hwnas.spaces.adapted import AdaptedSpace
    from hwnas.supernet.kinds import AnySupernet
    from hwnas.types import IntArray, Option

_LARGEST_MACS = 1e11  # spent on a network's images, so that one takes some ten seconds of a core
_FEWEST, _MOST = 100, 1000  # images


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A smaller network as it is cut out of the given one.

    Attributes:
        name: for people.
        metric: `accuracy`; `agreement` where the labels are what the given network answers.
        accuracy: that, on validation images, a share of which 1 is perfect, in floats.
        macs: of it.
        images: how many.
    """

    name: str
    metric: str
    accuracy: float
    macs: int
    images: int

    def to_json(self) -> dict[str, object]:
        """For programs, under the metric's own name."""
        return {"name": self.name, self.metric: self.accuracy, "macs": self.macs, "images": self.images}


def zero_shot(
    work: Workspace, space: AdaptedSpace, supernet: AnySupernet, *, progress: Callable[[int, int, str], None]
) -> tuple[Slice, ...]:
    """Accuracies of the given network and of some of its slices, statistics of normalisation computed anew for each.

    Args:
        work: of the run; gives the images.
        space: of the network.
        supernet: of the given weights.
        progress: told of each.
    """
    from hwnas.accuracy import SubnetEvaluator

    macs = sum(analytic.macs(b) for _, b in space.named_blocks(space.largest()))
    images = int(min(_MOST, max(_FEWEST, _LARGEST_MACS / max(1, macs))))
    evaluator = SubnetEvaluator(
        supernet,
        train=work.stream("train"),
        validation=work.stream("validation"),
        task=work.task,
        recalibration_samples=min(images, 128),
        calibration_samples=1,
        validation_samples=images,
    )
    found = []
    asked = _networks(space)
    for i, (name, encoding) in enumerate(asked.items()):
        blocks = space.named_blocks(encoding)
        found.append(
            Slice(
                name=name,
                metric=work.config.ranked_by,
                accuracy=evaluator(blocks).value,
                macs=sum(analytic.macs(b) for _, b in blocks),
                images=evaluator.n_validation,
            )
        )
        progress(i + 1, len(asked), name)
    return tuple(found)


def _networks(space: AdaptedSpace) -> Mapping[str, IntArray]:
    """The given network, slices of one width each, one of half the blocks, and the smallest; all in floats."""
    largest = space.decode(space.largest())
    floats = {k: v for k, v in largest.items() if not (k.endswith(".precision") and is_quantized(str(v)))}
    found = {"as it is": space.encode(floats)}
    ratios = sorted({r for w in space.spec.widths for r in w.ratios if r < 1}, reverse=True)
    for ratio in _few(ratios):
        chosen = {f"{w.name}.width": min(w.ratios, key=lambda r: abs(r - ratio)) for w in space.spec.widths}
        found[f"widths at {ratio:g}"] = _with(space, floats, chosen)
    depths = {f"{d.name}.depth": d.options[(len(d.options) - 1) // 2] for d in space.spec.depths}
    if depths:
        found["half of the blocks"] = _with(space, floats, depths)
    smallest = {c.name: c.options[0] for c in space.choices if not c.name.endswith(".precision")}
    found["the smallest"] = _with(space, floats, smallest)
    return found


def _few(ratios: list[float]) -> list[float]:
    """Three at most: the ends and one between them."""
    return [ratios[i] for i in sorted({0, len(ratios) // 2, len(ratios) - 1})] if ratios else []


def _with(space: AdaptedSpace, base: Mapping[str, Option], chosen: Mapping[str, Option]) -> IntArray:
    known = {c.name for c in space.choices}
    return space.encode({**base, **{k: v for k, v in chosen.items() if k in known}})
