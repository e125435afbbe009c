"""A space of named choices without a network behind it: for tables of known results and for one's own networks.

This module knows choices only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from hwnas.errors import SpaceError
from hwnas.spaces._serialize import check_keys
from hwnas.spaces.base import Space
from hwnas.types import Choice, Option


class CategoricalSpace(Space):
    """Any named choices, each from a few options.

        >>> space = CategoricalSpace({"depth": (1, 2), "kernel1": (3, 5)}, conditions={"kernel1": ("depth", (2,))})
        >>> space.count()
        3

    It has no slots. `largest` and `smallest` take the last and the first options as they were given.

    Args:
        choices: choice name -> its options, in order.
        name: of the space.
        conditions: choice name -> (an earlier choice, its options for which this one matters). Choices that
            are not named always matter.

    Raises:
        SpaceError: no choices, a choice without options or with one twice, or a condition that fits no choice.
    """

    kind = "categorical"

    def __init__(
        self,
        choices: Mapping[str, Sequence[Option]],
        *,
        name: str = "categorical",
        conditions: Mapping[str, tuple[str, Sequence[Option]]] | None = None,
    ) -> None:
        if not isinstance(choices, Mapping) or not choices:
            raise SpaceError(f"a categorical space needs at least one choice, as name -> options; got {choices!r}")
        conditions = conditions or {}
        made: dict[str, Choice] = {}  # in the order given, so that a condition can only name what stands before
        for child in conditions:
            if child not in choices:
                raise SpaceError(f"condition for unknown choice {child!r}; choices: {', '.join(choices)}")
        for choice_name, options in choices.items():
            if isinstance(options, str) or not isinstance(options, Sequence):
                raise SpaceError(
                    f"choice {choice_name!r} must have a sequence of options, not {options!r}; "
                    f"for a single one write ({options!r},)"
                )
            parent, active_when = None, frozenset[int]()
            if choice_name in conditions:
                parent, active_when = _resolve(choice_name, conditions[choice_name], made=made)
            made[choice_name] = Choice(name=choice_name, options=tuple(options), parent=parent, active_when=active_when)
        super().__init__(name, choices=tuple(made.values()))

    def arguments(self) -> dict[str, Any]:
        """Lists of [name, options] and [name, parent, options of the parent]: their order is part of the space."""
        conditions = [
            [c.name, self.choices[c.parent].name, [self.choices[c.parent].options[i] for i in sorted(c.active_when)]]
            for c in self.choices
            if c.parent is not None
        ]
        return {"choices": [[c.name, list(c.options)] for c in self.choices], "conditions": conditions}

    @classmethod
    def from_arguments(cls, name: str, arguments: Mapping[str, Any]) -> Self:
        """The inverse of `arguments`.

        Raises:
            SpaceError: an argument is unknown, missing or wrong.
        """
        check_keys("categorical space", arguments, known=("choices", "conditions"))
        try:
            choices = {choice: tuple(options) for choice, options in arguments["choices"]}
            conditions = {child: (parent, tuple(when)) for child, parent, when in arguments["conditions"]}
        except (TypeError, ValueError) as e:
            raise SpaceError(f"the choices of categorical space {name!r} are not lists of [name, options]: {e}") from e
        return cls(choices, name=name, conditions=conditions)


def _resolve(
    child: str, condition: tuple[str, Sequence[Option]], *, made: Mapping[str, Choice]
) -> tuple[int, frozenset[int]]:
    """Index of the parent, and indices of its options under which the child matters."""
    parent, when = condition
    if parent not in made:
        raise SpaceError(
            f"choice {child!r} depends on {parent!r}, which does not stand before it; "
            f"choices before it: {', '.join(made) or 'none'}"
        )
    options = made[parent].options
    wrong = [o for o in when if o not in options]
    if wrong or not when:
        raise SpaceError(
            f"choice {child!r} matters when {parent!r} is one of {list(when)}; "
            f"give at least one of {', '.join(map(repr, options))}"
        )
    return list(made).index(parent), frozenset(options.index(o) for o in when)
