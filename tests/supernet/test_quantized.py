from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from hwnas.accuracy import SubnetEvaluator
from hwnas.errors import ConfigError, DataError
from hwnas.graph import GraphBuilder
from hwnas.named_spaces import make_space
from hwnas.precisions import is_conversion
from hwnas.spaces.kinds import block_graph
from hwnas.supernet.checkpoint import load_checkpoint
from hwnas.supernet.elastic import Supernet
from hwnas.supernet.quantization import quantize
from hwnas.supernet.quantization.modules import HardswishQuantizer, QuantizedWeights, Quantizer
from hwnas.supernet.quantization.region import QuantizedBlock
from hwnas.supernet.quantization.rounding import (
    LearnedRange,
    _Round,
    round_to_range,
    round_weights,
    rounded,
    rounding_plan,
)
from hwnas.supernet.quantized import begin_ranges_, in_precision, in_precisions, learned_ranges
from hwnas.supernet.recalibration import recalibrate
from hwnas.supernet.training import load_averaged
from tests.supernet.test_training import SETTINGS, make_stream, make_trainer

QUANTIZED = dataclasses.replace(SETTINGS, quantized_fraction=0.5)


def signal_to_noise(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """In decibels."""
    noise = (found - wanted).detach().square().mean().clamp_min(1e-20)
    return float(10 * torch.log10(wanted.detach().square().mean() / noise))


def begun(space, images: torch.Tensor, *, n: int = 6) -> Supernet:
    """A supernet whose ranges are those of its first weights."""
    torch.manual_seed(0)
    supernet = Supernet(space, rounded=True).train()
    drawn = [space.largest(), *space.sample(n, np.random.default_rng(0), over="encodings")]
    begin_ranges_(supernet, [space.named_blocks(e) for e in drawn], images)
    return supernet


def all_int8(space, encoding: np.ndarray) -> list:
    """The named blocks of a network, all in integers."""
    architecture = space.decode(encoding)
    return space.named_blocks(
        space.encode({name: "int8" if name.endswith("precision") else v for name, v in architecture.items()})
    )


# ---------------------------------------------------------------- what is rounded


def test_a_plan_names_the_quantizers_of_the_integer_form(space) -> None:
    blocks = [b for _, b in space.named_blocks(space.largest()) if not is_conversion(b.kind)]
    plan = rounding_plan(block_graph(blocks[1]))  # an inverted residual with squeeze-and-excitation, and a sum
    assert {v.quantizer for v in plan.values} >= {"expand.act", "depthwise.act", "project.conv_quantizer", "sum"}
    assert plan.weights.keys() >= {"expand.conv.weight", "depthwise.conv.weight", "project.conv.weight"}
    assert plan.output is not None
    assert plan.output.quantizer == "sum"


def test_a_hard_swish_is_rounded_before_and_behind(space) -> None:
    hswish = space.encode({**space.decode(space.largest()), "stages.1.activation": "hswish"})
    block = next(b for n, b in space.named_blocks(hswish) if n.startswith("stages.1"))
    plan = rounding_plan(block_graph(block))
    named = {v.quantizer: v.value for v in plan.values}
    assert named["depthwise.act.before"] == "depthwise.bn"
    assert named["depthwise.act.after"] == "depthwise.act"


def test_a_value_is_rounded_once_and_an_input_not_at_all() -> None:
    g = GraphBuilder()
    x = g.input((4, 6, 6))
    bent = g.op("hardswish", x, name="bent")
    mixed = g.conv2d(bent, 4, name="mixed")
    y = g.op("add", g.op("hardswish", mixed, name="again"), mixed, name="sum")
    plan = rounding_plan(g.build(y))
    assert {v.value: v.quantizer for v in plan.values} == {
        "bent": "bent.after",  # what enters is rounded by whoever made it
        "mixed": "mixed_quantizer",
        "again": "again.after",
        "sum": "sum",
    }


# ---------------------------------------------------------------- how it is rounded


@pytest.mark.parametrize("zero", [0.0, 100.0])
def test_the_step_of_a_range_has_the_gradient_of_the_paper(zero) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(4, 3, 5, requires_grad=True), torch.randn(4, 3, 5)
    scale, zero_point = torch.tensor([0.01], requires_grad=True), torch.tensor([zero])
    (round_to_range(x, scale, zero_point) * weight).sum().backward()
    steps = x.detach() / 0.01
    levels = steps.round().clamp(-zero, 255 - zero)
    inside = (steps.round() == levels).float()
    # Esser et al. (2020), equation 3
    wanted = ((levels - steps * inside) * weight).sum() / math.sqrt(255 * 15)
    assert float(scale.grad) == pytest.approx(float(wanted), rel=1e-4)
    assert torch.equal(x.grad, weight * inside)


@pytest.mark.parametrize("zero", [0.0, 100.0])
def test_what_a_gpu_computes_is_what_torch_does(zero) -> None:
    found = []
    for function in (round_to_range, lambda x, s, z: _Round.apply(x, s, z, 1 / math.sqrt(255 * 15))):
        torch.manual_seed(0)
        x, weight = torch.randn(4, 3, 5, requires_grad=True), torch.randn(4, 3, 5)
        scale = torch.tensor([0.013], requires_grad=True)
        y = function(x, scale, torch.tensor([zero]))
        (y * weight).sum().backward()
        found.append((y.detach(), x.grad, scale.grad))
    (y, by_x, by_scale), (y2, by_x2, by_scale2) = found
    assert torch.allclose(y, y2, atol=1e-6)
    assert torch.equal(by_x, by_x2)
    assert torch.allclose(by_scale, by_scale2, rtol=1e-4)


def test_a_factor_of_a_channel_changes_nothing_in_how_its_weights_are_rounded() -> None:
    torch.manual_seed(0)
    weight, factor = torch.randn(6, 4, 3, 3), torch.tensor([0.1, 3.0, -2.0, 1e-3, 7.0, 1.0])[:, None, None, None]
    assert torch.allclose(round_weights(weight * factor), round_weights(weight) * factor, rtol=1e-5)


def test_the_channels_of_a_transposed_convolution_lie_on_its_second_axis() -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 6, 3, 3)
    assert torch.equal(round_weights(weight, 1), round_weights(weight.transpose(0, 1)).transpose(0, 1))
    assert not torch.equal(round_weights(weight, 1), round_weights(weight))


