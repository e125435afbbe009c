"""What a built engine says about its layers: which kernel does what, and on which types.

Two sources tell it: the engine's inspector, as JSON, where there is a GPU to load the engine, and what TensorRT-RTX
logs while it builds, where there is none. Knows their texts, not networks.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ._shared import listing

# words in the kinds of layers that multiply by weights: TensorRT-RTX has `correlation` and `gemm`, TensorRT others
_WEIGHTED = re.compile("correlation|conv|gemm|matmul|matrix_?multiply", re.IGNORECASE)
_LAYER = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<kind>[^,]*)(?P<rest>.*)$")
_SECTION = re.compile(r"(Inputs|Constants|Outputs): \[(.*?)(?=, (?:Constants|Outputs|TacticName): |$)")
_TYPE = re.compile(r"Datatype: (\w+)")
_OPERATOR = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One kernel of an engine.

    Attributes:
        name: in the engine.
        kind: `correlation`, `kgen`, `CaskConvolution`, ...
        inputs: types of what it reads: `Int8`, `Float`, `Half`, ...
        constants: likewise, of its constants, the weights first.
        outputs: likewise, of what it writes.
        operators: names of the ONNX nodes it does, or a part of.
    """

    name: str
    kind: str
    inputs: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()

    @property
    def weighted(self) -> bool:
        """Whether it is a convolution or a matrix product with a kernel of its own."""
        return _WEIGHTED.search(self.kind) is not None

    @property
    def multiplies(self) -> str:
        """The type it multiplies by weights; "" if it does not."""
        return (*self.inputs, "unknown")[0] if self.weighted else ""


def layers_from_log(text: str) -> tuple[Layer, ...]:
    """The layers in the message `Layers:` of a build with detailed profiling."""
    layers = []
    for line in text.splitlines():
        found = _LAYER.match(line.strip())
        if found is None:
            continue
        types: dict[str, tuple[str, ...]] = {
            section: tuple(_TYPE.findall(body)) for section, body in _SECTION.findall(found["rest"])
        }
        layers.append(
            Layer(
                name=found["name"],
                kind=found["kind"],
                inputs=types.get("Inputs", ()),
                constants=types.get("Constants", ()),
                outputs=types.get("Outputs", ()),
                operators=tuple(_OPERATOR.findall(found["rest"])),
            )
        )
    return tuple(layers)


def layers_from_inspector(text: str) -> tuple[Layer, ...]:
    """The layers in the JSON of an engine's inspector; never tried on a GPU."""
    layers = []
    for entry in json.loads(text)["Layers"]:
        if isinstance(entry, str):  # an engine built without detailed profiling tells names alone
            layers.append(Layer(name=entry, kind="unknown"))
            continue
        layers.append(
            Layer(
                name=str(entry.get("Name", "")),
                kind=str(entry.get("LayerType", "unknown")),
                inputs=_types(entry.get("Inputs", ())),
                constants=_types(entry.get("Constants", ())),
                outputs=_types(entry.get("Outputs", ())),
                operators=tuple(_OPERATOR.findall(str(entry.get("Metadata", "")))),
            )
        )
    return tuple(layers)


def _types(tensors: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """`Int8` from `{"Datatype": "Int8"}` or `{"Format/Datatype": "Thirty-two wide channel ... Int8 format"}`."""
    found = []
    for tensor in tensors:
        text = str(tensor.get("Datatype") or tensor.get("Format/Datatype", ""))
        lowered = text.lower()
        known = {"int8": "Int8", "fp16": "Half", "half": "Half", "fp32": "Float", "float": "Float"}
        found.append(next((name for word, name in known.items() if word in lowered), text))
    return tuple(found)


def to_json(layers: Sequence[Layer]) -> list[dict[str, Any]]:
    """For a file; `from_json` reads it."""
    return [asdict(layer) for layer in layers]


def from_json(entries: Sequence[Mapping[str, Any]]) -> tuple[Layer, ...]:
    """The inverse of `to_json`."""
    names = ("inputs", "constants", "outputs", "operators")
    return tuple(
        Layer(name=entry["name"], kind=entry["kind"], **{key: tuple(entry[key]) for key in names}) for entry in entries
    )


def summary(layers: Sequence[Layer]) -> dict[str, str]:
    """`layers`, their kinds, and `products`, the types convolutions and matrix products compute in, with counts."""
    return {
        "layers": listing(Counter(layer.kind for layer in layers)),
        "products": listing(Counter(layer.multiplies for layer in layers if layer.weighted)),
    }
