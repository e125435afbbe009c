"""A space as a configuration names it: a registered one, a definition in a JSON file, or what a user's function gives.

Knows names, files and what a run needs of a space; no images, devices or weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from hwnas import registry
from hwnas._places import user_path
from hwnas.config import is_definition, is_function
from hwnas.errors import ConfigError, IntegrityError, SpaceError
from hwnas.foreign import ForeignFileError, read_foreign, shown
from hwnas.graph.joining import input_parts, output_parts
from hwnas.integrity import parse_json
from hwnas.row_parts import RowPart
from hwnas.spaces import Space, space_from_json
from hwnas.spaces.adapted import AdaptedSpace
from hwnas.user_functions import Purpose, call_function, find_function

if TYPE_CHECKING:
    from hwnas.tasks import Task

_LARGEST_DEFINITION = 1 << 20  # bytes
GIVES_A_SPACE = Purpose(
    title="space",
    gives="a space",
    kind="space",
    classes=frozenset({"Space", "StagedSpace", "MobileNetSpace", "ResNetSpace"}),
    example="hwnas.spaces.Space",
    error=SpaceError,
)


def make_space(
    named: str,
    *,
    in_channels: int,
    n_classes: int,
    style: Mapping[str, object],
    length: int | None = None,
    tell: Callable[[str], None] | None = None,
) -> Space:
    """The space that a name stands for; a definition has channels and classes of its own.

    Args:
        named: a registered name, a path that ends with `.json`, or `python:module:function`.
        in_channels: of the samples.
        n_classes: of the samples: classes, or values that are foretold.
        style: what was said of activations and the like, parameter -> value.
        length: of series; goes to a function that has such a parameter.
        tell: is told what will be run, before it is.

    Raises:
        ConfigError: there is no such file or function, or it does not take the style.
        SpaceError: a definition or what a function gives is wrong; or the function must not be called.
    """
    if is_definition(named):
        if style:
            raise ConfigError(f"space {named!r} does not take {', '.join(style)}: write them into the definition")
        return _read(named)
    if is_function(named):
        return _call(named.removeprefix("python:"), (in_channels, n_classes), style=style, length=length, tell=tell)
    make = registry.load("spaces", named)
    try:
        space: Space = make(in_channels, n_classes, **style, **registry.taken_by(make, _offered(length)))
    except TypeError as e:
        said = f"does not take {', '.join(style)}" if style else "cannot be made of channels and classes"
        raise ConfigError(f"space {named!r} {said}: {e}") from e
    return space


def parts_of_space(space: Space) -> tuple[RowPart, ...]:
    """The several outputs of a space's networks, the same for all of them; none where they have one."""
    return output_parts(space.network.largest.graph) if isinstance(space, AdaptedSpace) else ()


def inputs_of_space(space: Space) -> tuple[RowPart, ...]:
    """The several inputs of a space's networks, which are one row; none where they have one."""
    return input_parts(space.network.largest.graph) if isinstance(space, AdaptedSpace) else ()


def check_inputs(space: Space, given: Sequence[RowPart]) -> None:
    """Hold that samples of several inputs have those of a space's networks, in their order.

    Args:
        space: of the networks.
        given: the inputs of the samples; none where they are rows already, or have one.

    Raises:
        SpaceError: they are others, or in another order.
    """
    wanted = inputs_of_space(space)
    if not given:
        return
    is_other_order = {p.name for p in given} == {p.name for p in wanted} and list(given) != list(wanted)
    if is_other_order or [p.shape for p in given] != [p.shape for p in wanted]:
        raise SpaceError(
            f"{space.name} takes {', '.join(map(str, wanted)) or 'one input'}, and the samples are "
            f"{', '.join(map(str, given))}; give the inputs in the order in which the network takes them"
        )


def check_trainable(space: Space, *, of: tuple[int, ...], n_outputs: int | None, task: Task) -> None:
    """Hold that networks of a space can be trained on samples for a task.

    Args:
        space: of the networks.
        of: shape of one sample, channels first; images of another size are brought to the networks'.
        n_outputs: classes or values that the targets have; None: whatever the networks give.
        task: they are for.

    Raises:
        SpaceError: it has no blocks or precisions, or takes or gives something else.
    """
    if not space.slots or not space.precisions:
        missing = "slots" if not space.slots else "precisions"
        raise SpaceError(
            f"space {space.name!r} has no {missing}, so no network can be made of it; a run needs a space of blocks "
            "with a precision, such as a StagedSpace"
        )
    if (parts := parts_of_space(space)) and not task.takes_several:
        names = ", ".join(part.name for part in parts)
        raise SpaceError(
            f"the network has {len(parts)} outputs ({names}), and the task {task.name!r} takes one. To learn and "
            'measure all of them as the network gives them: [task] name = "outputs" and [data] labels = "network"; '
            'with labels of your own it needs a task of your own, [task] name = "python:module:function", that says '
            "takes_several = True (docs/tasks.md)"
        )
    blocks = [block for _, block in space.named_blocks(space.largest())]
    takes, gives = blocks[0].in_shape, blocks[-1].out_shape
    are_images = len(of) == len(takes) == 3
    fits_in = takes[0] == of[0] if are_images else takes == of
    if not fits_in or not task.fits(gives, n_outputs=n_outputs):
        wanted = (
            f"no {task.counts}, so one answer each is wanted" if n_outputs is None else f"{n_outputs} {task.counts}"
        )
        own = isinstance(space, AdaptedSpace) and fits_in and task.fits(gives, n_outputs=None)
        hint = '. To take the network\'s own answers as labels instead: [data] labels = "network"' if own else ""
        what = "images" if are_images else "samples"
        shape = f"{of[0]} channels" if are_images else f"the shape {'x'.join(map(str, of))}"
        taken = f"{takes[0]} channels" if are_images else "x".join(map(str, takes))
        raise SpaceError(
            f"space {space.name!r} takes {taken} and gives {'x'.join(map(str, gives))} outputs; the {what} have "
            f"{shape} and {wanted}{hint}"
        )


def _read(named: str) -> Space:
    path = user_path(named)
    try:
        return space_from_json(parse_json(read_foreign(path, limit_bytes=_LARGEST_DEFINITION)))
    except OSError as e:
        raise ConfigError(f"the space's definition {shown(path)} cannot be read: {e.strerror}") from e
    except (ForeignFileError, IntegrityError) as e:
        raise SpaceError(f"the space's definition {shown(path)} is not JSON of a space: {e}") from e
    except SpaceError as e:
        raise SpaceError(f"{e} (in {shown(path)})") from e


def _offered(length: int | None) -> dict[str, int]:
    return {} if length is None else {"length": length}


def _call(
    target: str,
    sizes: tuple[int, int],
    *,
    style: Mapping[str, object],
    length: int | None,
    tell: Callable[[str], None] | None,
) -> Space:
    if tell is not None:
        # told before it runs: code of a file is about to be executed
        found = find_function(target, GIVES_A_SPACE)
        tell(f"space: the function {found.function} of {shown(found.file)} is run")
    space = call_function(target, GIVES_A_SPACE, positional=sizes, options=style, offered=_offered(length))
    if not isinstance(space, Space):
        raise SpaceError(
            f"the space function {target} gave a {type(space).__name__}; it must give a hwnas.spaces.Space"
        )
    return space
