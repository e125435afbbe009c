import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.quantities import NBSP, compared, digits, metric_name, printable, quantity, scale_of, wilson_interval
from hwnas.report.palette import DARK, LIGHT


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("latency_ms", 0.4823, "0.482 ms"),
        ("latency_ms", 12.345, "12.3 ms"),
        ("latency_ms_upper", 0.5, "0.500 ms"),
        ("size_bytes", 61_284, "61.3 kB"),
        ("size_bytes", 999, "999 B"),
        ("peak_memory_bytes", 2_500_000, "2.50 MB"),
        ("accuracy", 0.98333, "98.3 %"),
        ("macs", 1_234_567.0, "1.23 million"),
        ("parameters", 15_584.0, "15,584"),
        ("latency_ms", 0.0254, "25.4 µs"),
        ("energy_mj", 0.05, "50 µJ"),
        ("macs", 12.0, "12"),
        ("energy_mj", 3.0, "3 mJ"),
        ("something", 0.25, "0.250"),
        ("latency_ms", math.nan, "not known"),
    ],
)
def test_a_number_stands_with_its_unit(metric: str, value: float, text: str) -> None:
    assert quantity(metric, value).replace(NBSP, " ") == text


@pytest.mark.parametrize(
    ("value", "limit", "text"),
    [
        (0.0364, 0.0519, "36.4 / 51.9 µs"),
        (0.0028, None, "2.80 µs"),
        (0.05, 0.2, "0.0500 / 0.200 ms"),
        (None, 1e-5, "- / 0.0100 µs"),
        (None, None, "-"),
    ],
)
def test_a_value_and_its_limit_share_their_unit(value: float | None, limit: float | None, text: str) -> None:
    assert compared("latency_ms", value, limit).replace(NBSP, " ") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (3.1e-7, "3.1 × 10⁻⁷"), (1240.4, "1 240"), (0.00042, "0.000420"), (-0.5, "−0.500"), (30.0, "30")],
)
def test_three_digits_count(value: float, text: str) -> None:
    assert digits(value).replace(NBSP, " ") == text


@pytest.mark.parametrize(
    ("metric", "name"), [("latency_ms", "latency"), ("latency_ms_upper", "latency, upper bound"), ("macs", "MACs")]
)
def test_a_name_is_without_its_unit(metric: str, name: str) -> None:
    assert metric_name(metric) == name


@given(st.floats(min_value=1e-3, max_value=1e8))
@settings(deadline=None)
def test_three_digits_are_within_half_a_percent(value: float) -> None:
    assert float(digits(value).replace(NBSP, "")) == pytest.approx(value, rel=0.0051)


@given(st.floats(min_value=1, max_value=1e12))
@settings(deadline=None)
def test_an_axis_of_bytes_has_numbers_of_readable_size(largest: float) -> None:
    assert 1 <= largest * scale_of("size_bytes", largest).factor <= 1000 * (1 + 1e-9)


@given(st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(deadline=None)
def test_a_confidence_interval_holds_the_share_and_stays_in_bounds(seen: tuple[int, int]) -> None:
    k, n = seen
    low, high = wilson_interval(k / n, n)
    assert 0 <= low <= k / n + 1e-12
    assert k / n - 1e-12 <= high <= 1
    assert high > low


def test_a_confidence_interval_is_wilsons() -> None:
    assert wilson_interval(0.5, 100) == pytest.approx((0.40383, 0.59617), abs=1e-5)


def test_both_palettes_have_the_same_roles_and_no_colour_twice() -> None:
    assert list(LIGHT) == list(DARK)
    assert len(set(LIGHT.values())) == len(LIGHT)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("role", ["ink", "muted", "int8", "fp32", "conversion", "chosen", "good", "bad"])
@pytest.mark.parametrize("ground", ["background", "surface"])
def test_text_has_contrast(palette: dict[str, str], role: str, ground: str) -> None:
    high, low = sorted((_luminance(palette[role]), _luminance(palette[ground])), reverse=True)
    assert (high + 0.05) / (low + 0.05) >= 4.5  # WCAG 2.2, level AA


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_the_space_between_a_number_and_its_unit_is_printable() -> None:
    assert printable(f"92.7{NBSP}%\x1b") == f"92.7{NBSP}%\ufffd"
