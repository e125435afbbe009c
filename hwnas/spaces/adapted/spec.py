"""What of a given network is elastic, as data: which options there are, and what each means for its dimensions.

Knows names and numbers; no graphs.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from hwnas.errors import SpaceError
from hwnas.precisions import KNOWN, by_exactness, is_quantized
from hwnas.spaces._serialize import check_keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Width:
    """One choice of width.

    Attributes:
        name: of the choice, without `.width`.
        dims: names of the dimensions that shrink together.
        ratios: the options, ascending; the last is 1.
        units: for each option, how many units each dimension keeps.
    """

    name: str
    dims: tuple[str, ...]
    ratios: tuple[float, ...]
    units: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """One choice of depth: how many of some blocks, which follow each other, stay.

    Attributes:
        name: of the choice, without `.depth`.
        blocks: for each block the residual branches that it is made of; the first is the last to go.
        options: numbers of blocks that may stay, ascending; the last is all of them.
    """

    name: str
    blocks: tuple[tuple[str, ...], ...]
    options: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One choice of kernel size.

    Attributes:
        name: of the convolution.
        sizes: ascending; the last is its own.
    """

    name: str
    sizes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class AdaptedSpec:
    """The options of a space of a given network.

    Attributes:
        resolutions: input sides, ascending; one that is not told apart for networks that take no images.
        widths: see there; likewise the others.
        depths: see there.
        kernels: see there.
        precisions: which each region may have: one of floats at most, and one of integers, ascending.

    Raises:
        SpaceError: options are missing, stand in another order, or are there twice.
    """

    resolutions: tuple[int, ...]
    widths: tuple[Width, ...] = ()
    depths: tuple[Depth, ...] = ()
    kernels: tuple[Kernel, ...] = ()
    precisions: tuple[str, ...] = ("int8", "fp32")

    def __post_init__(self) -> None:
        unknown = [p for p in self.precisions if p not in KNOWN]
        if unknown:
            raise SpaceError(f"{unknown[0]!r} is no precision; known: {', '.join(KNOWN)}")
        kinds = [is_quantized(p) for p in self.precisions]
        if not kinds or len(set(kinds)) < len(kinds):
            raise SpaceError(
                f"precisions {', '.join(self.precisions) or 'none'}: a space has one of floats at most, and one of "
                "integers"
            )
        object.__setattr__(self, "precisions", by_exactness(self.precisions)[::-1])  # ascending
        ascending: list[tuple[str, Sequence[float]]] = [("resolutions", self.resolutions)]
        ascending += [(f"{w.name}.width", w.ratios) for w in self.widths]
        ascending += [(f"{d.name}.depth", d.options) for d in self.depths]
        ascending += [(f"{k.name}.kernel_size", k.sizes) for k in self.kernels]
        for name, options in ascending:
            if not options or any(a >= b for a, b in itertools.pairwise(options)):
                raise SpaceError(f"the options of {name} are {list(options)}; they must ascend, and one must be there")
        for w in self.widths:
            if len(w.units) != len(w.ratios) or any(len(u) != len(w.dims) for u in w.units):
                raise SpaceError(f"{w.name}.width has {len(w.ratios)} options, but units of {len(w.units)}")
        for d in self.depths:
            if d.options[-1] != len(d.blocks) or d.options[0] < 0:
                raise SpaceError(f"{d.name}.depth has {len(d.blocks)} blocks, but options {list(d.options)}")

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "resolutions": list(self.resolutions),
            "widths": [
                {"name": w.name, "dims": list(w.dims), "ratios": list(w.ratios), "units": [list(u) for u in w.units]}
                for w in self.widths
            ],
            "depths": [
                {"name": d.name, "blocks": [list(b) for b in d.blocks], "options": list(d.options)} for d in self.depths
            ],
            "kernels": [{"name": k.name, "sizes": list(k.sizes)} for k in self.kernels],
            "precisions": list(self.precisions),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`.

        Raises:
            SpaceError: it is no specification.
        """
        check_keys("the options of an adapted space", value, known=[f.name for f in fields(cls)])
        try:
            return cls(
                resolutions=tuple(value["resolutions"]),
                widths=tuple(
                    Width(
                        name=w["name"],
                        dims=tuple(w["dims"]),
                        ratios=tuple(w["ratios"]),
                        units=tuple(tuple(u) for u in w["units"]),
                    )
                    for w in value["widths"]
                ),
                depths=tuple(
                    Depth(name=d["name"], blocks=tuple(tuple(b) for b in d["blocks"]), options=tuple(d["options"]))
                    for d in value["depths"]
                ),
                kernels=tuple(Kernel(name=k["name"], sizes=tuple(k["sizes"])) for k in value["kernels"]),
                precisions=tuple(value["precisions"]),
            )
        except (KeyError, TypeError, ValueError) as e:
            raise SpaceError(f"not the options of an adapted space: {e!r}") from e
