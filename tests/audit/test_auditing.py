"""Audits: what is measured, how it is judged, what it means for a run, and going on after an interruption."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import pytest
from torch import nn

from hwnas import registry
from hwnas.audit import AuditResult
from hwnas.audit.audit_file import save_audit
from hwnas.audit.auditing import Audit, advice, advise, audit, find_audit, load_audit, suggestion, suggestion_lines
from hwnas.audit.cases import SITES, WIDTHS, Case, case_groups, kinds_with_variations
from hwnas.audit.rules import COSTLY, FINE, LEAVE_OUT, Finding, MeasuredCase, judge, recommended_multiple
from hwnas.config import Config
from hwnas.cost.analytic import macs
from hwnas.cost.table import LatencyTable
from hwnas.errors import ConfigError, ExportError, MeasurementError, SpaceError, TableError
from hwnas.files import read_document
from hwnas.spaces import CategoricalSpace
from hwnas.spaces.kinds import BlockKind, attributes_of
from hwnas.supernet.graph_module import OpGraphModule
from hwnas.testing.fake import fake_device
from hwnas.testing.run import describe_fake_device, tiny_config
from hwnas.types import PRECISIONS, Artefact, Exporter
from hwnas.workspace import Workspace
from tests.runs import ReadConsole
from tests.sealed import change_lines

SHIPPED = registry.load_object("hwnas.latency_tables:folder", needed_for="shipped audits")()
FACTORS = {"fp32": 1.0, "int8": 0.5}  # of an ideal device: time is work


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, AuditResult]:
    """The folder of an audit of the fake device, not to be changed, and the command's result."""
    folder = tmp_path_factory.mktemp("audited")
    return folder, audit("fake", space="test-tiny", output=str(folder), console=ReadConsole())


MBCONV, BASIC, SELF_ATTENTION, MLP = (
    registry.load("block_kinds", name) for name in ("mbconv", "basic", "self_attention", "mlp")
)


def outcomes(
    factor: Callable[[Case], float] = lambda case: 1.0,
    *,
    precisions: tuple[str, ...] = PRECISIONS,
    kinds: tuple[BlockKind, ...] = (MBCONV,),
) -> list[MeasuredCase]:
    """Every case as an ideal device would have it, but for a factor."""
    return [
        MeasuredCase(case=c, latency_ms=macs(c.block) * 1e-6 * FACTORS[c.block.precision] * factor(c))
        for group in case_groups(kinds, precisions)
        for c in group
    ]


def slow(choice: str, option: object, *, precision: str, by: float) -> Callable[[Case], float]:
    def factor(case: Case) -> float:
        return by if (case.choice, case.option, case.block.precision) == (choice, option, precision) else 1.0

    return factor


def findings(
    measured: list[MeasuredCase], precisions: tuple[str, ...] = PRECISIONS
) -> dict[tuple[object, ...], Finding]:
    return {(f.choice, f.option, f.precision): f for f in judge(measured, precisions=precisions)}


def made_up(factor: Callable[[Case], float] = lambda case: 1.0, *, kinds: tuple[BlockKind, ...] = (MBCONV,)) -> Audit:
    measured = outcomes(factor, kinds=kinds)
    return Audit(
        device="board",
        runtime="fake",
        precisions=PRECISIONS,
        source="measured",
        context={"threads": 1},
        findings=judge(measured, precisions=PRECISIONS),
        measured=tuple(measured),
    )


# ---------------------------------------------------------------- what is measured


@pytest.mark.parametrize("kind", [MBCONV, BASIC], ids=lambda kind: str(kind.name))
def test_each_block_differs_from_its_base_in_one_attribute(kind: BlockKind) -> None:
    for group in list(case_groups([kind], ("fp32",)))[: len(SITES)]:
        base, *others = (attributes_of(c.block) for c in group)
        assert all(sum(base[k] != other[k] for k in base) == 1 for other in others)


def test_no_block_is_measured_twice() -> None:
    kinds = kinds_with_variations()
    keys = [c.block.key for group in case_groups(kinds, PRECISIONS) for c in group]
    assert len(keys) == len(set(keys))


