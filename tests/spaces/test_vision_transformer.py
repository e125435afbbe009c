"""VisionTransformerSpace: its networks are those of the papers, elastic, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwnas.errors import SpaceError
from hwnas.graph import macs, parameters
from hwnas.spaces import space_from_json
from hwnas.spaces.kinds import block_graph
from hwnas.spaces.presets import autoformer_tiny, vit_resnas_tiny, vit_tiny
from hwnas.spaces.vision_transformer import TransformerStage, VisionTransformerSpace, VisionTransformerSpec
from hwnas.testing import space_suite
from hwnas.types import Block
from tests.spaces.strategies import seeds, subsets

STAGE = TransformerStage(embed_dims=(16, 24), depths=(1, 2, 3), heads=(1, 2), mlp_ratios=(1, 2))
SPACE = {
    "in_channels": 1,
    "n_classes": 4,
    "resolutions": (8, 12),
    "patch_size": 2,
    "head_width": 8,
    "stages": [STAGE],
}
TWO_STAGES = [replace(STAGE, depths=(1, 2)), replace(STAGE, embed_dims=(24, 40), depths=(1, 2))]


def small(name: str = "small", **changes) -> VisionTransformerSpace:
    """Every elastic dimension at once."""
    return VisionTransformerSpace(name, VisionTransformerSpec(**{**SPACE, **changes}))


SMALL, STAGED, AUTOFORMER = small(), small("staged", stages=TWO_STAGES), autoformer_tiny()


# ---------------------------------------------------------------- a space like any other


@pytest.mark.parametrize("check", space_suite.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "space", [SMALL, STAGED, vit_tiny(), AUTOFORMER, vit_resnas_tiny()], ids=lambda space: space.name
)
def test_it_conforms(check, space):
    check(space, np.random.default_rng(3))


@st.composite
def transformer_spaces(draw) -> VisionTransformerSpace:
    stages = [
        TransformerStage(
            embed_dims=draw(subsets((8, 16, 40))),
            depths=draw(subsets((1, 2, 3))),
            heads=draw(subsets((1, 2, 3))),
            mlp_ratios=draw(subsets((1, 2.5, 4))),
        )
        for _ in range(draw(st.integers(1, 3)))
    ]
    return small(
        stages=stages, resolutions=draw(subsets((8, 16, 24))), precisions=draw(subsets(("fp32", "int8"), max_size=2))
    )


@pytest.mark.parametrize("check", space_suite.CHECKS, ids=lambda check: check.__name__)
def test_any_space_of_transformers_conforms(check):
    @settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.too_slow])
    @given(space=transformer_spaces(), seed=seeds)
    def holds(space, seed):
        check(space, np.random.default_rng(seed))

    holds()


def test_its_networks_are_those_that_enumeration_finds():
    stage = replace(STAGE, depths=(1, 2), mlp_ratios=(1,))
    space_suite.check_count_by_enumeration(small(stages=[stage]), np.random.default_rng(0))


@pytest.mark.parametrize("space", [SMALL, STAGED], ids=lambda space: space.name)
def test_shapes_connect_from_the_image_to_the_classes(space):
    for encoding in space.sample(20, np.random.default_rng(0)):
        blocks = [b for _, b in space.named_blocks(encoding)]
        assert all(a.out_shape == b.in_shape for a, b in pairwise(blocks))
        assert blocks[-1].out_shape == (4,)


def test_a_later_stage_has_a_quarter_of_the_positions_and_a_width_of_its_own():
    blocks = dict(STAGED.restrict(precisions=["fp32"]).named_blocks(STAGED.restrict(precisions=["fp32"]).largest()))
    assert blocks["patch_embedding"].out_shape == (36, 24)
    assert (blocks["stages.1.merging"].in_shape, blocks["stages.1.merging"].out_shape) == ((36, 24), (9, 40))
    assert blocks["head"].in_shape == (9, 40)


# ---------------------------------------------------------------- the networks of the papers


def deit_tiny() -> list[Block]:
    space = AUTOFORMER.restrict(precisions=["fp32"], resolutions=[224])
    chosen = {c.name: c.options[-1] for c in space.choices} | {"stages.0.embed_dim": 192, "stages.0.depth": 12}
    chosen = {name: 3 if name.endswith("heads") else option for name, option in chosen.items()}
    return [b for _, b in space.named_blocks(space.encode(chosen))]


def test_deit_tiny_is_one_of_its_networks_but_for_the_class_token():
    """Touvron et al. (2021), table 1: 5.7 million parameters; a token and its position have 192 each."""
    blocks = deit_tiny()
    assert [b.kind for b in blocks] == ["patch_embedding", *["self_attention", "mlp"] * 12, "token_classifier"]
    assert sum(parameters(block_graph(b)) for b in blocks) == 5_717_416 - 2 * 192


def test_what_is_multiplied_is_what_the_shapes_say():
    tokens, width = 196, 192
    attention = 4 * tokens * width * width + 2 * tokens * tokens * width
    mlp = 2 * tokens * width * 4 * width
    assert sum(macs(block_graph(b)) for b in deit_tiny()) == (
        tokens * width * 3 * 16 * 16 + 12 * (attention + mlp) + width * 1000
    )


def test_the_sizes_are_those_of_autoformer_tiny():
    options = {c.name: c.options for c in AUTOFORMER.choices}
    assert options["stages.0.embed_dim"] == (192, 216, 240)
    assert options["stages.0.depth"] == (12, 13, 14)
    assert options["stages.0.blocks.0.attention.heads"] == (3, 4)
    assert options["stages.0.blocks.13.mlp.ratio"] == (3.5, 4)


def test_stages_of_the_preset_halve_the_sides_and_double_the_width():
    space = vit_resnas_tiny().restrict(precisions=["fp32"])
    blocks = dict(space.named_blocks(space.largest()))
    shapes = [blocks[f"stages.{s}.blocks.0.mlp"].in_shape for s in range(3)]
    assert shapes == [(400, 256), (100, 512), (25, 1024)]
    assert len(vit_resnas_tiny().distinct_blocks()) < 500


def test_a_table_of_the_preset_has_few_blocks():
    """Attention and MLP are slots of their own, and all blocks of a stage have the same shapes."""
    assert len(AUTOFORMER.distinct_blocks()) < 250
    assert AUTOFORMER.count() > 10**18


def block(kind, in_shape, out_shape, **attributes) -> Block:
    given = tuple(sorted(attributes.items()))
    return Block(kind=kind, in_shape=in_shape, out_shape=out_shape, precision="fp32", attributes=given)


def module_of(made: Block):
    torch = pytest.importorskip("torch")
    from hwnas.supernet.subnetwork import BlockModule

    torch.manual_seed(0)
    module = BlockModule(made).eval()
    for tensor in module.state_dict().values():
        tensor.normal_(0, 0.3)
    return module, module.state_dict()


def test_attention_computes_what_the_paper_writes():
    torch = pytest.importorskip("torch")
    module, w = module_of(block("self_attention", (9, 24), (9, 24), heads=2, head_width=8))
    x = torch.randn(3, 9, 24)
    y = torch.nn.functional.layer_norm(x, (24,), w["norm.weight"], w["norm.bias"])

    def heads(name):
        return (y @ w[f"{name}.weight"].T + w[f"{name}.bias"]).reshape(3, 9, 2, 8).transpose(1, 2)

    shares = (heads("query") @ heads("key").transpose(-1, -2) / 8**0.5).softmax(-1)
    looked = (shares @ heads("value")).transpose(1, 2).reshape(3, 9, 16)
    expected = x + looked @ w["project.weight"].T + w["project.bias"]
    torch.testing.assert_close(module(x), expected, rtol=0, atol=1e-5)


def test_an_mlp_computes_what_the_paper_writes():
    torch = pytest.importorskip("torch")
    module, w = module_of(block("mlp", (9, 24), (9, 24), hidden_features=40))
    x = torch.randn(3, 9, 24)
    y = torch.nn.functional.layer_norm(x, (24,), w["norm.weight"], w["norm.bias"])
    y = torch.nn.functional.gelu(y @ w["expand.weight"].T + w["expand.bias"])
    torch.testing.assert_close(module(x), x + y @ w["project.weight"].T + w["project.bias"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("map_side", [4, 6])
def test_patches_get_the_weights_of_their_places_whatever_the_resolution(map_side):
    torch = pytest.importorskip("torch")
    module, w = module_of(block("patch_embedding", (3, 8, 8), (16, 24), patch_size=2, map_side=map_side))
    x = torch.randn(2, 3, 8, 8)
    y = torch.nn.functional.conv2d(x, w["patches.weight"], w["patches.bias"], stride=2)
    places = torch.nn.functional.interpolate(w["positions.weight"][None], (4, 4), mode="bilinear")
    torch.testing.assert_close(module(x), (y + places).flatten(2).transpose(1, 2), rtol=0, atol=1e-5)


def test_merging_halves_both_sides():
    torch = pytest.importorskip("torch")
    module, w = module_of(block("patch_merging", (16, 24), (4, 40)))
    x = torch.randn(2, 16, 24)

    def image(tokens):
        return tokens.transpose(1, 2).reshape(2, 24, 4, 4)

    y = image(torch.nn.functional.layer_norm(x, (24,), w["norm.weight"], w["norm.bias"]))
    y = torch.nn.functional.conv2d(y, w["merge.weight"], w["merge.bias"], stride=2, padding=1)
    y = y + torch.nn.functional.conv2d(image(x), w["shortcut.weight"], stride=2)
    torch.testing.assert_close(module(x), y.flatten(2).transpose(1, 2), rtol=0, atol=1e-5)


# ---------------------------------------------------------------- the supernet


@pytest.mark.parametrize("space", [SMALL, STAGED], ids=lambda space: space.name)
def test_extracted_networks_equal_the_active_supernet(space):
    torch = pytest.importorskip("torch")
    from hwnas.supernet.elastic import Supernet

    torch.manual_seed(0)
    net = Supernet(space)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p) * 0.2)
        for encoding in (space.largest(), *space.sample(12, np.random.default_rng(0), over="encodings")):
            blocks = space.named_blocks(encoding)
            x = torch.randn(4, 1, *blocks[0][1].in_shape[1:])
            torch.testing.assert_close(net.extract(blocks)(x), net.eval()(x, blocks), rtol=0, atol=1e-5)


def test_fewer_heads_are_the_first_of_more():
    torch = pytest.importorskip("torch")
    from hwnas.supernet.elastic import ElasticBlock

    torch.manual_seed(0)
    one, two = (block("self_attention", (9, 16), (9, 16), heads=h, head_width=8) for h in (1, 2))
    shared = ElasticBlock([one, two])
    for p in shared.parameters():
        torch.nn.init.normal_(p)
    few, many = shared.subnetwork_weights(one), shared.subnetwork_weights(two)
    assert torch.equal(few["query.weight"], many["query.weight"][:8])
    assert torch.equal(few["project.weight"], many["project.weight"][:, :8])


def test_layers_of_positions_begin_by_what_they_read_and_the_classifier_small():
    torch = pytest.importorskip("torch")
    from hwnas.supernet.elastic import Supernet

    torch.manual_seed(0)
    weights = {name: p.detach() for name, p in Supernet(vit_tiny()).named_parameters()}
    block = "slots.stages/0/blocks/0/{}.weights.{}/weight"
    assert weights[block.format("attention", "query")].std() == pytest.approx(96**-0.5, rel=0.05)
    assert weights[block.format("mlp", "project")].std() == pytest.approx(384**-0.5, rel=0.05)
    assert weights["slots.head.weights.classifier/weight"].std() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("space", [SMALL, STAGED], ids=lambda space: space.name)
def test_every_shared_weight_learns(space):
    torch = pytest.importorskip("torch")
    from hwnas.supernet.elastic import Supernet

    torch.manual_seed(0)
    net = Supernet(space).train()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.2)
    net(torch.randn(8, 1, 12, 12), space.named_blocks(space.largest())).square().sum().backward()
    # a softmax does not change with what is added to all its scores, which is all that a key's bias does
    still = [n for n, p in net.named_parameters() if p.grad is None or p.grad.abs().sum() < 1e-3]
    assert all(name.endswith("attention.weights.key/bias") for name in still), still


def test_training_steps_teach_it():
    torch = pytest.importorskip("torch")
    from hwnas.supernet.elastic import Supernet

    torch.manual_seed(0)
    net, labels = Supernet(SMALL).train(), torch.arange(32) % 4
    x = torch.randn(32, 1, 12, 12) + torch.eye(4)[labels].repeat_interleave(3, 1)[:, None, :, None]  # a bright band
    blocks = SMALL.named_blocks(SMALL.largest())
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x, blocks), labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


# ---------------------------------------------------------------- related spaces, files, people, refusals


def test_a_restriction_keeps_names_and_drops_options():
    part = SMALL.restrict(precisions=["int8"], resolutions=[8])
    assert (part.precisions, part.resolutions) == (("int8",), (8,))
    assert not [c.name for c in part.choices if "precision" in c.name or c.name == "resolution"]
    (stem,) = [b for b in part.distinct_blocks() if b.kind == "patch_embedding" and b.out_shape == (16, 24)]
    assert stem.attributes == (("patch_size", 2),)  # the map of positions is of the largest images that are left


def test_precisions_take_the_names_of_what_a_device_computes_in():
    assert SMALL.computed_in({"int8": "int8-w7"}).precisions == ("int8-w7", "fp32")


def test_the_blocks_of_a_network_are_told_in_words():
    text = AUTOFORMER.describe(AUTOFORMER.largest()).splitlines()
    assert text[0] == "autoformer-tiny: 224 px"
    assert text[1].split() == [
        "patch_embedding",
        "patch_embedding",
        "16x16",
        "/16",
        "3x224x224",
        "->",
        "196x240",
        "fp32",
    ]
    assert "mlp hidden 960 gelu" in text[3]


def test_a_file_without_one_of_its_arguments_is_refused_by_its_name():
    value = json.loads(json.dumps(SMALL.to_json()))
    del value["patch_size"]
    with pytest.raises(SpaceError, match="vision transformer space: missing key 'patch_size'"):
        space_from_json(value)
    value = json.loads(json.dumps(SMALL.to_json()))
    del value["stages"][0]["heads"]
    with pytest.raises(SpaceError, match="stage: missing key 'heads'"):
        space_from_json(value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": []}, "stages must be one or more TransformerStage"),
        ({"resolutions": (9,)}, "resolution 9 is no multiple of 2"),
        ({"resolutions": (10,), "stages": TWO_STAGES}, "resolution 10 is no multiple of 4"),
        ({"activation": "tanh"}, "activation is 'tanh'; allowed: gelu, relu"),
        ({"precisions": ("fp32", "fp16")}, "one of floats at most"),
        ({"channel_divisor": 32}, "embed_dims 16 and 24 of stage 0 all give 32 features"),
        ({"stages": [replace(STAGE, mlp_ratios=(1, 1.1))]}, "mlp_ratios 1 and 1.1 of stage 0 all give 16 features"),
    ],
)
def test_what_makes_no_space_is_refused(changes, message):
    with pytest.raises(SpaceError, match=message):
        small(**changes)


@pytest.mark.parametrize("what", ["width_mults", "kernel_sizes"])
def test_dimensions_that_transformers_have_not_are_refused_by_name(what):
    with pytest.raises(SpaceError, match=f"is of transformers and has no {what}"):
        SMALL.restrict(**{what: [1]})


def test_presets_take_an_activation_and_a_multiple():
    space = vit_tiny(activation="relu", channel_divisor=16)
    inside = {dict(b.attributes)["hidden_features"] for b in space.distinct_blocks() if b.kind == "mlp"}
    assert all(n % 16 == 0 for n in inside)
    assert {dict(b.attributes)["activation"] for b in space.distinct_blocks() if b.kind == "mlp"} == {"relu"}


def test_positions_begin_about_as_large_as_the_patches_they_are_added_to() -> None:
    import torch

    from hwnas.supernet.elastic import Supernet

    torch.manual_seed(0)
    space = vit_tiny(1, 10)  # grey: a patch has the shape of a depthwise kernel, and is none
    weights = {name: w.detach() for name, w in Supernet(space).named_parameters()}
    patches, positions = (
        next(w for name, w in weights.items() if name.endswith(f"{part}/weight")) for part in ("patches", "positions")
    )
    image = torch.rand(64, 1, 32, 32) * 2 - 1
    made = torch.nn.functional.conv2d(image, patches, stride=4)
    assert 0.3 < float(positions.std() / made.std()) < 3