def test_a_range_begins_with_the_mean_of_what_it_saw_and_has_0_in_it() -> None:
    learned = LearnedRange()
    learned.watch_()
    for low, high in ((1.0, 4.0), (2.0, 6.0)):
        x = torch.tensor([[low, high]])
        assert learned(x) is x  # it only looks
    learned.begin_()
    assert learned.ends == pytest.approx((0.0, 5.0))
    assert learned.zero_point.item() == 0


def test_a_range_that_saw_only_zeros_rounds_them_to_zeros() -> None:
    learned = LearnedRange()
    learned.watch_()
    learned(torch.zeros(1, 4))
    learned.begin_()
    assert torch.equal(learned(torch.zeros(1, 4)), torch.zeros(1, 4))


# ---------------------------------------------------------------- supernets


def test_floats_are_untouched_and_integers_are_rounded(space) -> None:
    x = torch.randn(16, 2, 12, 12)
    supernet = begun(space, x)
    largest = space.named_blocks(space.largest())
    plain = Supernet(space).train()
    plain.load_state_dict({k: v for k, v in supernet.state_dict().items() if k in plain.state_dict()})
    floats = plain(x, largest)
    assert torch.equal(supernet(x, in_precision(largest, "fp32")), floats)
    integers = supernet(x, in_precision(largest, "int8"))
    assert not torch.equal(integers, floats)
    assert signal_to_noise(integers, floats) > 10
    supernet.rounds = False
    assert torch.equal(supernet(x, in_precision(largest, "int8")), floats)


def test_gradients_reach_weights_and_ranges_through_the_rounding(space) -> None:
    x = torch.randn(8, 2, 12, 12)
    supernet = begun(space, x)
    supernet(x, in_precision(space.named_blocks(space.largest()), "int8")).square().sum().backward()
    used = {name: p.grad for name, p in supernet.named_parameters() if p.grad is not None}
    assert any(name.endswith("scale") and bool(g.abs().sum() > 0) for name, g in used.items())
    assert sum(bool(g.abs().sum() > 0) for name, g in used.items() if "conv" in name) > 10


