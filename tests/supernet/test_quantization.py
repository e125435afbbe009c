"""Quantized networks: what they compute, how they calibrate, how they train."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hwnas.errors import DataError, SpaceError
from hwnas.precisions import precision
from hwnas.supernet.quantization import fold_batchnorm, quantize, without_rounding
from hwnas.supernet.quantization.bias_correction import BiasCorrection
from hwnas.supernet.quantization.modules import (
    HardswishQuantizer,
    QuantizedConv2d,
    QuantizedLinear,
    QuantizedWeights,
    Quantizer,
    UnitQuantizer,
)
from hwnas.supernet.quantization.schemes import ASYMMETRIC, SYMMETRIC
from hwnas.supernet.subnetwork import SubNetwork
from hwnas.testing.exporter_suite import sample_blocks, sample_images, sample_network
from tests.agreement import sqnr_db
from tests.exporters.operator_cases import BOTH, ONNX, images, module_of, quantized

ACTIVATIONS = ("relu", "relu6", "hswish", "silu")


def _network(pattern="iiii", act="relu6", se=4, features=16):
    return sample_network(sample_blocks(pattern, act=act, se_channels=se, features=features))


def _calibrated(quantizer, values):
    quantizer.observing = True
    quantizer(values)
    quantizer.observing = False
    quantizer.calibrate()
    return quantizer


# ---------------------------------------------------------------- folding


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_folded_network_computes_the_same_without_batchnorm(act):
    network = _network("ffff", act)
    folded = fold_batchnorm(network)
    x = sample_images(4)
    torch.testing.assert_close(folded(x), network(x), atol=1e-5, rtol=1e-5)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())


def test_folding_leaves_the_original_alone_and_twice_is_once():
    network = _network("ffff")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    folded = fold_batchnorm(network)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    x = sample_images(2)
    assert torch.equal(fold_batchnorm(folded)(x), folded(x))


# ---------------------------------------------------------------- and back


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("pattern", ["iiii", "fiif"])
def test_without_rounding_a_network_computes_in_floats_again(act, pattern):
    network = _network(pattern, act)
    floats = without_rounding(quantize(network, [sample_images(16)]))
    x = sample_images(4)
    torch.testing.assert_close(floats(x), network(x), atol=1e-5, rtol=1e-5)
    assert not any(isinstance(m, Quantizer | QuantizedWeights) for m in floats.modules())
    assert not floats.training


def test_without_rounding_the_weights_are_those_that_were_trained():
    quantized = quantize(_network("fiif"), [sample_images(16)])
    with torch.no_grad():
        for p in quantized.parameters():
            p.mul_(1.1)
    before = without_rounding(quantized)
    found = before.state_dict()
    assert found.keys() == dict(quantized.named_parameters()).keys()
    assert all(torch.equal(found[name], p) for name, p in quantized.named_parameters())
    with torch.no_grad():
        for p in quantized.parameters():
            p.zero_()
    assert all(p.abs().sum() > 0 for p in before.parameters())


CONVOLUTIONS = {name: build for name, build in ONNX.items() if name.startswith("conv")}


@pytest.mark.parametrize("build", {**BOTH, **CONVOLUTIONS}.values(), ids={**BOTH, **CONVOLUTIONS})
def test_without_rounding_every_operator_computes_in_floats_again(build):
    torch.testing.assert_close(
        without_rounding(quantized(build))(images()), module_of(build)(images()), atol=1e-5, rtol=1e-5
    )


def test_without_rounding_a_layer_has_the_bias_that_it_got_when_it_was_quantized():
    network = quantized(lambda g, x: g.conv2d(x, 3, name="op"))
    before = without_rounding(network)
    with torch.no_grad():
        dict(network.named_parameters())["blocks.1.op.bias"].add_(1)
    torch.testing.assert_close(without_rounding(network)(images()), before(images()) + 1)


def test_whole_numbers_have_no_scale():
    network = quantized(ONNX["take"])
    assert [name for name, m in network.named_modules() if isinstance(m, Quantizer)] == [
        "blocks.0.quantize",
        "blocks.1.op",
    ]
    assert network.left_in_float == ("take ('op') of 1",)


def _shares(g, x):
    rows = g.op("relu", x, name="parts")
    total = g.op("affine", g.op("sum", rows, name="total", axes=(0,), keepdim=True), name="shifted", shift=1e-5)
    return g.op("div", rows, total, name="op")


def test_what_is_small_beside_others_can_be_divided_by():
    network, x = quantized(_shares), images(4)
    x[:, :, 0, 0] = 1e-3
    assert network(x).isfinite().all()
    assert network(x).amax() <= 1.01


def _moved_divisor(g, x):
    """A sum, of which a part divides the rest."""
    parts = g.ops("split", g.op("sum", x, name="total", axes=(1,)), name="parts", axis=0, sizes=(3, 1))
    return g.op("div", parts[0], g.op("expand", parts[1], name="wide", shape=(3, 6)), name="op")


def _divisor_for_a_layer(g, x):
    total = g.op("sum", x, name="total", axes=(1,))
    return g.op("div", g.linear(total, 6, name="mix"), total, name="op")


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (_shares, {"total", "shifted"}),
        (_moved_divisor, {"total", "parts", "wide"}),
        (_divisor_for_a_layer, set()),
        (ONNX["linear attention"], {"both", "above", "below", "shifted"}),
        (BOTH["div by a norm"], {"total", "norm"}),
        (lambda g, x: g.op("div", x, g.conv2d(x, 4, name="conv"), name="op"), set()),
        (lambda g, x: g.op("power", g.op("exp", x, name="exp"), name="op", exponent=-1.0), {"exp"}),
        (lambda g, x: g.op("power", g.op("exp", x, name="exp"), name="op", exponent=2.0), set()),
    ],
)
def test_no_scale_rounds_what_leads_to_a_divisor(build, names):
    network = quantized(build)
    assert {item.op.name for item in network.blocks[1].op_plan if not item.has_scale} == names
    assert all(f"('{name}') of 1" in " ".join(network.left_in_float) for name in names)


# ---------------------------------------------------------------- quantizers


@settings(deadline=None, max_examples=60)
@given(
    low=st.floats(-50, 50, width=32), span=st.floats(2.0**-10, 100, width=32), lower=st.sampled_from([-math.inf, 0.0])
)
def test_quantizer_covers_what_it_saw_to_half_a_step(low, span, lower):
    values = torch.linspace(low, low + span, 1001)
    quantizer = _calibrated(Quantizer(lower=lower), values)
    expected = values.clamp(min=lower)
    # half a step of rounding, and half a step at the ends because zero must be quantized without error
    error = (quantizer(values) - expected).abs().max()
    assert error <= 1.001 * float(quantizer.scale)
    assert quantizer(torch.zeros(1)).item() == 0
    quantized_values = (quantizer(values) / quantizer.scale).round() + quantizer.zero_point
    assert quantized_values.min() >= 0
    assert quantized_values.max() <= 255


def test_relu6_range_never_exceeds_six():
    quantizer = _calibrated(Quantizer(lower=0.0, upper=6.0), torch.tensor([-3.0, 9.0]))
    assert quantizer(torch.tensor([-1.0, 100.0])).tolist() == pytest.approx([0.0, 6.0])


def test_quantizer_of_zeros_gives_zeros():
    quantizer = _calibrated(Quantizer(), torch.zeros(8))
    assert torch.equal(quantizer(torch.zeros(8)), torch.zeros(8))
    assert float(quantizer.scale) == pytest.approx(1 / 255)  # not so small that a bias would not fit


@settings(deadline=None, max_examples=60)
@given(high=st.floats(0.0, 300.0))
def test_hardswish_range_has_minus_three_and_covers_the_rest(high):
    quantizer = HardswishQuantizer()
    quantizer.set_range(-3.0, high)
    scale, zero = float(quantizer.scale), int(quantizer.zero_point)
    assert scale * zero == pytest.approx(3.0, rel=1e-6)  # quantized 0 is -3
    assert 0 < zero < 255
    assert scale * (255 - zero) >= high * (1 - 1e-6)


def test_gate_covers_zero_to_one_without_calibration():
    gate = UnitQuantizer()
    gate.calibrate()
    assert gate(torch.tensor([0.0, 0.5, 1.0])).tolist() == [0.0, 0.5, 255 / 256]


def test_gate_covers_zero_to_one_around_zero_too():
    gate = UnitQuantizer()
    gate.scheme, gate.needed = SYMMETRIC, True
    gate.calibrate()
    assert gate(torch.tensor([0.0, 64 / 127, 1.0])).tolist() == pytest.approx([0.0, 64 / 127, 1.0])


def test_ties_are_rounded_by_division_as_runtimes_do():
    quantizer = Quantizer()
    quantizer.set_qparams(0.0103199, 76)
    x = (torch.arange(-60, 60) + 0.5) * quantizer.scale
    quantized_values = np.rint((x / quantizer.scale).numpy())  # ONNX QuantizeLinear
    assert np.array_equal((quantizer(x) / quantizer.scale).round().numpy(), quantized_values)


def test_gradient_passes_within_the_range_and_stops_outside():
    quantizer = Quantizer()
    quantizer.set_range(-1.0, 1.0)
    x = torch.tensor([-2.0, -0.5, 0.0, 0.9, 1.5], requires_grad=True)
    quantizer(x).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]


def test_batches_widen_the_range():
    quantizer = Quantizer()
    quantizer.observing = True
    quantizer(torch.tensor([-1.0, 0.5]))
    quantizer(torch.tensor([-0.5, 2.0]))
    quantizer.calibrate()
    assert float(quantizer.scale) == pytest.approx(3.0 / 255)


# ---------------------------------------------------------------- weights


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**31), size=st.floats(1e-6, 1e3), bias=st.floats(-1e3, 1e3), input_scale=st.floats(1e-6, 1))
def test_weights_and_bias_are_multiples_of_their_scales(seed, size, bias, input_scale):
    generator = torch.Generator().manual_seed(seed)
    linear = nn.Linear(7, 3)
    linear.weight.data = torch.randn(3, 7, generator=generator) * size
    linear.weight.data[0] = 0.0  # a dead channel, with a bias all the same
    linear.bias.data.fill_(bias)
    layer = QuantizedLinear(linear)
    layer.input_scale.fill_(input_scale)
    weight, rounded = layer.fake_quantized_parameters()
    quantized_values = weight.detach() / layer.weight_scale[:, None]
    assert torch.allclose(quantized_values, quantized_values.round(), atol=1e-3)
    assert quantized_values.abs().max() <= 127.001
    quantized_bias = rounded.detach().double() / (layer.input_scale * layer.weight_scale).double()
    assert quantized_bias.abs().max() < 2**31
    step = (layer.input_scale * layer.weight_scale).max()
    assert (rounded - layer.bias).abs().max() <= 0.51 * step + 1e-6 * abs(bias)


def test_each_output_channel_has_its_own_scale():
    conv = nn.Conv2d(2, 2, 1)
    conv.weight.data = torch.tensor([[1.0, 0.5], [100.0, 50.0]]).view(2, 2, 1, 1)
    layer = QuantizedConv2d(conv)
    layer.update_weight_scale_()
    assert layer.weight_scale.tolist() == pytest.approx([1 / 127, 100 / 127])


def test_scales_follow_the_weights_whatever_changes_them():
    quantized = quantize(_network(), [sample_images(8)])
    for p in quantized.parameters():
        p.data.mul_(2.0)
    quantized(sample_images(1))
    for m in quantized.modules():
        if isinstance(m, QuantizedWeights):
            assert torch.allclose(m.weight_scale * 127, m.weight.abs().flatten(1).amax(1), rtol=1e-5)


def test_seven_bits_keep_weights_within_63():
    quantized = quantize(sample_network(sample_blocks("iiii", integers="int8-w7")), [sample_images(8)])
    layer = next(m for m in quantized.modules() if isinstance(m, QuantizedWeights))
    weight, _ = layer.fake_quantized_parameters()
    assert (weight.flatten(1).abs().amax(1) / layer.weight_scale).max().round() == 63


def test_by_tensor_all_channels_of_a_weight_share_the_scale_of_the_largest():
    quantized = quantize(sample_network(sample_blocks("iiii", integers="int8-pt")), [sample_images(8)])
    layers = [m for m in quantized.modules() if isinstance(m, QuantizedWeights)]
    assert layers
    for layer in layers:
        assert layer.weight_scale.shape == ()
        weight, _ = layer.fake_quantized_parameters()
        assert (weight.abs().amax() / layer.weight_scale).round() == 127
        assert torch.equal((weight / layer.weight_scale).round() * layer.weight_scale, weight)


def test_weights_by_tensor_follow_training():
    quantized = quantize(sample_network(sample_blocks("iiii", integers="int8-pt")), [sample_images(8)]).train()
    before = [m.weight_scale.clone() for m in quantized.modules() if isinstance(m, QuantizedWeights)]
    quantized(sample_images(8)).square().sum().backward()
    with torch.no_grad():
        for p in quantized.parameters():
            assert p.grad is not None
            assert p.grad.abs().sum() > 0
            p.mul_(2.0)
    quantized.eval()
    after = [m.weight_scale for m in quantized.modules() if isinstance(m, QuantizedWeights)]
    torch.testing.assert_close(after, [2.0 * scale for scale in before])


def test_weights_without_an_integer_operator_are_refused():
    layer = QuantizedLinear(nn.Linear(4, 4))
    with pytest.raises(SpaceError, match="a scale by group"):
        layer.take_format_(precision("int4w").weights)


# ---------------------------------------------------------------- networks


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("pattern", ["iiii", "fiif", "iffi"])
def test_quantized_network_stays_close_to_the_float_one(act, pattern):
    network = _network(pattern, act)
    x = sample_images(32)
    quantized = quantize(network, [x])
    assert sqnr_db(network(x), quantized(x)) > 20


def test_quantize_leaves_the_network_alone():
    network = _network().train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    quantized = quantize(network, [sample_images(4)])
    assert network.training
    assert not quantized.training
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_float_blocks_stay_float():
    network = _network("fffi")
    quantized = quantize(network, [sample_images(4)])
    assert not any(isinstance(m, Quantizer) for b in quantized.blocks[:3] for m in b.modules())


def test_every_tensor_between_int8_blocks_is_quantized():
    quantized = quantize(_network("iiii", "hswish"), [sample_images(8)])
    x = sample_images(4)
    for block in quantized.blocks:
        x = block(x)
        assert len(x.unique()) <= 256


def test_logits_are_multiples_of_the_scale_of_the_head():
    quantized = quantize(_network(), [sample_images(8)])
    quantized_values = quantized(sample_images(4)) / quantized.output_quantizer.scale
    assert torch.allclose(quantized_values, quantized_values.round(), atol=1e-3)


def test_state_dict_carries_the_scales():
    network = _network()
    quantized, other = quantize(network, [sample_images(16)]), quantize(network, [0.1 * sample_images(2)])
    x = sample_images(4)
    assert not torch.equal(other(x), quantized(x))
    other.load_state_dict(quantized.state_dict())
    assert torch.equal(other(x), quantized(x))


def test_only_max_batches_are_read():
    def batches():
        yield sample_images(2)
        yield sample_images(2)
        raise AssertionError("a third batch was read")

    quantize(_network(), batches(), max_batches=2)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_all_parameters_train(mode):
    quantized = quantize(_network(act="hswish"), [sample_images(16)]).train(mode == "train")
    quantized(sample_images(16)).square().sum().backward()
    for name, p in quantized.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().sum() > 0, name


def test_training_recovers_what_was_lost():
    network = _network()
    x = sample_images(64)
    target = network(x).detach()
    quantized = quantize(network, [x])
    generator = torch.Generator().manual_seed(0)
    for p in quantized.parameters():
        p.data += 0.1 * p.data.abs().mean() * torch.randn(p.shape, generator=generator)
    before = sqnr_db(target, quantized(x))
    optimizer = torch.optim.Adam(quantized.parameters(), 1e-3)
    for _ in range(30):
        optimizer.zero_grad()
        (quantized(x) - target).square().mean().backward()
        optimizer.step()
    assert sqnr_db(target, quantized(x)) > before + 2


def test_quantized_network_can_be_copied():
    quantized = quantize(_network(), [sample_images(4)])
    x = sample_images(2)
    assert torch.equal(copy.deepcopy(quantized)(x), quantized(x))


def test_channels_last_gives_the_same():
    quantized = quantize(_network(), [sample_images(4)])
    x = sample_images(4)
    other = quantized(x.contiguous(memory_format=torch.channels_last))
    step = float(quantized.output_quantizer.scale)
    assert ((other - quantized(x)).abs() < 0.01 * step).float().mean() > 0.95


# ---------------------------------------------------------------- the symmetric scheme


def _symmetric(pattern="iiii", act="relu6", images=None):
    return quantize(_network(pattern, act), [sample_images(32) if images is None else images], symmetric=True)


def _outputs(network, images, kinds):
    """Name -> what each module of these kinds gives."""
    seen = {}
    hooks = [
        m.register_forward_hook(lambda m, args, y, name=name: seen.__setitem__(name, y))
        for name, m in network.named_modules()
        if isinstance(m, kinds)
    ]
    network(images)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("pattern", ["iiii", "fiif", "iffi"])
def test_symmetric_network_stays_close_to_the_float_one(act, pattern):
    x = sample_images(32)
    assert sqnr_db(_network(pattern, act)(x), _symmetric(pattern, act, x)(x)) > 20


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_in_the_symmetric_scheme_what_weights_meet_is_int8_around_zero(act):
    network = _symmetric(act=act)
    inputs = {}
    for name, m in network.named_modules():
        if isinstance(m, QuantizedWeights):
            m.register_forward_hook(lambda m, args, y, name=name: inputs.__setitem__(name, (m, args[0])))
    network(sample_images(16))
    assert len(inputs) == 1 + 2 + 3 + 1 + 2 * 2 + 2
    for name, (m, x) in inputs.items():
        quantized_values = x / m.input_scale
        assert torch.allclose(quantized_values, quantized_values.round(), atol=1e-3), name
        assert quantized_values.min() >= -128.001, name
        assert quantized_values.max() <= 127.001, name
    assert all(int(m.zero_point) == 0 for m in network.modules() if isinstance(m, Quantizer) and m.rounds)


def test_symmetric_range_reaches_as_far_below_zero_as_above():
    quantizer = Quantizer()
    quantizer.scheme, quantizer.needed = SYMMETRIC, True
    _calibrated(quantizer, torch.tensor([-2.0, 1.0]))
    assert float(quantizer.scale) == pytest.approx(2 / 127)
    assert quantizer(torch.tensor([-9.0, 9.0])).tolist() == pytest.approx([-128 / 127 * 2, 2.0])


def test_in_the_symmetric_scheme_relu_is_an_operator_and_the_range_clips_at_six():
    quantizer = Quantizer(lower=0.0, upper=6.0)
    quantizer.scheme, quantizer.needed = SYMMETRIC, True
    _calibrated(quantizer, torch.tensor([-3.0, 9.0]))
    assert quantizer(torch.tensor([-1.0, 100.0])).tolist() == pytest.approx([0.0, 6.0])


def test_in_the_symmetric_scheme_what_no_weights_meet_is_float():
    network = _symmetric(act="hswish")
    given = _outputs(network, sample_images(16), Quantizer)
    residual = network.blocks[2]
    rounded = {name for name, y in given.items() if len(y.unique()) <= 256}
    assert {
        "blocks.2.sum",
        "blocks.3.project.conv_quantizer",
        "blocks.4.classifier_quantizer",
    } <= rounded
    assert residual.sum is not None
    # the sum's other operand, the head before its pool, the convolution before squeeze-and-excitation
    assert not rounded & {"blocks.2.project.conv_quantizer", "blocks.4.conv.act.after", "blocks.2.depthwise.act.after"}


def test_in_the_symmetric_scheme_biases_are_float():
    layer = next(m for m in _symmetric().modules() if isinstance(m, QuantizedWeights))
    assert torch.equal(layer.fake_quantized_parameters()[1], layer.bias + layer.bias_shift)


def test_a_large_bias_does_not_widen_the_weights_grid_of_the_symmetric_scheme():
    scales = []
    linear = nn.Linear(4, 2)
    linear.bias.data.fill_(1e9)
    for scheme in (SYMMETRIC, ASYMMETRIC):
        layer = QuantizedLinear(linear)
        layer.scheme = scheme
        layer.update_weight_scale_()
        scales.append(layer.weight_scale)
    assert torch.allclose(scales[0] * 127, layer.weight.abs().amax(1))
    assert (scales[1] > scales[0]).all()


def test_symmetric_network_trains_and_can_be_restored():
    network, other = _symmetric(act="hswish"), _symmetric(act="hswish", images=0.1 * sample_images(2))
    network.train()
    network(sample_images(16)).square().sum().backward()
    for name, p in network.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().sum() > 0, name
    x = sample_images(4)
    assert not torch.equal(other(x), network(x))
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(x), network(x))


# ---------------------------------------------------------------- wrong input


def test_int8_block_without_boundary_is_refused():
    blocks = [b for b in sample_blocks("fiif") if b.kind != "quantize"]
    with pytest.raises(SpaceError, match="put a 'quantize' block before it"):
        quantize(SubNetwork(blocks), [sample_images(2)])


def test_float_block_after_int8_without_boundary_is_refused():
    blocks = [b for b in sample_blocks("fiif") if b.kind != "dequantize"]
    with pytest.raises(SpaceError, match="put a 'dequantize' block before it"):
        quantize(SubNetwork(blocks), [sample_images(2)])


def test_no_calibration_batch_is_refused():
    with pytest.raises(DataError, match="no batches"):
        quantize(_network(), [])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_activations_that_are_not_finite_name_their_place(bad):
    images = sample_images(2)
    images[0, 0, 0, 0] = bad
    with pytest.raises(DataError, match=r"blocks\.0.*not finite"):
        quantize(_network(), [images])


@pytest.mark.parametrize("wrong", [{"max_batches": 0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        quantize(_network(), [sample_images(2)], **wrong)


# ---------------------------------------------------------------- quality


def test_a_block_in_float_stays_exact_and_an_int8_block_loses_little():
    network, x = _network("ffii"), sample_images(8)
    quantized = quantize(network, [x])
    found, ratios = x, []
    for plain, block in zip(network.blocks, quantized.blocks, strict=True):
        x, found = plain(x), block(found)
        ratios.append(sqnr_db(x, found))
    assert min(ratios[:2]) > 100  # only BatchNorm was folded
    assert all(20 < r < 80 for r in ratios[2:])


# ---------------------------------------------------------------- biases


def _edges(channels=8):
    """Depthwise weights that nearly cancel out, of inputs far from zero: what rounding them does is a shift."""
    network = _network("iiii")
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and module.groups > 1:
                module.weight -= module.weight.mean((2, 3), keepdim=True)
                module.weight += 0.003
    return network


def _means_of_layers(module, x):
    """Name of a layer -> (C,) mean of its outputs."""
    seen = {}

    def see(name):
        def hook(layer, inputs, output):
            seen[name] = output.transpose(0, 1).flatten(1).mean(1)

        return hook

    for name, layer in module.named_modules():
        if isinstance(layer, QuantizedWeights | nn.Conv2d | nn.Linear):
            layer.register_forward_hook(see(name))
    with torch.no_grad():
        module(x)
    return seen


def test_means_of_layers_are_those_of_full_precision_again():
    network, x = _network("iiii"), sample_images(64) + 1.0
    wanted = _means_of_layers(fold_batchnorm(network), x)
    without, corrected = (
        torch.cat([(mean - wanted[name]).abs() for name, mean in _means_of_layers(found, x).items()]).mean()
        for found in (quantize(network, [x], correct_biases=c) for c in (False, True))
    )
    assert corrected < 0.3 * without


def test_corrected_biases_bring_outputs_nearer_to_floats():
    network, x = _edges(), sample_images(64) + 1.0
    wanted = network(x)
    without, corrected = (quantize(network, [x], correct_biases=c)(x) for c in (False, True))
    assert sqnr_db(wanted, corrected) > sqnr_db(wanted, without) + 1


def test_a_mean_of_few_values_corrects_nothing():
    network = _network("iiii")
    layers = [m for m in quantize(network, [sample_images(8)]).modules() if isinstance(m, QuantizedWeights)]
    assert isinstance(layers[-1], QuantizedLinear)
    assert not layers[-1].bias_shift.any()
    assert layers[0].bias_shift.any(), "of many values it is worth something"


def test_what_rounds_to_no_number_shifts_nothing():
    quantized_network = quantize(_network("iiii"), [sample_images(16)])
    correction = BiasCorrection(quantized_network)
    with torch.no_grad():
        with correction.seeing():
            quantized_network(sample_images(16))
        with correction.correcting_():
            quantized_network(sample_images(16) * float("nan"))
    assert all(m.bias_shift.isfinite().all() for m in quantized_network.modules() if isinstance(m, QuantizedWeights))
