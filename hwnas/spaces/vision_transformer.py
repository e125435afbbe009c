"""Vision transformers with elastic dimensions (AutoFormer, Chen et al., 2021), of one stage or of several.

A network cuts the image into patches, adds what tells their positions, and leads them through stages of blocks, each an
attention and an MLP with a normalisation before (Dosovitskiy et al., 2021). The head takes the mean over the positions,
as AutoFormer does, so there is no class token. A later stage begins with a merging of 2x2 neighbours and a width of its
own (ViT-ResNAS, Liao et al., 2021). Heads are all as wide, so fewer heads are the first of more.

Attention and MLP are slots of their own: each is in floats or in integers as it gains by it, and a latency table has
the sum of their variants, not the product. This module knows attributes of blocks; never torch, devices or weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Self

from hwnas.errors import SpaceError
from hwnas.precisions import KNOWN, by_exactness, is_quantized
from hwnas.spaces import _checks as check
from hwnas.spaces._geometry import make_divisible
from hwnas.spaces._serialize import check_keys
from hwnas.spaces._text import blocks_text
from hwnas.spaces.base import Space
from hwnas.spaces.network import CHANNEL_DIVISOR
from hwnas.spaces.parts import ACTIVATIONS
from hwnas.spaces.vision_transformer_kinds import GELU, MERGED
from hwnas.types import PRECISIONS, Block, Choice, IntArray, Option, Slot

# ---------------------------------------------------------------- the definition


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerStage:
    """A run of blocks of one width; each tuple with several options is elastic. Options are kept in ascending order.

    Attributes:
        embed_dims: features of every position, before rounding; one for all blocks.
        depths: numbers of blocks.
        heads: of attention; per block.
        mlp_ratios: features inside an MLP over those around it; per block.

    Raises:
        SpaceError: a value that cannot be, an empty tuple, or an option twice.
    """

    embed_dims: Sequence[int]
    depths: Sequence[int]
    heads: Sequence[int]
    mlp_ratios: Sequence[float]

    def __post_init__(self) -> None:
        for f in fields(self):
            each: Any = check.ratio if f.name == "mlp_ratios" else check.integer
            given = check.options(f"{f.name} of a stage", getattr(self, f.name), each=each)
            object.__setattr__(self, f.name, tuple(sorted(given)))  # frozen for everybody else


@dataclass(frozen=True, kw_only=True)
class VisionTransformerSpec:
    """The definition of a space of vision transformers, all but its name; tuples with several options are elastic.

    Attributes:
        in_channels: of the input.
        n_classes: outputs of the head.
        resolutions: heights and widths of the input, in pixels.
        patch_size: height and width of a patch, in pixels.
        head_width: features of every head of attention.
        activation: of the MLPs: `gelu`, or one with an integer form.
        stages: in order, at least one.
        precisions: which each slot may have: one of floats at most, and one of integers.
        channel_divisor: all features but those of the heads are multiples of it.

    Raises:
        SpaceError: a value that cannot be, no options, or an option twice; or two that make the same network.
    """

    in_channels: int
    n_classes: int
    resolutions: Sequence[int]
    patch_size: int
    head_width: int
    activation: str = GELU
    stages: Sequence[TransformerStage]
    precisions: Sequence[str] = PRECISIONS
    channel_divisor: int = CHANNEL_DIVISOR

    def __post_init__(self) -> None:
        if not self.stages or not all(isinstance(s, TransformerStage) for s in self.stages):
            raise SpaceError(f"stages must be one or more TransformerStage, not {self.stages!r}")
        given = check.options("precisions", self.precisions, each=partial(check.member, of=tuple(KNOWN)))
        if len({is_quantized(p) for p in given}) < len(given):
            raise SpaceError(f"precisions {', '.join(given)}: a space has one of floats at most, and one of integers")
        checked: dict[str, object] = {
            name: check.integer(name, getattr(self, name))
            for name in ("in_channels", "n_classes", "patch_size", "head_width", "channel_divisor")
        }
        checked["resolutions"] = tuple(sorted(check.options("resolutions", self.resolutions, each=check.integer)))
        checked["activation"] = check.member("activation", self.activation, of=(GELU, *ACTIVATIONS))
        checked["stages"] = tuple(self.stages)
        # ascending, as all options: the largest network computes in floats
        checked["precisions"] = tuple(reversed(by_exactness(given)))
        for name, value in checked.items():
            object.__setattr__(self, name, value)  # frozen for everybody else
        self._check_sides()
        self._check_distinct()

    def _check_sides(self) -> None:
        unit = self.patch_size * MERGED ** (len(self.stages) - 1)
        wrong = [r for r in self.resolutions if r % unit]
        if wrong:
            raise SpaceError(
                f"resolution {wrong[0]} is no multiple of {unit}, the pixels of a position in the last stage; use "
                "multiples of it, or a smaller patch_size"
            )

    def _check_distinct(self) -> None:
        """Refuse two options with the same effect: they would make one network out of two encodings."""
        for s, stage in enumerate(self.stages):
            groups: list[tuple[str, Sequence[float], list[int]]] = [
                ("embed_dims", stage.embed_dims, [self.features(d) for d in stage.embed_dims])
            ]
            for d in stage.embed_dims:
                groups.append(("mlp_ratios", stage.mlp_ratios, [self.hidden(d, r) for r in stage.mlp_ratios]))
            for what, options, made in groups:
                twice = next((n for i, n in enumerate(made) if n in made[:i]), None)
                if twice is not None:
                    same = " and ".join(f"{o:g}" for o, n in zip(options, made, strict=True) if n == twice)
                    raise SpaceError(
                        f"{what} {same} of stage {s} all give {twice} features; drop all but one or lower "
                        f"channel_divisor ({self.channel_divisor})"
                    )

    def features(self, embed_dim: int) -> int:
        """Of every position."""
        return make_divisible(embed_dim, self.channel_divisor)

    def hidden(self, embed_dim: int, mlp_ratio: float) -> int:
        """Features inside an MLP."""
        return make_divisible(self.features(embed_dim) * mlp_ratio, self.channel_divisor)

    def tokens(self, resolution: int, stage: int) -> int:
        """Positions in a stage."""
        side: int = resolution // self.patch_size // MERGED**stage
        return side * side

    def to_json(self) -> dict[str, Any]:
        """The specification as JSON values."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        plain = {name: list(v) if isinstance(v, tuple) else v for name, v in plain.items()}
        names = [f.name for f in fields(TransformerStage)]
        return {**plain, "stages": [{name: list(getattr(s, name)) for name in names} for s in self.stages]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`.

        Raises:
            SpaceError: a key is unknown or missing, or a value is wrong.
        """
        check_keys("vision transformer space", value, known=[f.name for f in fields(cls)])
        if not isinstance(value["stages"], list):
            raise SpaceError(f"stages of a vision transformer space must be a list, not {value['stages']!r}")
        for stage in value["stages"]:
            check_keys("stage", stage, known=[f.name for f in fields(TransformerStage)])
        return cls(**{**value, "stages": [TransformerStage(**s) for s in value["stages"]]})


# ---------------------------------------------------------------- the space

_KINDS = {  # what stands in a slot -> its kind of block
    "patch_embedding": "patch_embedding",
    "attention": "self_attention",
    "mlp": "mlp",
    "merging": "patch_merging",
    "head": "token_classifier",
}


class VisionTransformerSpace(Space):
    """Vision transformers with elastic resolution, depth, width, heads, MLP ratio and precision.

    A dimension with several options is a choice, with one it is fixed: `resolution`, `patch_embedding.precision`,
    `stages.0.embed_dim`, `stages.0.depth`, `stages.0.blocks.1.attention.heads`, `.attention.precision`,
    `.mlp.ratio`, `.mlp.precision`, `stages.1.merging.precision`, `head.precision`. Choices of blocks beyond the stage's
    depth are switched off. Slots have the names of the precisions.

    Args:
        name: of the space.
        spec: its definition.
    """

    kind = "vision-transformer"
    optimizer = "adamw"

    def __init__(self, name: str, spec: VisionTransformerSpec) -> None:
        self.spec = spec
        self.in_channels, self.n_classes = spec.in_channels, spec.n_classes
        self.channel_divisor = spec.channel_divisor
        self.resolutions, self.precisions = tuple(spec.resolutions), tuple(spec.precisions)
        layout = _Layout(spec)
        self._fixed, self._places = layout.fixed, layout.places
        super().__init__(name, choices=layout.choices, slots=layout.slots)

    def block_at(self, slot: int, options: Sequence[int]) -> Block | None:
        """The block of a slot when the choices in its `depends_on` have these option indices; None: absent."""
        choices = [self.choices[j] for j in self.slots[slot].depends_on]
        chosen = {**self._fixed, **{c.name: c.options[i] for c, i in zip(choices, options, strict=True)}}
        (role, stage, block), spec, name = self._places[slot], self.spec, self.slots[slot].name
        if block >= chosen.get(f"stages.{stage}.depth", block + 1):  # one that every depth has does not depend on it
            return None
        width, resolution = chosen[f"stages.{stage}.embed_dim"], chosen["resolution"]
        inside = (spec.tokens(resolution, stage), spec.features(width))  # (positions, features)
        in_shape: tuple[int, ...] = inside
        out_shape: tuple[int, ...] = inside
        attributes: dict[str, Option] = {}
        match role:
            case "patch_embedding":
                in_shape = (spec.in_channels, resolution, resolution)
                largest = self.resolutions[-1]
                map_side = largest // spec.patch_size if resolution != largest else 0
                attributes = {"map_side": map_side, "patch_size": spec.patch_size}
            case "attention":
                attributes = {"head_width": spec.head_width, "heads": chosen[f"{name}.heads"]}
            case "mlp":
                hidden = spec.hidden(width, chosen[f"{name}.ratio"])
                attributes = {"activation": spec.activation, "hidden_features": hidden}
            case "merging":
                before = chosen[f"stages.{stage - 1}.embed_dim"]
                in_shape = (spec.tokens(resolution, stage - 1), spec.features(before))
            case "head":
                out_shape = (spec.n_classes,)
        return Block(
            kind=_KINDS[role],
            in_shape=in_shape,
            out_shape=out_shape,
            precision=str(chosen[f"{name}.precision"]),
            attributes=tuple(sorted(attributes.items())),
        )

    # ------------------------------------------------------------ related spaces

    def restrict(
        self,
        *,
        precisions: Sequence[str] | None = None,
        resolutions: Sequence[int] | None = None,
        width_mults: Sequence[float] | None = None,
        kernel_sizes: Sequence[int] | None = None,
    ) -> Self:
        """The sub-space with fewer options, under the same name.

        Args:
            precisions: what is kept, None for all; likewise `resolutions`.
            resolutions: see there.
            width_mults: must be None: widths are the `embed_dims` of the definition.
            kernel_sizes: must be None.

        Raises:
            SpaceError: an option that this space does not have, or none at all.
        """
        for what, given in (("width_mults", width_mults), ("kernel_sizes", kernel_sizes)):
            if given is not None:
                raise SpaceError(
                    f"space {self.name!r} is of transformers and has no {what}; leave them out, or define a space "
                    "with fewer options in its stages"
                )
        changes: dict[str, Any] = {}
        for what, options in (("precisions", precisions), ("resolutions", resolutions)):
            if options is not None:
                changes[what] = check.among(what, options, known=getattr(self, what), space=self.name)
        return type(self)(self.name, replace(self.spec, **changes))

    def computed_in(self, names: Mapping[str, str]) -> Self:
        """The same space where its precisions have other names: of what a device computes instead."""
        precisions = tuple(names.get(p, p) for p in self.precisions)
        return type(self)(self.name, replace(self.spec, precisions=precisions))

    # ------------------------------------------------------------ people and files

    def arguments(self) -> dict[str, Any]:
        """Its definition as JSON values."""
        return self.spec.to_json()

    @classmethod
    def from_arguments(cls, name: str, arguments: Mapping[str, Any]) -> Self:
        """The inverse of `arguments`.

        Raises:
            SpaceError: an argument is unknown, missing or wrong.
        """
        return cls(name, VisionTransformerSpec.from_json(arguments))

    def describe(self, encoding: IntArray) -> str:
        """The network's blocks, one a line: slot, operator, shapes, precision.

        Raises:
            SpaceError: as `decode`.
        """
        resolution = {**self._fixed, **self.decode(encoding)}["resolution"]
        return f"{self.name}: {resolution} px\n{blocks_text(self.named_blocks(encoding))}"


class _Layout:
    """Choices and slots, and what stands where: (role, stage, block) of each slot."""

    def __init__(self, spec: VisionTransformerSpec) -> None:
        self._choices: dict[str, Choice] = {}
        self.fixed: dict[str, Any] = {}
        self.places: list[tuple[str, int, int]] = []
        self._slots: list[Slot] = []
        self._precisions = spec.precisions
        self._choice("resolution", spec.resolutions)
        for s, stage in enumerate(spec.stages):
            self._choice(f"stages.{s}.embed_dim", stage.embed_dims)
            self._slot("merging" if s else "patch_embedding", s)
            self._choice(f"stages.{s}.depth", stage.depths)
            for b in range(stage.depths[-1]):
                self._slot("attention", s, b, options=("heads", stage.heads), always=stage.depths[0])
                self._slot("mlp", s, b, options=("ratio", stage.mlp_ratios), always=stage.depths[0])
        self._slot("head", len(spec.stages) - 1)

    @property
    def choices(self) -> tuple[Choice, ...]:
        return tuple(self._choices.values())

    @property
    def slots(self) -> tuple[Slot, ...]:
        return tuple(self._slots)

    def _choice(self, name: str, options: Sequence[Option], *, depth: str = "", block: int = 0) -> None:
        """A dimension; one of a block that may be absent is switched by the depth of its stage."""
        if len(options) == 1:
            self.fixed[name] = options[0]
            return
        parent, when = None, frozenset[int]()
        if depth:
            parent = list(self._choices).index(depth)
            when = frozenset(i for i, d in enumerate(self._choices[depth].options) if int(d) > block)
        self._choices[name] = Choice(name=name, options=tuple(options), parent=parent, active_when=when)

    def _slot(
        self,
        role: str,
        stage: int,
        block: int = 0,
        *,
        options: tuple[str, Sequence[Option]] | None = None,
        always: int = 1,
    ) -> None:
        """A slot, with a choice of its own if it has options beside its precision; absent by depth from `always` on."""
        place = {"patch_embedding": "", "head": "", "merging": f"stages.{stage}."}
        name = f"{place.get(role, f'stages.{stage}.blocks.{block}.')}{role}"
        depth = f"stages.{stage}.depth" if block >= always else ""
        own = [f"{name}.precision"]
        if options is not None:
            own.append(f"{name}.{options[0]}")
            self._choice(own[-1], options[1], depth=depth, block=block)
        self._choice(own[0], self._precisions, depth=depth, block=block)
        widths = [f"stages.{s}.embed_dim" for s in ((stage - 1, stage) if role == "merging" else (stage,))]
        asked = {"resolution", *widths, *own, *([depth] if depth else [])}
        self.places.append((role, stage, block))
        self._slots.append(Slot(name=name, depends_on=tuple(i for i, c in enumerate(self._choices) if c in asked)))