def test_a_range_is_one_for_all_variants_of_a_slot(space) -> None:
    supernet = begun(space, torch.randn(8, 2, 12, 12))
    small, large = (dict(space.named_blocks(e)) for e in (space.smallest(), space.largest()))
    first = supernet.slots["stages/0/blocks/0"]
    plans = [first.plan_of(blocks["stages.0.blocks.0"]) for blocks in (small, large)]
    shared = {v.path for v in plans[0].values} & {v.path for v in plans[1].values}
    assert "depthwise.act_range" in shared
    assert {p.replace(".", "/") for p in shared} <= set(first.ranges)


@pytest.mark.parametrize(
    ("preset", "length"), [("resnet20", None), ("vit-tiny", None), ("conv1d-sensor", 64), ("segment-tiny", None)]
)
def test_every_family_ships_as_it_was_trained(preset, length) -> None:
    space = make_space(preset, in_channels=3, n_classes=4, style={}, length=length)
    shape = space.named_blocks(space.smallest())[0][1].in_shape
    torch.manual_seed(1)
    x = torch.randn(16, *shape)
    supernet = begun(space, x, n=3)
    network = supernet.extract(all_int8(space, space.smallest()))
    recalibrate(network, [x], as_rounded=True)
    with torch.no_grad():
        as_trained = rounded(network)(x)
        ships = quantize(network, [], correct_biases=False)(x)
    # they differ where a folded normalisation puts a number on the other side of a half
    assert signal_to_noise(ships, as_trained) > 18


def test_extracted_networks_have_the_ranges_that_were_learned_and_need_no_calibration(space) -> None:
    supernet = begun(space, torch.randn(16, 2, 12, 12))
    scale = supernet.slots["stem"].range_at("conv.act_range").scale
    with torch.no_grad():
        scale.mul_(0.5)
    network = supernet.extract(all_int8(space, space.largest()))
    recalibrate(network, [torch.randn(16, 2, 12, 12)], as_rounded=True)
    quantized = quantize(network, iter(()), correct_biases=False)
    stem = next(b for b in quantized.blocks if isinstance(b, QuantizedBlock) and b.slot_block.kind == "conv")
    assert float(stem.get_submodule("conv.act").scale) == pytest.approx(scale.item(), rel=1e-5)
    known = [m for m in quantized.modules() if isinstance(m, Quantizer)]
    assert all(float(m.scale) != 1.0 for m in known)  # what a quantizer has that nobody set


def test_networks_with_learned_ranges_are_evaluated_without_calibration_images(space) -> None:
    stream = make_stream()
    supernet = begun(space, torch.randn(16, 2, 8, 8)).eval()
    evaluator = SubnetEvaluator(supernet, train=stream, validation=stream)
    network = evaluator.extract(all_int8(space, space.smallest()))
    evaluator._calibration = iter(())
    ships = evaluator.quantize(network)
    layers = [m for m in ships.modules() if isinstance(m, QuantizedWeights)]
    assert layers
    assert not any(bool(m.bias_shift.any()) for m in layers)


def test_a_mixed_network_has_ranges_where_integers_begin(space) -> None:
    names = {c.name for c in space.choices if c.name.endswith("precision")}
    architecture = {**space.decode(space.largest()), **dict.fromkeys(names, "int8")}
    architecture["stages.0.blocks.0.precision"] = "fp32"
    blocks = space.named_blocks(space.encode(architecture))
    supernet = begun(space, torch.randn(16, 2, 12, 12))
    network = supernet.extract(blocks)
    recalibrate(network, [torch.randn(16, 2, 12, 12)], as_rounded=True)
    quantized = quantize(network, iter(()), correct_biases=False)
    entering = [b for b in quantized.blocks if isinstance(b, QuantizedBlock) and b.enters]
    assert len(entering) == 2  # the images, and what the block in floats gives
    low, high = supernet.slots["stages/0/blocks/0"].range_at("sum_range").ends
    assert float(entering[1].output_quantizer.scale) == pytest.approx((high - low) / 255, rel=1e-5)


