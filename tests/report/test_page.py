import dataclasses
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas.allowed import Between
from hwnas.errors import StudyError
from hwnas.report import render_report, write_report
from hwnas.report.inputs import BlockShare
from hwnas.spaces.presets import mobilenet_v3_large
from hwnas.types import Block

from . import made_up

HOSTILE = '<script>alert("x")</script>$a_$\x07&amp;'
NO_ACCURACY = {"accuracy": np.full(400, np.nan), "latency_ms": np.ones(400)}
VOID = {"meta", "link", "br", "hr", "img", "input"}


class _Page(HTMLParser):
    """Collects what the tests ask about, and refuses elements that are not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.headings: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, k, v or "") for k, v in attrs]
        self.ids += [v for k, v in attrs if k == "id" and v]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.words.append(data)
        if self._open and self._open[-1] == "h2":
            self.headings.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace("\u00a0", " ").split())


@pytest.fixture(scope="module")
def html() -> str:
    return render_report(made_up.inputs())


@pytest.fixture(scope="module")
def page(html: str) -> _Page:
    return _Page(html)


def rendered(**changes: Any) -> _Page:
    return _Page(render_report(made_up.inputs(**changes)))


def words(**changes: Any) -> str:
    """The text of a page without figures, which take nearly all the time: what is said of the manifest alone."""
    figures = {"study": made_up.study(values=NO_ACCURACY, upper={}), "trial": 0, "points": (), "history": ()}
    return rendered(**{**figures, "shares": (), **changes}).text


def test_the_verdict_has_the_key_numbers_and_says_that_they_are_measured(page: _Page) -> None:
    assert "✓ Keeps its limits. Runs in 0.482 ms measured, limit 0.600 ms , classifies 98.3 % of 360" in page.text
    assert "measured through onnxruntime, int8 , and takes 61.3 kB measured" in page.text


def test_a_missed_limit_is_the_first_thing_said() -> None:
    text = words(manifest=made_up.manifest(limits={"latency_ms": 0.4, "size_bytes": 3e5}))
    assert "✗ Misses its limit on latency." in text
    assert "Keeps its limits" not in text


def test_without_limits_none_are_said_to_be_kept() -> None:
    text = words(manifest=made_up.manifest(limits={}))
    assert "Keeps its limits" not in text
    assert "Misses" not in text
    assert "Runs in 0.482 ms measured ," in text


def test_promises_stand_beside_what_was_found(page: _Page) -> None:
    assert "0.471 ms, at most 0.502 ms estimated from the latency table" in page.text
    assert "0.482 ms measured, minimum, 30 rounds; promise 2.3 % too low" in page.text


@pytest.mark.parametrize("part", ["0.499 ms", "2.1 %", "3.4 % slower", "100.00 % of 360", "0.0412", "96.4 % to 99.2 %"])
def test_spread_drift_parity_and_confidence_are_there(page: _Page, part: str) -> None:
    assert part in page.text


@pytest.mark.parametrize(
    "part", ["1.31.1", "Example Processor 8000", made_up.HASH, "hwnas verify FOLDER", "seeds train"]
)
def test_provenance_is_there(page: _Page, part: str) -> None:
    assert part in page.text


def test_rejected_candidates_come_with_their_reasons(page: _Page) -> None:
    assert "the runtime refused the file: unsupported operator" in page.text
    assert "211 latency 0.618 ms is over the limit of 0.6 ms" in page.text


def test_every_block_is_drawn(page: _Page) -> None:
    assert page.tags.count("polygon") == len(made_up.shares())


def test_every_figure_has_a_label(page: _Page) -> None:
    roles = [v for tag, k, v in page.attributes if tag == "svg" and k == "class" and v == "figure"]
    labels = [v for tag, k, v in page.attributes if tag == "svg" and k == "aria-label" and len(v) > 20]
    assert len(roles) == len(labels) == 4


def test_nothing_is_loaded_and_nothing_runs(html: str, page: _Page) -> None:
    assert not re.search(r"https?:|//[a-z]|@import|javascript:", html)
    assert not {"script", "link", "img", "iframe", "object", "image"} & set(page.tags)
    links = [v for _, k, v in page.attributes if k in ("src", "href", "xlink:href")]
    assert all(v.startswith("#") for v in links)


def test_identifiers_are_unique_and_references_have_a_target(html: str, page: _Page) -> None:
    assert len(page.ids) == len(set(page.ids))
    assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', html)) <= set(page.ids)


def test_all_colours_of_figures_follow_the_page(html: str) -> None:
    body = html.partition("</style>")[2]
    assert re.findall(r"#[0-9a-f]{6}\b", body) == []
    used, defined = set(re.findall(r"var\(--([a-z0-9]+)", html)), re.findall(r"--([a-z0-9]+): [#v]", html)
    assert used <= set(defined)


def test_the_same_inputs_give_the_same_bytes(html: str) -> None:
    assert render_report(made_up.inputs()) == html


def test_names_from_outside_are_text() -> None:
    shares = (dataclasses.replace(made_up.shares()[0], slot=HOSTILE), *made_up.shares()[1:])
    manifest = made_up.manifest(
        space=HOSTILE,
        classes=(HOSTILE,) * 3,
        architecture={HOSTILE: HOSTILE},
        rejected=({HOSTILE: HOSTILE},),
        provenance={HOSTILE: {HOSTILE: HOSTILE}},
        predicted={HOSTILE: 1.0},
        limits={HOSTILE: 2.0},
    )
    found = rendered(manifest=manifest, shares=shares, sources={HOSTILE: HOSTILE, "latency_ms": HOSTILE})
    assert "script" not in found.tags
    assert found.text.count('<script>alert("x")</script>') > 8


@pytest.mark.parametrize(
    ("changes", "heading"),
    [
        ({"points": ()}, "How far predictions can be trusted"),
        ({"history": ()}, "How the supernet learned"),
        ({"shares": ()}, "Where the time goes"),
        ({"manifest": made_up.manifest(rejected=())}, "Candidates that were not returned"),
        ({"study": made_up.study(values=NO_ACCURACY, upper={})}, "What else there was"),
    ],
)
def test_empty_sections_are_left_out(page: _Page, changes: dict[str, Any], heading: str) -> None:
    without = rendered(**{"trial": 0} | changes).headings
    assert [h for h in page.headings if h not in without] == [heading]


def test_the_architecture_is_drawn_from_the_manifest_without_shares() -> None:
    assert rendered(shares=()).tags.count("polygon") == len(made_up.manifest().blocks)


def test_a_study_of_one_trial_is_enough() -> None:
    text = rendered(study=made_up.study(1), trial=0).text
    assert "1 network evaluated on validation data" in text
    assert "trial 0" in text


def test_points_that_were_all_fitted_give_no_error_figures() -> None:
    points = [dataclasses.replace(p, held_out=False) for p in made_up.points()]
    text = words(points=points)
    assert "Mean error" not in text
    assert "How far predictions can be trusted" in text


def test_a_single_point_and_a_single_step_can_be_drawn() -> None:
    found = rendered(points=made_up.points(1), history=made_up.history(1))
    assert "not defined" in found.text


def test_many_blocks_of_another_space_are_drawn() -> None:
    shares = made_up.shares(25, space=mobilenet_v3_large())
    found = rendered(shares=shares)
    assert found.tags.count("polygon") == len(shares) >= 25
    assert "SE " in found.text


def test_an_fp32_deployment_has_no_row_for_another_precision() -> None:
    text = words(manifest=made_up.manifest(precision="fp32"))
    assert "torch, fp32" in text
    assert "onnxruntime, fp32" in text
    assert "accurate than fp32" not in text


def test_a_small_network_and_a_shares_sum_of_zero_divide_nothing() -> None:
    shares = [dataclasses.replace(s, latency_ms=0.0) for s in made_up.shares()]
    assert "nan" not in rendered(shares=shares).text.lower().split()


@pytest.mark.parametrize(
    "changes",
    [{}, {"study": made_up.study(1), "trial": 0}, {"points": made_up.points(1), "history": made_up.history(1)}],
)
def test_no_number_is_nan_or_infinite(changes: dict[str, Any]) -> None:
    html = render_report(made_up.inputs(**changes))
    assert not re.search(r"\b(nan|inf|NaN|None|undefined)\b", html)


def test_failed_trials_are_counted() -> None:
    assert "1 more could not be evaluated" in rendered(study=made_up.study(failed=(made_up.failed(),))).text


def test_a_trial_that_the_study_lacks_is_refused() -> None:
    with pytest.raises(StudyError, match="no finished trial 12345"):
        render_report(made_up.inputs(trial=12345))


def test_the_page_is_written_whole(tmp_path: Path, html: str) -> None:
    path = tmp_path / "deployment" / "report.html"
    write_report(made_up.inputs(), path)
    assert path.read_text(encoding="utf-8") == html
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_the_page_of_a_large_study_stays_small() -> None:
    assert len(render_report(made_up.inputs(study=made_up.study(10_000)))) < 500_000


def test_svg_is_well_formed(html: str) -> None:
    for svg in re.findall(r'<svg class="figure".*?</svg>', html, flags=re.DOTALL):
        ET.fromstring(svg)


def test_both_sides_of_a_limit_are_shown_and_judged() -> None:
    text = words(manifest=made_up.manifest(limits={"latency_ms": Between(at_least=0.4, at_most=0.6)}))
    assert "at least 0.400 ms and at most 0.600 ms" in text
    assert "Keeps its limits" in text
    text = words(manifest=made_up.manifest(limits={"latency_ms": Between(at_least=0.5, at_most=0.6)}))
    assert "Keeps its limits" not in text


def test_an_estimate_is_never_called_measured() -> None:
    latency = {"fastest": 0.9, "median": 0.9, "p90": 0.9, "n": 9, "cv": 0.0, "drift": 1.0}
    measured = {"latency_ms": latency, "costs": {"memory_bytes": 81_920.0}, "source": "estimated by Vela 5.2.0"}
    limits = {"latency_ms": 1.0, "memory_bytes": 1e5}
    text = rendered(manifest=made_up.manifest(measured=measured, limits=limits)).text
    assert "Runs in 0.900 ms estimated by Vela 5.2.0, limit" in text
    assert "81.9 kB estimated by Vela 5.2.0" in text
    assert "0.900 ms measured" not in text


def test_a_doubtful_latency_is_told_beside_it() -> None:
    latency = {"fastest": 0.6, "median": 0.9, "p90": 0.9, "n": 301, "cv": 0.0, "drift": 1.68}
    latency |= {"phase_drift": 1.01, "phase_share": 0.12}
    measured = {"latency_ms": latency, "looks": 2, "doubts": ["far_from_prediction", "large_drift"]}
    text = words(manifest=made_up.manifest(measured=measured))
    assert "The measured latency is 27 % above its prediction" in text
    assert "but 12 % of the rounds saw it as fast as then" in text
    assert "Minimum was seen in 12 % of the rounds; of 2 looks" in text


def test_the_page_of_an_older_manifest_says_nothing_of_phases(html: str) -> None:
    assert "Minimum was seen" not in html


def test_the_blocks_that_stop_a_precision_are_named() -> None:
    key = "mbconv|in=8x8x8|out=8x4x4|activation=relu6,hidden_channels=16,kernel_size=7,stride=2|int8"
    slow = {"block": key, "count": 2, "latency_ms": 0.2, "float_latency_ms": 0.1}
    gain = {"float_latency_ms": 0.44, "latency_ms": 0.4, "speedup": 1.1, "slow_blocks": [slow]}
    text = words(manifest=made_up.manifest(precision_gain=gain))
    assert "0.400 ms, 1.10 times as fast" in text
    assert "What stops int8" in text
    assert "mbconv 7 × 7 8 × 8 × 8 8 × 4 × 4 2 × 0.200 ms 0.100 ms 0.50 ×" in text


def test_regions_of_a_given_network_that_stop_a_precision_are_called_by_their_names() -> None:
    key = "adapted|in=8x8x8|out=8x4x4|graph=g0123456789abcdef|int8"
    slow = {"block": key, "count": 2, "latency_ms": 0.2, "float_latency_ms": 0.1}
    gain = {"float_latency_ms": 0.44, "latency_ms": 0.4, "speedup": 1.1, "slow_blocks": [slow]}
    shares = [BlockShare(slot=s, block=Block.from_key(key), latency_ms=0.2) for s in ("layer1.0", "layer1.1")]
    text = words(manifest=made_up.manifest(precision_gain=gain), shares=shares)
    assert "layer1.0, layer1.1 8 × 8 × 8 8 × 4 × 4 2 × 0.200 ms" in text
    assert "adapted 8 × 8" not in text


def test_a_precision_that_gains_enough_is_stopped_by_nothing() -> None:
    gain = {"float_latency_ms": 0.8, "latency_ms": 0.4, "speedup": 2.0}
    text = words(manifest=made_up.manifest(precision_gain=gain))
    assert "2.00 times as fast" in text
    assert "What stops" not in text


def test_a_quantized_input_says_how_to_fill_it() -> None:
    tensor = {"layout": "NHWC", "dtype": "int8", "scale": 0.0078125, "zero_point": -3}
    artefact = {"path": "m.tflite", "format": "tflite", "sha256": made_up.HASH, "size_bytes": 9, "input": tensor}
    text = words(manifest=made_up.manifest(artefact=artefact))
    assert "float32, laid out (H, W, C), as int8: round(x / 0.0078125) −3" in text


def test_what_the_board_runs_instead_is_named() -> None:
    compiled = {"path": "model_vela.tflite", "format": "tflite", "sha256": made_up.HASH, "size_bytes": 4096}
    text = words(manifest=made_up.manifest(companions=(compiled,)))
    assert "The board runs model_vela.tflite, which the maker's compiler made of it" in text
