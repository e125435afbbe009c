"""What a given network takes, as people write it."""

from __future__ import annotations

import pytest

from hwnas.errors import ConfigError
from hwnas.given_inputs import InputShape, format_inputs, parse_inputs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3x224x224", [InputShape((3, 224, 224))]),
        (" 3 × 32 X 48 ", [InputShape((3, 32, 48))]),
        ("16", [InputShape((16,))]),
        ("3x224x224,16", [InputShape((3, 224, 224)), InputShape((16,))]),
        ("128:int64", [InputShape((128,), "int64")]),
        ("128:int64, 128:bool", [InputShape((128,), "int64"), InputShape((128,), "bool")]),
        ("1x2x3x4", [InputShape((1, 2, 3, 4))]),
    ],
)
def test_inputs_are_read_as_people_write_them(text: str, expected: list[InputShape]) -> None:
    assert parse_inputs(text) == tuple(expected)


@pytest.mark.parametrize("text", ["3x224x224", "3x224x224,16", "128:int64,4x4:bool"])
def test_what_is_written_is_what_is_read(text: str) -> None:
    assert format_inputs(parse_inputs(text)) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'' is not of the form SIZExSIZE"),
        ("3x", "give its axes without the batch's, as 3x224x224"),
        ("3x-1", "is not of the form"),
        ("axb", "is not of the form"),
        ("3x224x224,", "is not of the form"),
        ("128:", "is not of the form"),
        ("(3, 224, 224)", "is not of the form"),
        ("٣x224", "is not of the form"),
        ("9" * 40, "is not of the form"),
        ("3x0x224", "cannot have the shape (3, 0, 224)"),
        ("x".join("1" * 9), "cannot have the shape"),
        ("128:long", "an input is of 'long'; allowed: float32, int64, int32, bool"),
        ("100000x100000", "has 10,000,000,000 elements; allowed: 2,147,483,648"),
        ("3,224,224", "means three inputs of one axis each; an image is 3x224x224"),
    ],
)
def test_what_is_no_input_is_refused_with_an_example(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_inputs(text)
    assert said in str(caught.value)