def test_statistics_are_those_of_the_rounded_network(space) -> None:
    x = torch.randn(64, 2, 12, 12)
    supernet = begun(space, x)
    blocks = all_int8(space, space.smallest())
    network, plain = supernet.extract(blocks), supernet.extract(blocks)
    recalibrate(network, [x], as_rounded=True)
    recalibrate(plain, [x])
    means = [dict(n.named_buffers()) for n in (network, plain)]
    last = [k for k in means[0] if k.endswith("running_mean")][-1]
    assert not torch.equal(means[0][last], means[1][last])
    assert torch.allclose(means[0][last], means[1][last], atol=0.1 * float(means[1][last].abs().max()) + 0.05)


@pytest.mark.parametrize("preset", ["vit-tiny", "resnet50"])
def test_integers_behind_floats_that_were_only_moved_have_the_range_of_what_was_moved(preset) -> None:
    """What leaves a patch embedding is permuted, what leaves a deep stem the largest of a window."""
    space = make_space(preset, in_channels=3, n_classes=4, style={})
    space = space.restrict(resolutions=[space.resolutions[0]])
    architecture = {n: "int8" if n.endswith("precision") else v for n, v in space.decode(space.smallest()).items()}
    blocks = space.named_blocks(space.encode({**architecture, f"{space.slots[0].name}.precision": "fp32"}))
    shape = blocks[0][1].in_shape
    supernet = begun(space, torch.randn(4, *shape), n=0)
    network = supernet.extract(blocks)
    kinds = [b.kind for _, b in blocks]
    assert kinds[1] == "quantize"
    (found,) = network.ranges[1].values()
    slot = supernet.slots[blocks[0][0].replace(".", "/")]
    own = [slot.range_at(v.path).ends for v in slot.plan_of(blocks[0][1]).values]
    assert found in own
    assert found != supernet.input_range.ends


def test_where_floats_have_no_range_integers_behind_them_are_calibrated(space, monkeypatch) -> None:
    supernet = begun(space, torch.randn(16, 2, 12, 12))
    architecture = space.decode(space.largest())
    names = {n for n in architecture if n.endswith("precision")}
    blocks = space.named_blocks(
        space.encode({**architecture, **dict.fromkeys(names, "int8"), "stages.0.blocks.0.precision": "fp32"})
    )
    monkeypatch.setattr(supernet.slots["stages/0/blocks/0"], "output_range", lambda block: None)
    network = supernet.extract(blocks)
    x = torch.randn(16, 2, 12, 12)
    recalibrate(network, [x], as_rounded=True)
    with pytest.raises(DataError, match="calibration has no batches"):
        quantize(network, iter(()), correct_biases=False)
    quantized = quantize(network, [x], correct_biases=False)
    second = [b for b in quantized.blocks if isinstance(b, QuantizedBlock) and b.enters][1]
    assert float(second.output_quantizer.scale) not in (1.0, supernet.input_range.scale.item())


def test_a_learned_range_never_undoes_the_activation_that_it_stands_for(space) -> None:
    supernet = begun(space, torch.randn(16, 2, 12, 12))
    learned = supernet.slots["stem"].range_at("conv.act_range")
    learned.set_ends_(-4.0, 8.0)  # of a relu6
    network = supernet.extract(all_int8(space, space.largest()))
    recalibrate(network, [torch.randn(16, 2, 12, 12)], as_rounded=True)
    quantized = quantize(network, iter(()), correct_biases=False)
    stem = next(b for b in quantized.blocks if isinstance(b, QuantizedBlock) and b.slot_block.kind == "conv")
    out = stem(torch.randn(16, 2, 12, 12) * 50).detach()
    assert float(out.min()) == 0.0
    assert float(out.max()) == pytest.approx(6.0)


def test_branches_that_begin_with_nothing_may_take_either_sign() -> None:
    learned = LearnedRange()
    learned.watch_()
    learned(torch.zeros(1, 4))
    learned.begin_()
    x = torch.tensor([[-0.5, -0.1, 0.1, 0.5]])
    assert torch.allclose(learned(x), x, atol=0.005)