def test_what_is_compared_is_measured_in_the_same_rounds() -> None:
    for group in list(case_groups([BASIC], PRECISIONS))[: len(SITES)]:
        assert {c.site for c in group} == {group[0].site}
        assert {c.block.precision for c in group} == set(PRECISIONS)


def test_a_width_is_a_multiple_of_its_number_and_not_of_its_double_and_its_neighbours_are() -> None:
    for multiple, trios in WIDTHS.items():
        for width, *around in trios:
            assert width % multiple == 0 < width % (2 * multiple)
            assert all(w % (2 * multiple) == 0 for w in around)


def test_the_kinds_are_those_of_a_space_or_all_that_offer_variations() -> None:
    assert [k.name for k in kinds_with_variations()] == [
        "basic",
        "bottleneck",
        "mbconv",
        "mlp",
        "self_attention",
        "separable1d",
    ]
    assert kinds_with_variations(registry.load("spaces", "resnet20")()) == (BASIC,)
    with pytest.raises(SpaceError, match=r"has the kinds none.*give its BlockKind `variations`"):
        kinds_with_variations(CategoricalSpace({"a": (1, 2)}))


@pytest.mark.parametrize("kind", kinds_with_variations(), ids=lambda kind: str(kind.name))
def test_a_block_has_the_options_that_it_was_made_with(kind: BlockKind) -> None:
    shape = {"image": (32, 8, 8), "positions": (64, 32), "series": (32, 64)}[kind.takes]
    for variation in kind.variations:
        for option in variation.options:
            block = kind.example(shape, precision="fp32", options={variation.choice: option})
            assert kind.options_of(block)[variation.choice] == option


# ---------------------------------------------------------------- verdicts


def test_an_ideal_device_has_nothing_to_leave_out() -> None:
    found = judge(outcomes(), precisions=PRECISIONS)
    assert {f.verdict for f in found if f.choice != "multiple"} == {FINE}
    assert all(
        geometric_mean(f.excess.values()) == pytest.approx(1.0, abs=0.05)
        for f in found
        if f.choice not in ("precision", "se")
    )
    assert suggestion(made_up()) == {}
    assert "nothing to leave out" in suggestion_lines(made_up())[0]


@pytest.mark.parametrize(("by", "verdict"), [(1.19, FINE), (1.21, COSTLY), (1.51, LEAVE_OUT)])
def test_thresholds_are_kept(by: float, verdict: str) -> None:
    found = findings(outcomes(slow("activation", "silu", precision="fp32", by=by)))
    assert found["activation", "silu", "fp32"].verdict == verdict
    assert found["activation", "silu", "int8"].verdict == FINE


def test_more_work_may_cost_more() -> None:
    large = findings(outcomes())["expand_ratio", 6, "fp32"]
    assert large.ratio == pytest.approx(1.5)
    assert large.work == pytest.approx(1.5)
    assert large.verdict == FINE


def test_a_smaller_block_that_saves_less_than_its_work_is_no_worse_a_choice() -> None:
    small = findings(outcomes(slow("expand_ratio", 3, precision="fp32", by=1.3)))["expand_ratio", 3, "fp32"]
    assert geometric_mean(small.excess.values()) == pytest.approx(1.3)
    assert small.verdict == FINE


def test_an_option_with_which_int8_loses_its_gain_is_left_out() -> None:
    """hswish in fp32 is as costly as in int8: no excess tells it, the comparison with fp32 does."""

    def factor(case: Case) -> float:
        if case.option != "hswish":
            return 1.0
        return {"fp32": 0.55, "int8": 1.19}[case.block.precision]

    finding = findings(outcomes(factor))["activation", "hswish", "int8"]
    assert finding.verdict == LEAVE_OUT
    assert "slower than fp32" in finding.reason


@pytest.mark.parametrize(("by", "verdict"), [(1.0, FINE), (1.6, COSTLY), (2.0, LEAVE_OUT)])
def test_int8_has_to_pay(by: float, verdict: str) -> None:
    found = findings(outcomes(lambda case: by if case.block.precision == "int8" else 1.0))
    assert found["precision", "int8", "int8"].verdict == verdict
    assert found["activation", "hswish", "int8"].verdict == FINE  # it is int8 that is slow, not the activation


