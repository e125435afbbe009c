"""A module that computes with weights which are kept elsewhere. Knows modules of torch; never blocks or spaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from hwnas.supernet.quantization.rounding import RoundingPlan


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A module without storage, and its parameters' shapes, which every forward pass needs.

    Attributes:
        plan: what integers round in it; None: it computes in floats.
    """

    module: nn.Module
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    plan: RoundingPlan | None = None
    places: list[tuple[str, dict[str, Any], str]] = field(init=False)

    def __post_init__(self) -> None:
        places = []
        for path, part in self.module.named_modules():
            places += [(f"{path}.{key}" if path else key, part._parameters, key) for key in part._parameters]
        object.__setattr__(self, "places", [place for place in places if place[1][place[2]] is not None])

    def on(self, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Run the module on other weights.

        `torch.func.functional_call` does the same, and looks up every place of every module anew each time.

        Args:
            weights: of all its parameters, by name.
            x: (N, ...) what enters it.
        """
        kept = [parameters[key] for _, parameters, key in self.places]
        try:
            for name, parameters, key in self.places:
                parameters[key] = weights[name]
            return self.module(x)  # type: ignore[no-any-return]
        finally:
            for (_, parameters, key), parameter in zip(self.places, kept, strict=True):
                parameters[key] = parameter
