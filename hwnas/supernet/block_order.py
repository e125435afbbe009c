"""In which order the residual blocks of a given network are left out: the one it misses least first.

Knows an adapted space, its supernet and whoever judges a network; never devices, tables or the search.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hwnas.spaces.adapted import AdaptedSpec, Depth
    from hwnas.supernet.adapted import AdaptedSupernet
    from hwnas.supernet.subnetwork import SubNetwork

Evaluate = Callable[["SubNetwork"], float]

_MOST_STEPWISE = 6  # blocks of a run that are measured anew after each one that goes: 20 networks


def rank_blocks(supernet: AdaptedSupernet, evaluate: Evaluate) -> AdaptedSpec:
    """The options of the supernet's space with the blocks of each run in another order; the choices are the same.

    Of short runs the block goes first without which the largest network is best, then the one without which what is
    left is best, and so on. Of long ones each is left out alone, and they go by that. Other runs stay whole meanwhile.
    Of equal ones the last goes first.

    Args:
        supernet: ranked, with the given network's weights.
        evaluate: how bad a network is, which it may change: the extracted one, with statistics that are not its own
            yet (`recalibrate`): `Task.divergence` from what the given network says.

    Returns:
        What `AdaptedSpace(name, network, spec)` and then `AdaptedSupernet.with_space` take.

    Raises:
        ValueError: an evaluation is not a number.
    """
    spec = supernet.space.spec
    ranked = []
    for depth in spec.depths:
        order = _order(depth, lambda out, depth=depth: _evaluated(supernet, depth, out, evaluate))  # type: ignore[misc]
        ranked.append(replace(depth, blocks=tuple(depth.blocks[i] for i in order)))
    return replace(spec, depths=tuple(ranked))


def _order(depth: Depth, worse: Callable[[list[int]], float]) -> list[int]:
    """Numbers of the blocks, the last to go first.

    Args:
        depth: the run.
        worse: blocks that are left out -> how bad the network is.
    """
    left, gone = list(range(len(depth.blocks))), list[int]()
    least = depth.options[0]  # blocks that no network does without need no order
    if len(left) > _MOST_STEPWISE:
        alone = {i: worse([i]) for i in left}
        gone = sorted(left, key=lambda i: (alone[i], -i))[: len(left) - least]
    else:
        while len(left) > max(least, 1):
            first = min(left, key=_keys(left, lambda i: worse([*gone, i])))
            left.remove(first)
            gone.append(first)
    return [*(i for i in range(len(depth.blocks)) if i not in gone), *reversed(gone)]


def _keys(numbers: Iterable[int], value: Callable[[int], float]) -> Callable[[int], tuple[float, int]]:
    """To compare by: the value, then the later one first."""
    found = {i: (value(i), -i) for i in numbers}
    return found.__getitem__


def _evaluated(supernet: AdaptedSupernet, depth: Depth, out: list[int], evaluate: Evaluate) -> float:
    """How bad the largest network is without some blocks of a run.

    Raises:
        ValueError: it is not a number.
    """
    space = supernet.space
    stay = [block for i, block in enumerate(depth.blocks) if i not in out]
    options = (len(stay), len(depth.blocks))
    # the space cannot say it: a network without some blocks is one of another order
    other = replace(depth, blocks=(*stay, *(depth.blocks[i] for i in out)), options=options)
    spec = replace(space.spec, depths=tuple(other if d is depth else d for d in space.spec.depths))
    view = supernet.with_space(type(space)(space.name, space.network, spec))
    smaller = view.space.decode(view.space.largest()) | {f"{depth.name}.depth": len(stay)}
    found = float(evaluate(view.extract(view.space.named_blocks(view.space.encode(smaller)))))
    if math.isnan(found):
        names = ", ".join(name for i in out for name in depth.blocks[i])
        raise ValueError(f"the evaluation of the network without {names} is not a number")
    return found