def test_a_choice_that_is_bad_in_one_place_only_is_costly_there() -> None:
    def factor(case: Case) -> float:
        return 1.8 if (case.option, case.site) == ("silu", "7x7x160") else 1.0

    finding = findings(outcomes(factor))["activation", "silu", "fp32"]
    assert finding.verdict == COSTLY
    assert "1.8x at 7x7x160" in finding.reason


def test_a_runtime_that_pads_channels_to_16_is_found_out() -> None:
    def padded(case: Case) -> float:
        def work(width: int) -> int:
            shape = (width, *case.block.in_shape[1:])
            attributes = {**dict(case.block.attributes), "hidden_channels": 3 * width}
            return macs(
                dataclasses.replace(
                    case.block, in_shape=shape, out_shape=shape, attributes=tuple(sorted(attributes.items()))
                )
            )

        if case.choice != "width" or case.block.precision == "fp32":
            return 1.0
        width = int(case.option)
        return work(-(-width // 16) * 16) / work(width)

    found = judge(outcomes(padded), precisions=PRECISIONS)
    assert recommended_multiple(found, "int8") == 16
    assert recommended_multiple(found, "fp32") == 4


def test_what_does_not_run_is_left_out_with_the_reason() -> None:
    measured = [
        dataclasses.replace(m, latency_ms=None, failure="no kernel") if m.case.option == "silu" else m
        for m in outcomes()
    ]
    finding = findings(measured)["activation", "silu", "int8"]
    assert finding.verdict == LEAVE_OUT
    assert "no kernel" in finding.reason
    assert finding.ratio is None


def test_a_device_without_fp32_is_judged_in_int8_alone() -> None:
    found = findings(outcomes(precisions=("int8",)), ("int8",))
    assert found["precision", "int8", "int8"].reason == "the only precision"
    assert {precision for _, _, precision in found} == {"int8"}


def test_kinds_of_block_are_judged_each_by_itself() -> None:
    def factor(case: Case) -> float:
        return 2.0 if (case.kind, case.choice) == ("basic", "kernel_size") else 1.0

    found = judge(outcomes(factor, kinds=(MBCONV, BASIC)), precisions=PRECISIONS)
    left_out = {(f.kind, f.operators, f.base) for f in found if f.verdict == LEAVE_OUT}
    assert left_out == {("basic", ("conv2d 5x5",), 3)}


def test_what_differs_in_numbers_of_channels_alone_names_no_operator() -> None:
    found = findings(outcomes())["expand_ratio", 6, "int8"]
    assert (found.operators, found.base) == ((), 4)


# ---------------------------------------------------------------- suggestions


def test_an_activation_that_is_left_out_is_replaced() -> None:
    found = made_up(slow("activation", "hswish", precision="int8", by=2.5))
    assert suggestion(found) == {"mbconv": {"space.activation": "relu6"}}


def test_int8_that_gains_nothing_is_left_out_and_its_faults_with_it() -> None:
    def factor(case: Case) -> float:
        return (2.0 if case.block.precision == "int8" else 1.0) * (2.0 if case.option == "hswish" else 1.0)

    assert suggestion(made_up(factor)) == {"mbconv": {"space.precisions": ["fp32"], "space.activation": "relu6"}}
    only_int8 = made_up(lambda c: (4.0 if c.option == "hswish" else 2.0) if c.block.precision == "int8" else 1.0)
    assert suggestion(only_int8) == {"mbconv": {"space.precisions": ["fp32"]}}


def test_a_kernel_size_that_is_left_out_is_left_out_of_the_search() -> None:
    found = made_up(slow("kernel_size", 7, precision="int8", by=9.0))
    assert suggestion(found) == {"mbconv": {"space.kernel_sizes": [3, 5]}}
    (line,) = advice(Config(), found)
    assert line.startswith("on board leave out conv2d 7x7 depthwise in int8: 12x")
    assert "(mbconv with kernel size 7, against 3)" in line
    assert "leave 7 out of space.kernel_sizes" in line
    assert advice(Config().replaced(suggestion(found)["mbconv"]), found) == []


def test_suggested_values_are_values_of_a_configuration() -> None:
    def factor(case: Case) -> float:
        return 3.0 if case.option == "silu" or case.choice == "se" or case.block.precision == "int8" else 1.0

    values = suggestion(made_up(factor))["mbconv"]
    config = Config().replaced(values)
    assert (config.space.activation, config.space.se, config.space.precisions) == ("relu6", False, ("fp32",))


def test_advice_warns_of_what_the_configured_space_uses_and_of_nothing_else() -> None:
    found = made_up(slow("activation", "hswish", precision="int8", by=2.5))
    tiny = Config()
    assert advice(tiny, found) == []  # its activation is relu6
    (line,) = advice(tiny.replaced({"space.activation": "hswish"}), found)
    assert line.startswith("on board leave out hardswish in int8: 2.5x")
    assert 'space.activation = "relu6"' in line
    assert len(advice(tiny.replaced({"space.preset": "mobilenet-v3-large"}), found)) == 1
    assert advice(tiny.replaced({"space.activation": "hswish", "space.precisions": ["fp32"]}), found) == []


def test_advice_tells_of_channels_in_too_small_multiples() -> None:
    found = made_up(lambda c: 1.6 if c.option in (40, 72) and c.block.precision == "int8" else 1.0)
    (line,) = advice(Config(), found)
    assert "int8 wants channels in multiples of 16" in line


def test_a_space_of_another_kind_gets_no_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    found = made_up(slow("activation", "relu", precision="int8", by=9.0))
    monkeypatch.setattr(registry, "load", lambda kind, name: lambda *shape: CategoricalSpace({"a": (1, 2)}))
    assert advice(Config(), found) == []


def test_a_space_of_other_blocks_gets_the_advice_that_holds_for_any_block() -> None:
    config = Config().replaced({"space.preset": "resnet20"})
    (line,) = advice(config, made_up(slow("activation", "relu", precision="int8", by=9.0)))
    assert line.startswith("on board leave out relu in int8")
    (line,) = advice(config, made_up(lambda c: 1.6 if c.option in (40, 72) and c.block.precision == "int8" else 1.0))
    assert "int8 wants channels in multiples of 16" in line
    assert advice(config, made_up(slow("kernel_size", 5, precision="int8", by=9.0))) == []
    assert advice(config, made_up(slow("expand_ratio", 3, precision="int8", by=9.0))) == []


def test_a_space_is_advised_by_its_own_kind_of_block_where_that_was_audited() -> None:
    config = Config().replaced({"space.preset": "resnet20"})
    both = made_up(slow("expand_ratio", 0.5, precision="int8", by=4.0), kinds=(MBCONV, BASIC))
    (line,) = advice(config, both)
    assert line.startswith("on board leave out basic with expand ratio 0.5 in int8: 2x")
    assert line.endswith("the search avoids it by itself where it has the choice, its table knows the cost")
    assert advice(Config(), both) == []


def test_integers_that_pay_in_one_kind_of_block_are_no_reason_to_leave_them_out_of_another() -> None:
    found = made_up(lambda c: 2.0 if (c.kind, c.block.precision) == ("basic", "int8") else 1.0, kinds=(MBCONV, BASIC))
    assert advice(Config(), found) == []
    (line,) = advice(Config().replaced({"space.preset": "resnet20"}), found)
    assert line == 'on board leave out int8 of basic: no faster than fp32 (1x); set space.precisions = ["fp32"]'
    assert suggestion(found) == {"basic": {"space.precisions": ["fp32"]}}


def test_attention_that_loses_by_integers_is_told_and_left_to_the_search_where_other_blocks_gain() -> None:
    """Int8 attention was several times slower than floats on some runtimes, while linear layers gained."""
    config, kinds = Config().replaced({"space.preset": "vit-tiny"}), (SELF_ATTENTION, MLP)
    slow_attention = made_up(
        lambda c: 6.0 if (c.kind, c.block.precision) == ("self_attention", "int8") else 1.0, kinds=kinds
    )
    (line,) = advice(config, slow_attention)
    assert line.startswith("on board leave out int8 of self_attention: no faster than fp32")
    assert line.endswith("the search avoids it by itself where it has the choice, its table knows the cost")
    (first, second) = advice(config, made_up(lambda c: 6.0 if c.block.precision == "int8" else 1.0, kinds=kinds))
    assert first.endswith('set space.precisions = ["fp32"]')
    assert second.endswith('set space.precisions = ["fp32"]')


def test_a_setting_that_a_space_does_not_take_is_not_named() -> None:
    found = made_up(lambda c: 1.6 if c.option in (40, 72) and c.block.precision == "int8" else 1.0)
    (line,) = advice(Config().replaced({"space.preset": "test-tiny"}), found)
    assert "int8 wants channels in multiples of 16" in line
    assert "space.channel_divisor" not in line


def test_advice_refuses_what_a_preset_does_not_take() -> None:
    with pytest.raises(ConfigError, match="does not take activation"):
        advice(Config().replaced({"space.preset": "test-tiny", "space.activation": "relu"}), made_up())


# ---------------------------------------------------------------- a kind of block of one's own

MODULE = """
from hwnas import registry
from hwnas.graph import GraphBuilder
from hwnas.spaces import Space
from hwnas.spaces.kinds import BlockKind, Variation
from hwnas.types import Block, Choice, Slot


def pooled(block, attributes):
    g = GraphBuilder()
    x = g.input(block.in_shape)
    size = int(attributes["size"])
    return g.build(g.conv2d(x, block.out_shape[0], kernel_size=size, groups=block.in_shape[0], name="conv"))


registry.register(
    "block_kinds",
    "own-depthwise",
    BlockKind(
        name="own-depthwise",
        build=pooled,
        required=("size",),
        variations=(Variation(choice="size", options=(3, 9)),),
    ),
)


class Own(Space):
    kind = "own-depthwise-space"
    precisions = ("fp32",)

    def __init__(self, name, in_channels, n_classes):
        slots = [Slot(name="only", depends_on=(0,))]
        super().__init__(name, choices=[Choice(name="size", options=(3, 9))], slots=slots)

    def block_at(self, slot, options):
        shape = (24, 8, 8)
        attributes = (("size", (3, 9)[options[0]]),)
        return Block(kind="own-depthwise", in_shape=shape, out_shape=shape, precision="fp32", attributes=attributes)

    def arguments(self):
        return {}

    @classmethod
    def from_arguments(cls, name, arguments):
        return cls(name, 3, 10)


def make(in_channels, n_classes):
    return Own("own", in_channels, n_classes)
"""


def test_a_space_and_kind_of_ones_own_are_audited_and_advised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_depthwise_space.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_REGISTERED", {kind: dict(of) for kind, of in registry._REGISTERED.items()})
    device = describe_fake_device(tmp_path / "devices", {"noise": 0.0}, precisions=["fp32"])
    named = "python:own_depthwise_space:make"
    with monkeypatch.context() as quicker:
        quicker.setattr("hwnas.audit.cases.SITES", SITES[-1:])
        quicker.setattr("hwnas.audit.cases.WIDTH_SITES", ())
        found = audit(device, space=named, output="audit", console=ReadConsole()).audit
    assert found.kinds == ("own-depthwise",)
    assert load_audit(tmp_path / "audit") == found
    (large,) = [f for f in found.findings if f.choice == "size"]
    assert (large.option, large.base, large.operators) == (9, 3, ("conv2d 9x9 depthwise",))

    own = registry.load("block_kinds", "own-depthwise")
    slow_there = made_up(lambda c: 20.0 if c.option == 9 or c.option in (40, 72) else 1.0, kinds=(own,))
    lines = advice(Config().replaced({"space.preset": named}), slow_there)
    assert lines[0].startswith("on board leave out conv2d 9x9 depthwise in fp32: ")
    assert lines[-1] == (f"on board fp32 wants channels in multiples of 16; space {named!r} has multiples of 24")


# ---------------------------------------------------------------- the whole of it


def test_an_audit_leaves_its_file_a_picture_and_the_measurements(audited: tuple[Path, AuditResult]) -> None:
    folder, result = audited
    found = load_audit(folder)
    assert (found.device, found.source, found.precisions) == ("fake", "measured", PRECISIONS)
    assert all(m.latency_ms is not None for m in found.measured)
    assert result.to_json()["suggestion"] == suggestion(found)
    assert (folder / "audit.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (folder / "audit.svg").read_bytes()
    assert "measured" in result.shown.title


def test_the_simulated_device_is_slow_where_it_is_made_slow(audited: tuple[Path, AuditResult]) -> None:
    """It computes hswish and silu in fp32, and int8 convolutions in less than half the time."""
    found = {(f.choice, f.option, f.precision): f for f in load_audit(audited[0]).findings}
    assert found["activation", "silu", "int8"].verdict != FINE
    assert found["activation", "relu", "int8"].verdict == FINE
    assert found["precision", "int8", "int8"].speedup > 1.3  # type: ignore[operator]


def test_what_is_read_back_is_what_was_found(audited: tuple[Path, AuditResult]) -> None:
    found = load_audit(audited[0] / "audit.json")
    assert found.findings == judge(found.measured, precisions=found.precisions)


def test_an_audit_again_measures_nothing_unless_asked_to(
    audited: tuple[Path, AuditResult], tmp_path: Path, measured: list[str]
) -> None:
    folder = tmp_path / "audit"
    shutil.copytree(audited[0], folder)
    assert (
        audit("fake", space="test-tiny", output=str(folder), console=ReadConsole()).audit.findings
        == audited[1].audit.findings
    )
    assert not measured


def test_an_interrupted_audit_goes_on_where_it_was(tmp_path: Path, measured: list[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        audit(
            "fake", space="test-tiny", output=str(tmp_path), console=ReadConsole(interrupt_after=("audit of fake", 1))
        )
    table = LatencyTable.open(tmp_path / "measurements.jsonl")
    assert 0 < len(table.entries) < 40
    measured.clear()
    console = ReadConsole(interrupt_after=("audit of fake", 2))
    with pytest.raises(KeyboardInterrupt):
        audit("fake", space="test-tiny", output=str(tmp_path), console=console)
    assert not set(measured) & set(table.entries)


def test_measurements_of_another_context_are_refused_and_can_be_made_again(
    audited: tuple[Path, AuditResult], tmp_path: Path
) -> None:
    folder = tmp_path / "audit"
    shutil.copytree(audited[0], folder)
    other = describe_fake_device(tmp_path / "devices", {"hardware": "another processor"})
    with pytest.raises(ConfigError, match=r"another processor.*--again"):
        audit(other, space="test-tiny", output=str(folder), console=ReadConsole())


def test_a_block_that_cannot_be_written_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter: type[Exporter] = registry.load("exporters", "onnx")
    export = exporter.export

    def refusing(self: Exporter, model: nn.Module, *arguments: Any, **how: Any) -> Artefact:
        graphs = [m.op_graph for m in model.modules() if isinstance(m, OpGraphModule)]
        if any(op.kind == "silu" for graph in graphs for op in graph.ops):
            raise ExportError("no Sigmoid here")
        return export(self, model, *arguments, **how)

    monkeypatch.setattr(exporter, "export", refusing)
    device = describe_fake_device(tmp_path / "devices", {"noise": 0.0}, precisions=["fp32"])
    monkeypatch.setattr("hwnas.audit.cases.SITES", SITES[-1:])
    monkeypatch.setattr("hwnas.audit.cases.WIDTH_SITES", ())
    result = audit(device, output=str(tmp_path / "audit"), console=ReadConsole())
    silu = {r[0]: r for r in result.shown.rows if r[1] == "activation silu"}
    assert {kind: row[-1] for kind, row in silu.items()} == dict.fromkeys(
        ("basic", "bottleneck", "mbconv", "mlp", "separable1d"), "leave out"
    )
    assert "no Sigmoid here" in json.dumps(result.to_json()["findings"])


def test_a_device_on_which_nothing_runs_has_no_audit(tmp_path: Path) -> None:
    device = describe_fake_device(tmp_path / "devices", {"fail_on": ".onnx"})
    with pytest.raises(MeasurementError):
        audit(device, output=str(tmp_path / "audit"), console=ReadConsole())
    assert not (tmp_path / "audit" / "audit.json").exists()


def test_an_estimate_is_called_an_estimate(
    audited: tuple[Path, AuditResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hwnas.measure import Worker

    folder = tmp_path / "audit"
    shutil.copytree(audited[0], folder)
    context = Worker.context
    change_lines(
        folder / "measurements.jsonl", lambda v: {**v, "source": "estimated by a compiler"} if "source" in v else v
    )

    def estimating(self: Worker) -> Mapping[str, str]:
        return {**context(self), "source": "estimated by a compiler"}

    monkeypatch.setattr(Worker, "context", estimating)
    result = audit("fake", space="test-tiny", output=str(folder), console=ReadConsole())
    assert "estimated by a compiler" in result.shown.title
    assert "measured" not in result.shown.notes[0]


def test_an_audit_beside_the_tables_is_found(
    audited: tuple[Path, AuditResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_audit(tmp_path, fake_device()) is None
    shutil.copytree(audited[0], tmp_path / "audit")
    found = find_audit(tmp_path, fake_device())
    assert found is not None
    assert found.device == "fake"
    assert found.origin.startswith("measured on 20")
    assert found.origin.endswith("with fake 1 on simulated processor")
    assert find_audit(tmp_path, dataclasses.replace(fake_device(), threads=2)) is None


def test_an_audit_is_found_where_the_command_leaves_it(
    audited: tuple[Path, AuditResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(audited[0], tmp_path / "latency_tables" / "fake" / "audit")
    assert find_audit(tmp_path / "run" / "latency_tables" / "fake", fake_device()) is not None
    audit("fake", space="test-tiny", console=ReadConsole())
    assert [p.name for p in tmp_path.iterdir()] == ["latency_tables"]


def test_a_run_is_advised_by_the_audit_of_its_device_and_never_stopped_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = tiny_config(tmp_path / "run")
    file = tmp_path / "run" / "latency_tables" / "fake" / "audit" / "audit.json"
    assert advise(Workspace(config)) == []
    save_audit(made_up(lambda c: 2.0 if c.option == 5 else 1.0), file, statistics={}, suggestion={})
    *lines, origin = advise(Workspace(config))
    left_out = [f"on board leave out conv2d 5x5 depthwise in {p}" for p in PRECISIONS]
    assert [line.split(":")[0] for line in lines] == left_out
    assert "measured" in origin
    file.write_text("{")
    assert "is damaged" in advise(Workspace(config))[0]


def test_a_changed_digit_of_an_audit_is_refused(audited: tuple[Path, AuditResult], tmp_path: Path) -> None:
    whole = (audited[0] / "audit.json").read_text()
    changed = re.sub(r'("fastest": 0\.\d*)(\d)', lambda m: f"{m[1]}{9 - int(m[2])}", whole, count=1)
    assert changed != whole
    (tmp_path / "audit.json").write_text(changed)
    with pytest.raises(TableError, match=r"does not match its checksum.*hwnas devices audit"):
        load_audit(tmp_path)


def test_an_audit_without_a_checksum_is_read(audited: tuple[Path, AuditResult], tmp_path: Path) -> None:
    values = read_document(audited[0] / "audit.json")
    (tmp_path / "audit.json").write_text(json.dumps({**values, "schema": 1}))
    assert load_audit(tmp_path) == load_audit(audited[0])


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*/audit/audit.json")), ids=lambda path: path.parts[-3])
def test_an_audit_that_ships_is_read_though_it_does_not_name_its_kind_of_block(path: Path) -> None:
    found = load_audit(path)
    assert found.kinds == ("mbconv",)
    # what it measured is what would be measured today, and means the same
    cases = [c for group in case_groups([MBCONV], found.precisions) for c in group]
    assert [m.case for m in found.measured] == cases
    assert found.findings == judge(found.measured, precisions=found.precisions)
    assert AuditResult(audit=found, folder=path.parent, seconds=0.0).shown.rows


@pytest.mark.parametrize("text", ["", "{}", '{"schema": 99}', '{"schema": 1, "device": "a"}', "[]"])
def test_a_damaged_audit_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text(text)
    with pytest.raises(TableError):
        load_audit(tmp_path)