def test_before_a_hard_swish_the_grid_that_ships_is_trained_on(space) -> None:
    x = torch.randn(16, 2, 12, 12)
    supernet = begun(space, x, n=12)
    architecture = {**space.decode(space.largest()), "stages.1.activation": "hswish"}
    network = supernet.extract(all_int8(space, space.encode(architecture)))
    recalibrate(network, [x], as_rounded=True)
    quantized = quantize(network, iter(()), correct_biases=False)
    shipped = [m for m in quantized.modules() if isinstance(m, HardswishQuantizer)]
    trained = [m for m in rounded(network).modules() if isinstance(m, LearnedRange) and m.before_hardswish]
    assert shipped
    assert [float(m.scale) for m in shipped] == pytest.approx([m.scale.item() for m in trained])
    assert [int(m.zero_point) for m in shipped] == [int(m.zero_point.item()) for m in trained]


# ---------------------------------------------------------------- precisions of a step


def test_the_largest_takes_turns_and_half_of_the_others_are_all_integers(space) -> None:
    networks = [space.named_blocks(space.largest())] + [space.named_blocks(space.smallest())] * 400
    for step, wanted in ((0, "fp32"), (1, "int8")):
        found = in_precisions(networks, step, np.random.default_rng(0))
        assert {b.precision for _, b in found[0]} == {wanted}
        kinds = [frozenset(b.precision for _, b in blocks if not is_conversion(b.kind)) for blocks in found[1:]]
        floats = sum(k == {"fp32"} for k in kinds)
        assert 70 <= floats <= 130  # a quarter; the smallest network is drawn in integers otherwise


def test_a_value_that_no_network_shows_begins_as_wide_as_the_widest(space) -> None:
    torch.manual_seed(0)
    supernet = Supernet(space, rounded=True).train()
    begin_ranges_(supernet, [space.named_blocks(space.smallest())], torch.randn(8, 2, 12, 12))
    scales = [r.scale.item() for r in learned_ranges(supernet)]
    assert min(scales) > 0
    assert scales.count(max(scales)) > 1


# ---------------------------------------------------------------- training


def quantized_trainer(space, path, *, settings=QUANTIZED, seed=0):
    trainer = make_trainer(space, path, settings=settings, seed=seed, rounded=True)
    trainer.stream = make_stream(batch_size=16)
    return trainer


@pytest.mark.parametrize("cut", [2, 4, 6])  # before the first quantized step, at it, behind it
def test_an_interrupted_quantized_run_ends_with_the_same_weights(space, tmp_path, cut) -> None:
    whole, pieces = tmp_path / "whole.safetensors", tmp_path / "pieces.safetensors"
    quantized_trainer(space, whole).run()
    quantized_trainer(space, pieces).run(until=cut)
    again = quantized_trainer(space, pieces, seed=9)
    assert again.resume() == cut
    again.run()
    a, b = (load_checkpoint(p).tensors for p in (whole, pieces))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_ranges_are_kept_and_averaged_from_where_they_begin(space, tmp_path) -> None:
    path = tmp_path / "c.safetensors"
    trainer = quantized_trainer(space, path)
    with torch.no_grad():
        for name, p in trainer.supernet.named_parameters():
            if name.endswith("bn/weight"):  # those at the end of a branch begin with 0, and in four steps hardly grow
                p.fill_(1.0)
    trainer.run()
    supernet = load_averaged(Supernet(space, rounded=True), load_checkpoint(path))
    scales = {n: p.item() for n, p in supernet.named_parameters() if n.endswith("scale")}
    now = dict(trainer.supernet.named_parameters())
    # an average with the 0 from before they began would be smaller
    assert all(scales[n] == pytest.approx(now[n].item(), rel=0.2) for n in scales)
    assert all(now[n].item() > 0 for n in scales)


@pytest.mark.parametrize(("share", "first"), [(0.0, 8), (0.01, 7), (0.5, 4), (1.0, 0)])
def test_any_share_asks_for_one_step_at_least(share, first) -> None:
    assert dataclasses.replace(SETTINGS, quantized_fraction=share).first_quantized == first


def test_a_supernet_without_ranges_is_told(space) -> None:
    with pytest.raises(ConfigError, match="quantized_fraction"):
        make_trainer(space, None, settings=QUANTIZED)


def test_quantized_training_learns(space) -> None:
    settings = dataclasses.replace(QUANTIZED, steps=60, label_smoothing=0.0)
    trainer = quantized_trainer(space, None, settings=settings)
    losses: list[float] = []
    trainer.run(progress=lambda done, total, note: losses.append(float(note.split()[1].rstrip(","))))
    assert losses[-1] < 0.5 * losses[0]
