"""The kinds of block of vision transformers (Dosovitskiy et al., 2021): patches, attention, MLP, merging, classifier.

Between them tensors are (positions, features). What has no integer form (normalisation, softmax, GELU) is computed in
floats inside blocks of integers. The only place that knows what is inside them. No torch, no choices.
"""

from __future__ import annotations

from collections.abc import Mapping

from hwnas.graph import GraphBuilder, OpGraph, Ref, Weight
from hwnas.spaces.kinds import BlockKind, Variation
from hwnas.spaces.parts import activation, ratio_of_channels
from hwnas.types import Block, Option

GELU = "gelu"
MERGED = 2  # neighbours along each side that become one position between stages


def _patch_embedding(block: Block, attributes: Mapping[str, Option]) -> OpGraph:
    """(C, H, W) -> (positions, features): patches beside each other, each with the weights of its position added.

    Those are kept as a map of `map_side` x `map_side` positions, of the largest images; smaller images have it resized,
    as fine-tuning at another resolution does (Dosovitskiy et al., 2021, section 3.2), so that a weight means the same
    place in the image at every resolution.
    """
    size, features = int(attributes["patch_size"]), block.out_shape[1]
    side = block.in_shape[1] // size
    map_side = int(attributes["map_side"]) or side
    g = GraphBuilder()
    weights = {
        "weight": Weight(name="patches.weight", shape=(features, block.in_shape[0], size, size)),
        "bias": Weight(name="patches.bias", shape=(features,)),
    }
    x = g.op("conv2d", g.input(block.in_shape), name="patches", weights=weights, stride=(size, size))
    held = Weight(name="positions.weight", shape=(features, map_side, map_side))
    positions = g.op("weight", name="positions", weights={"weight": held})
    if map_side != side:
        positions = g.op("resize", positions, name="resized", size=(side, side), mode="bilinear")
    x = g.op("add", x, positions, name="sum")  # (features, side, side)
    return g.build(_as_tokens(g, x))


def _self_attention(block: Block, attributes: Mapping[str, Option]) -> OpGraph:
    """Every position looks at every other (Vaswani et al., 2017), and the input is added."""
    heads, width = int(attributes["heads"]), int(attributes["head_width"])
    tokens, features = block.in_shape
    g = GraphBuilder()
    x = g.input(block.in_shape)
    y = _layer_norm(g, x, name="norm")
    parts = []
    for name in ("query", "key", "value"):
        # of three layers, not of one: the leading rows of each are its leading heads
        part = g.op(
            "reshape", g.linear(y, heads * width, name=name), name=f"{name}.heads", shape=(tokens, heads, width)
        )
        parts.append(g.op("permute", part, name=f"{name}.turned", order=(1, 0, 2)))  # -> (heads, tokens, width)
    y = g.op("attention", *parts, name="attention", scale=width**-0.5)
    y = g.op("permute", y, name="turned", order=(1, 0, 2))  # -> (tokens, heads, width)
    y = g.op("reshape", y, name="joined", shape=(tokens, heads * width))
    return g.build(g.op("add", x, g.linear(y, features, name="project"), name="sum"))


def _mlp(block: Block, attributes: Mapping[str, Option]) -> OpGraph:
    """Two linear layers for each position alone, and the input added."""
    g = GraphBuilder()
    x = g.input(block.in_shape)
    y = g.linear(_layer_norm(g, x, name="norm"), int(attributes["hidden_features"]), name="expand")
    act = str(attributes["activation"])
    y = g.op("gelu", y, name="act") if act == GELU else activation(g, y, act, name="act")
    return g.build(g.op("add", x, g.linear(y, block.out_shape[1], name="project"), name="sum"))


def _patch_merging(block: Block, attributes: Mapping[str, Option]) -> OpGraph:
    """A quarter of the positions: a convolution of stride 2, and what leads around it (Liao et al., 2021).

    The paper leads the mean of each window around. Here its four positions are projected, which can be their mean: the
    next stage may be narrower, and means of integers end halfway between two, where runtimes round in several ways.
    """
    tokens, features = block.in_shape
    side, out_features = round(tokens**0.5), block.out_shape[1]
    g = GraphBuilder()
    x = g.input(block.in_shape)
    y = _as_image(g, _layer_norm(g, x, name="norm"), side, name="normalised")
    y = g.conv2d(y, out_features, kernel_size=3, stride=MERGED, bias=True, name="merge")
    weight = Weight(name="shortcut.weight", shape=(out_features, features, MERGED, MERGED))
    shortcut = g.op(
        "conv2d", _as_image(g, x, side, name="image"), name="shortcut", weights={"weight": weight}, stride=(MERGED,) * 2
    )
    return g.build(_as_tokens(g, g.op("add", shortcut, y, name="sum")))


def _token_classifier(block: Block, attributes: Mapping[str, Option]) -> OpGraph:
    """The mean over the positions, and a linear layer."""
    g = GraphBuilder()
    x = g.op("mean", _layer_norm(g, g.input(block.in_shape), name="norm"), name="pool", axes=(0,))  # -> (features,)
    return g.build(g.linear(x, block.out_shape[0], name="classifier"))


def _as_tokens(g: GraphBuilder, x: Ref) -> Ref:
    """(features, height, width) -> (positions, features)."""
    x = g.op("permute", x, name="rows_of_features", order=(1, 2, 0))
    height, width, features = x.shape
    return g.op("reshape", x, name="tokens", shape=(height * width, features))


def _as_image(g: GraphBuilder, x: Ref, side: int, *, name: str) -> Ref:
    """(positions, features) -> (features, side, side)."""
    rows = g.op("reshape", x, name=f"{name}.rows", shape=(side, side, x.shape[1]))
    return g.op("permute", rows, name=f"{name}.features_first", order=(2, 0, 1))


def _layer_norm(g: GraphBuilder, x: Ref, *, name: str) -> Ref:
    """Of each position's features (Ba et al., 2016)."""
    shape = x.shape[-1:]
    weights = {role: Weight(name=f"{name}.{role}", shape=shape) for role in ("weight", "bias")}
    return g.op("layer_norm", x, name=name, weights=weights, normalized_shape=shape)


PATCH_EMBEDDING = BlockKind(
    name="patch_embedding", build=_patch_embedding, required=("patch_size",), defaults={"map_side": 0}
)
SELF_ATTENTION = BlockKind(
    name="self_attention",
    build=_self_attention,
    required=("head_width", "heads"),
    variations=(Variation(choice="heads", options=(3, 2, 4)), Variation(choice="head_width", options=(32, 16, 64))),
    takes="positions",
)
MLP = BlockKind(
    name="mlp",
    build=_mlp,
    required=("hidden_features",),
    defaults={"activation": GELU},
    variations=(
        Variation(choice="activation", options=(GELU, "relu", "hswish", "silu")),
        Variation(
            choice="mlp_ratio",
            options=(4, 2, 3),
            attribute="hidden_features",
            to_value=lambda ratio, features: int(ratio * features),
            to_option=lambda hidden, block: ratio_of_channels(int(hidden), block.in_shape[1]),
            at_widths=3,
        ),
    ),
    takes="positions",
)
PATCH_MERGING = BlockKind(name="patch_merging", build=_patch_merging)
TOKEN_CLASSIFIER = BlockKind(name="token_classifier", build=_token_classifier)
