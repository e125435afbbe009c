"""What a module calls its outputs: keys of a dictionary, fields of a named tuple, places in a tuple or a list.

It knows torch's trees of results; never what is in them.
"""

from __future__ import annotations

import torch
from torch.export.graph_signature import OutputKind
from torch.utils import _pytree as pytree


def output_names(program: torch.export.ExportedProgram) -> list[str]:
    """Names of the tensors that a module gives, in their order: `boxes`, `output_0`; of nested ones `heads.0`."""
    given = [spec for spec in program.graph_signature.output_specs if spec.kind == OutputKind.USER_OUTPUT]
    tree = pytree.tree_unflatten(range(len(given)), program.call_spec.out_spec)
    paths = [_name(path) for path, _ in pytree.tree_flatten_with_path(tree)[0]]
    nothing = [getattr(spec.arg, "value", ...) is None for spec in given]  # None is a result too, and no output
    return [name for name, is_none in zip(paths, nothing, strict=True) if not is_none]


def _name(path: tuple[object, ...]) -> str:
    told = ".".join(str(getattr(step, "key", getattr(step, "name", getattr(step, "idx", step)))) for step in path)
    return told if told[:1].isalpha() or told[:1] == "_" else f"output_{told}"
