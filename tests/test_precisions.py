"""What the names of precisions mean."""

import pytest

from hwnas.errors import UnknownNameError
from hwnas.precisions import (
    KNOWN,
    by_exactness,
    computed_in,
    gives_integers,
    is_conversion,
    is_quantized,
    offered_as,
    precision,
    simulated_as,
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
def test_weights_have_as_many_levels_as_the_name_says(name, largest):
    assert precision(name).largest_weight == largest
    # two products of a uint8 and such a weight, as VPMADDUBSW adds them
    assert (2 * 255 * largest <= 2**15 - 1) is (name == "int8-w7")


def test_every_precision_is_offered_as_one_of_two():
    assert {offered_as(name) for name in KNOWN} == set(PRECISIONS)
    assert all(is_quantized(name) == is_quantized(offered_as(name)) for name in KNOWN)
    assert {simulated_as(name) for name in KNOWN} == {"fp32", "int8", "int8-w7"}


def test_only_what_is_computed_instead_has_a_reason():
    assert [name for name, p in KNOWN.items() if not p.note] == list(PRECISIONS)


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
