"""Conformance suite for runtimes: what every adapter must do, as tests to inherit.

    class TestMyRuntime(RuntimeSuite):
        def device(self) -> Device: ...
        def artefact(self, folder: Path, *, precision: str, size: int = 1) -> Artefact: ...

Knows the Runtime and Session protocols; never one particular runtime. It needs pytest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwnas import registry
from hwnas.errors import ArtefactError, ConfigError, HwnasError, MeasurementError
from hwnas.graph.operators import OPERATORS
from hwnas.measure.artefacts import artefact_from_file
from hwnas.measure.client import Worker
from hwnas.measure.timing import TimingSettings
from hwnas.precisions import KNOWN, check_supported, computed_in, is_allowed, is_quantized, offered_as, supported
from hwnas.quantities import is_metric
from hwnas.types import PRECISIONS, Artefact, Device, Runtime, Statistic, TellsCosts

QUICK = TimingSettings(rounds=3, min_rounds=3, target_round_ms=0.2, warmup_ms=0.0)


class RuntimeSuite(ABC):
    """Tests of one registered runtime. Artefacts have one input, (1, 3, 8, 8), of the type that `inputs` gives."""

    @abstractmethod
    def device(self) -> Device:
        """A device of this runtime on the machine that runs the tests."""

    @abstractmethod
    def artefact(self, folder: Path, *, precision: str, size: int = 1) -> Artefact:
        """A small network, written into the folder; `size` multiplies its work, at least roughly."""

    def runtime(self) -> Runtime:
        """The adapter, as everybody gets it."""
        runtime: Runtime = registry.load("runtimes", self.device().runtime)()
        return runtime

    def precisions(self) -> tuple[str, ...]:
        """Legal on device and runtime, as they compute them here."""
        runtime, device = self.runtime(), self.device()
        computed = computed_in(runtime, device, runtime.context(device))
        return tuple(computed[p] for p in device.precisions if computed[p] in runtime.precisions)

    def inputs(self, precision: str) -> np.ndarray:
        """(1, 3, 8, 8), the same each time."""
        rng = np.random.default_rng(0)
        if is_quantized(precision):
            return rng.integers(0, 255, size=(1, 3, 8, 8), dtype=np.uint8, endpoint=True)
        return rng.standard_normal((1, 3, 8, 8)).astype(np.float32)

    def test_is_registered_under_its_name(self) -> None:
        assert self.runtime().name == self.device().runtime

    def test_names_known_precisions_and_at_least_one_format(self) -> None:
        assert self.precisions()
        assert set(self.runtime().precisions) <= set(KNOWN)
        assert self.runtime().formats

    def test_says_which_operators_it_computes_in_each_precision_by_their_names(self) -> None:
        for precision, rule in self.runtime().precisions.items():
            assert rule.operators is None or rule.operators <= set(OPERATORS), precision

    def test_a_precision_that_it_does_not_compute_is_refused_by_name_with_those_it_does(self, tmp_path: Path) -> None:
        runtime, device = self.runtime(), self.device()
        context = runtime.context(device)
        there = supported(runtime, device, context)
        assert there
        check_supported(there, runtime=runtime, device=device, context=context)
        for name in set(KNOWN) - set(there) - set(computed_in(runtime, device, context)):
            with pytest.raises(ConfigError, match=f"'{name}' .* supports there: {there[0]}"):
                check_supported([name], runtime=runtime, device=device, context=context)

    def test_loads_and_runs_every_precision(self, tmp_path: Path) -> None:
        runtime, device = self.runtime(), self.device()
        there = supported(runtime, device, runtime.context(device))
        assert set(self.precisions()) <= set(there)
        for precision in (p for p in there if is_allowed(p, device)):
            with self.runtime().load(self.artefact(tmp_path, precision=precision), self.device()) as session:
                outputs = session.run([self.inputs(precision)])
            assert outputs, precision
            assert np.isfinite(outputs[0].astype(np.float64)).all(), precision

    def test_runs_are_repeatable(self, tmp_path: Path) -> None:
        for precision in self.precisions():
            with self.runtime().load(self.artefact(tmp_path, precision=precision), self.device()) as session:
                first, second = (session.run([self.inputs(precision)])[0] for _ in range(2))
            np.testing.assert_array_equal(first, second)

    def test_timing_leaves_the_outputs_alone(self, tmp_path: Path) -> None:
        precision = self.precisions()[0]
        with self.runtime().load(self.artefact(tmp_path, precision=precision), self.device()) as session:
            before = session.run([self.inputs(precision)])[0].copy()
            session.time_ns(iterations=2)
            np.testing.assert_array_equal(session.run([self.inputs(precision)])[0], before)

    def test_time_is_positive_and_grows_with_iterations(self, tmp_path: Path) -> None:
        for precision in self.precisions():
            with self.runtime().load(self.artefact(tmp_path, precision=precision), self.device()) as session:
                session.time_ns(iterations=1)
                # the smallest of a few: whatever else the machine does only ever adds to a time
                once = min(session.time_ns(iterations=1) for _ in range(5))
                often = min(session.time_ns(iterations=50) for _ in range(5))
            assert 0 < once < often, precision

    def test_two_sessions_live_side_by_side(self, tmp_path: Path) -> None:
        precision = self.precisions()[0]
        runtime, artefact = self.runtime(), self.artefact(tmp_path, precision=precision)
        with runtime.load(artefact, self.device()) as one, runtime.load(artefact, self.device()) as other:
            np.testing.assert_array_equal(one.run([self.inputs(precision)])[0], other.run([self.inputs(precision)])[0])

    def test_a_closed_session_refuses_to_run(self, tmp_path: Path) -> None:
        precision = self.precisions()[0]
        session = self.runtime().load(self.artefact(tmp_path, precision=precision), self.device())
        session.__exit__(None, None, None)
        with pytest.raises(MeasurementError):
            session.run([self.inputs(precision)])
        with pytest.raises(MeasurementError):
            session.time_ns(iterations=1)

    def test_closing_twice_is_allowed(self, tmp_path: Path) -> None:
        session = self.runtime().load(self.artefact(tmp_path, precision=self.precisions()[0]), self.device())
        session.__exit__(None, None, None)
        session.__exit__(None, None, None)

    def test_info_is_text_and_names_what_runs(self, tmp_path: Path) -> None:
        with self.runtime().load(self.artefact(tmp_path, precision=self.precisions()[0]), self.device()) as session:
            info = session.info()
        assert info["provider"]
        assert all(isinstance(k, str) and isinstance(v, str) for k, v in info.items())

    def test_what_a_run_costs_is_told_under_declared_names_that_say_their_unit(self, tmp_path: Path) -> None:
        runtime, precision = self.runtime(), self.precisions()[0]
        declared = runtime.metrics if isinstance(runtime, TellsCosts) else {}
        assert all(is_metric(name) and text for name, text in declared.items())
        with runtime.load(self.artefact(tmp_path, precision=precision), self.device()) as session:
            assert set(session.costs()) <= set(declared)

    def test_context_names_version_and_hardware(self) -> None:
        context = self.runtime().context(self.device())
        assert context["runtime_version"]
        assert context["hardware"]
        assert all(isinstance(k, str) and isinstance(v, str) for k, v in context.items())

    def test_context_tells_thread_counts_apart(self) -> None:
        runtime, device = self.runtime(), self.device()
        assert runtime.context(device) != runtime.context(replace(device, threads=device.threads + 1))

    def test_wrong_inputs_are_a_measurement_error(self, tmp_path: Path) -> None:
        precision = self.precisions()[0]
        x = self.inputs(precision)
        with self.runtime().load(self.artefact(tmp_path, precision=precision), self.device()) as session:
            for wrong in ([], [x, x], [x[:, :2]], [x.astype(np.float64)]):
                with pytest.raises(MeasurementError):
                    session.run(wrong)

    def test_an_absent_file_is_an_artefact_error(self, tmp_path: Path) -> None:
        artefact = self.artefact(tmp_path, precision=self.precisions()[0])
        artefact.path.unlink()
        with pytest.raises(ArtefactError, match=artefact.path.name):
            self.runtime().load(artefact, self.device())

    def test_a_changed_file_is_an_artefact_error(self, tmp_path: Path) -> None:
        artefact = self.artefact(tmp_path, precision=self.precisions()[0])
        artefact.path.write_bytes(artefact.path.read_bytes() + b"\0")
        with pytest.raises(ArtefactError, match="changed"):
            self.runtime().load(artefact, self.device())

    def test_a_file_that_is_no_model_is_an_artefact_error(self, tmp_path: Path) -> None:
        path = tmp_path / "garbage"
        path.write_bytes(b"this is no model" * 10)
        format = min(self.runtime().formats)
        artefact = artefact_from_file(path, format=format, precision=self.precisions()[0])
        with pytest.raises(ArtefactError, match="garbage"):
            self.runtime().load(artefact, self.device())

    def test_another_format_is_refused_and_the_known_ones_named(self, tmp_path: Path) -> None:
        artefact = replace(self.artefact(tmp_path, precision=self.precisions()[0]), format="papyrus")
        with pytest.raises(ArtefactError, match=min(self.runtime().formats)):
            self.runtime().load(artefact, self.device())

    def test_a_precision_that_is_not_legal_is_refused_and_the_legal_ones_named(self, tmp_path: Path) -> None:
        legal = self.precisions()[0]
        illegal = next(p for p in PRECISIONS if p != offered_as(legal))
        device = replace(self.device(), precisions=(offered_as(legal),))
        artefact = replace(self.artefact(tmp_path, precision=legal), precision=illegal)
        with pytest.raises(MeasurementError, match=f"legal: .*{legal}"):
            self.runtime().load(artefact, device)

    def test_an_unknown_option_is_refused(self, tmp_path: Path) -> None:
        device = replace(self.device(), options={**self.device().options, "no_such_option": 1})
        with pytest.raises(HwnasError, match="no_such_option"):
            self.runtime().load(self.artefact(tmp_path, precision=self.precisions()[0]), device)

    def test_measures_in_a_child_process_and_tells_work_apart(self, tmp_path: Path) -> None:
        for precision in self.precisions():
            artefacts = {
                str(size): self.artefact(tmp_path / f"{precision}-{size}", precision=precision, size=size)
                for size in (1, 64)  # so far apart that no noise turns their order round
            }
            with Worker(self.device()) as worker:
                results = worker.measure(artefacts, settings=QUICK)
            small, large = results["1"], results["64"]
            assert isinstance(small, Statistic), small
            assert isinstance(large, Statistic), large
            assert small.n == large.n == QUICK.rounds
            assert 0 < small.median < large.median

    def test_runs_in_a_child_process_as_it_does_here(self, tmp_path: Path) -> None:
        for precision in self.precisions():
            artefact = self.artefact(tmp_path, precision=precision)
            with self.runtime().load(artefact, self.device()) as session:
                here = session.run([self.inputs(precision)])
            with Worker(self.device()) as worker:
                there = worker.run(artefact, [self.inputs(precision)])
            assert len(here) == len(there)
            for a, b in zip(here, there, strict=True):
                np.testing.assert_array_equal(a, b)
