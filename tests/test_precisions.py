"""What the names of precisions mean."""

import pytest

from hwnas.errors import ConfigError, UnknownNameError
from hwnas.precisions import (
    KNOWN,
    asked_as,
    by_exactness,
    check_supported,
    computed_in,
    gives_integers,
    is_allowed,
    is_conversion,
    is_quantized,
    offered_as,
    precision,
    simulated_as,
    stands_for,
    supported,
    takes_integers,
)
from hwnas.testing.fake import FakeRuntime, fake_device
from hwnas.types import PRECISIONS, Block


def test_what_is_offered_is_computed_as_it_is_unless_a_runtime_says_otherwise():
    assert computed_in(FakeRuntime(), fake_device(), {}) == {name: name for name in PRECISIONS}
    device = fake_device(options={"float_type": "fp16", "vnni": False})
    assert computed_in(FakeRuntime(), device, {}) == {"fp32": "fp16", "int8": "int8-w7"}


def test_a_runtime_that_says_nothing_computes_what_is_offered():
    assert computed_in(object(), fake_device(), {}) == {"fp32": "fp32", "int8": "int8"}  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "largest"), [("int8", 127), ("int8-w7", 63)])
def test_weights_reach_as_far_as_the_name_says(name, largest):
    assert precision(name).weights.quant_max == largest
    # two products of a uint8 and such a weight, as VPMADDUBSW adds them
    assert (2 * 255 * largest <= 2**15 - 1) is (name == "int8-w7")


def test_one_of_two_stands_for_every_precision_by_what_passes_between_blocks():
    assert {offered_as(name) for name in KNOWN} == set(PRECISIONS)
    assert all(is_quantized(name) == is_quantized(offered_as(name)) for name in KNOWN)


def test_torch_computes_rounded_weights_as_they_are_and_floats_in_single_precision():
    assert {simulated_as(name) for name in KNOWN} == {"fp32", "int8", "int8-pt", "int8-w7", "int4w"}


def test_what_has_a_reason_is_asked_for_by_what_it_takes_the_place_of():
    assert {name: asked_as(name) for name, p in KNOWN.items() if p.note} == {
        "tf32": "fp32",
        "fp16": "fp32",
        "bf16": "fp32",
        "int8-w7": "int8",
    }
    assert all(asked_as(name) == name for name, p in KNOWN.items() if not p.note)


@pytest.mark.parametrize("name", KNOWN)
def test_every_number_format_is_complete(name: str) -> None:
    weights, activations = KNOWN[name].weights, KNOWN[name].activations
    for format in (weights, activations):
        assert format.bytes_of(8) >= format.bits  # 8 numbers, at least as many bytes as one has bits
        assert (format.per == "group") == (format.group is not None)
    assert weights.per in ("", "tensor", "channel", "group")
    assert activations.per in ("", "tensor")
    assert KNOWN[name].rounds or not KNOWN[name].quantized
    assert KNOWN[name].name == name


@pytest.mark.parametrize(("name", "scales"), [("fp32", 0), ("int8-pt", 2), ("int8", 48), ("int4w", 32)])
def test_weights_have_as_many_scales_as_share_none(name: str, scales: int) -> None:
    assert precision(name).weights.scales_of(1000, channels=48, tensors=2) == scales


@pytest.mark.parametrize(
    ("allowed", "legal"),
    [(("fp32",), {"fp32", "tf32", "fp16", "bf16", "int4w"}), (("int8-pt",), {"int8-pt"}), (("fp16",), {"fp16"})],
)
def test_a_description_allows_what_it_names_or_all_that_the_name_stands_for(
    allowed: tuple[str, ...], legal: set[str]
) -> None:
    assert {name for name in KNOWN if is_allowed(name, fake_device(precisions=allowed))} == legal


def test_of_floats_a_device_supports_what_it_computes_them_in():
    assert supported(FakeRuntime(), fake_device(options={"float_type": "fp16"}), {}) == (
        *("fp16", "int8", "int8-pt", "int8-w7"),
    )


def test_where_sums_saturate_no_weights_of_8_bits_are_supported():
    device = fake_device(options={"vnni": False})
    assert supported(FakeRuntime(), device, {}) == ("fp32", "int8-w7")
    check_supported(["fp32", "int8"], runtime=FakeRuntime(), device=device)  # int8 becomes int8-w7, by its name
    with pytest.raises(ConfigError, match=r"not compute in 'int8-pt' .* there: fp32, int8-w7 \('int8-pt' w"):
        check_supported(["int8-pt"], runtime=FakeRuntime(), device=device)


def test_a_block_is_trained_in_what_stands_for_its_precision():
    assert [stands_for(name, PRECISIONS) for name in ("fp16", "int4w", "int8-pt", "int8")] == [
        *("fp32", "fp32", "int8", "int8"),
    ]
    with pytest.raises(ConfigError, match="has fp32, and no integers that could be 'int8-pt'"):
        stands_for("int8-pt", ["fp32"])


def test_the_most_exact_comes_first():
    assert by_exactness(["int8-w7", "fp16", "int8", "fp32"]) == ("fp32", "fp16", "int8", "int8-w7")


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(UnknownNameError, match=r"'fp8'; known: .*fp16.*int8-w7"):
        precision("fp8")


@pytest.mark.parametrize(
    ("kind", "precision", "integers"),
    [
        ("conv", "int8", (True, True)),
        ("conv", "fp16", (False, False)),
        ("quantize", "int8", (False, True)),
        ("dequantize", "int8-w7", (True, False)),
    ],
)
def test_integers_pass_between_quantized_blocks_and_one_end_of_a_conversion(
    kind: str, precision: str, integers: tuple[bool, bool]
) -> None:
    block = Block(kind=kind, in_shape=(4,), out_shape=(4,), precision=precision)
    assert (takes_integers(block), gives_integers(block)) == integers
    assert is_conversion(kind) == (kind != "conv")
