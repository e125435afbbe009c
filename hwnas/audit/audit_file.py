"""An audit as a file: `audit.json`, read by later runs and by other programs. Knows JSON and findings only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hwnas.audit.cases import Case
from hwnas.audit.rules import Finding, MeasuredCase, compared_with_base
from hwnas.cost.table import statistic_values
from hwnas.errors import TableError
from hwnas.files import read_document, write_document
from hwnas.spaces.kinds import normalised
from hwnas.types import Block, Statistic

SCHEMA = 3
_ONE_KIND_SCHEMA = 2  # findings do not say of which kind of block they are, nor by which operators it differs
_UNSEALED_SCHEMA = 1  # likewise, without a checksum
AUDIT_FILE = "audit.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What a device does well and badly.

    Attributes:
        device: name of its description.
        runtime: registered name.
        precisions: that were audited.
        source: `measured`, or who estimated the times: `estimated by ...`.
        context: of the measurement: hardware, runtime version, threads, date, ...
        findings: one for each option and precision.
        measured: the blocks behind them.
    """

    device: str
    runtime: str
    precisions: tuple[str, ...]
    source: str
    context: Mapping[str, Any]
    findings: tuple[Finding, ...]
    measured: tuple[MeasuredCase, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of block that were audited, in order."""
        return tuple(dict.fromkeys(f.kind for f in self.findings))

    @property
    def origin(self) -> str:
        """Where its numbers come from: `measured on 2026-11-24 with onnxruntime 1.31.1 on AMD EPYC [avx2 ...]`."""
        c = self.context
        version = f"{self.runtime} {c.get('runtime_version', '')}".strip()
        return f"{self.source} on {str(c.get('date', ''))[:10]} with {version} on {c.get('hardware', 'unknown')}"


def save_audit(
    audit: Audit, path: Path, *, statistics: Mapping[str, Statistic], suggestion: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write an audit.

    Args:
        audit: to write.
        path: of the file.
        statistics: block key -> the statistic behind its time.
        suggestion: kind of block -> values for the configuration of a run; for readers of the file, `load_audit` does
            not need it.

    Raises:
        OSError: it cannot be written.
    """
    write_document(
        path,
        {
            "schema": SCHEMA,
            "device": audit.device,
            "runtime": audit.runtime,
            "precisions": list(audit.precisions),
            "source": audit.source,
            "context": dict(audit.context),
            "suggestion": {kind: dict(values) for kind, values in suggestion.items()},
            "findings": [asdict(f) for f in audit.findings],
            "measurements": [_measurement(m, statistics) for m in audit.measured],
        },
    )


def load_audit(path: Path) -> Audit:
    """Read an audit.

    Args:
        path: of the file, or of the folder it stands in.

    Raises:
        TableError: there is none, it is damaged, or of another schema.
    """
    path = Path(path)
    path = path / AUDIT_FILE if path.is_dir() else path
    try:
        values = read_document(path, is_older=lambda v: v.get("schema") not in (_ONE_KIND_SCHEMA, SCHEMA))
        if values["schema"] not in (_UNSEALED_SCHEMA, _ONE_KIND_SCHEMA, SCHEMA):
            raise TableError(f"{path} has schema {values['schema']!r}; this version of hwnas reads {SCHEMA}")
        measured = tuple(_read_result(v) for v in values["measurements"])
        return Audit(
            device=values["device"],
            runtime=values["runtime"],
            precisions=tuple(values["precisions"]),
            source=values["source"],
            context=values["context"],
            findings=tuple(_read_finding(v, measured) for v in values["findings"]),
            measured=measured,
        )
    except OSError as e:
        raise TableError(f"there is no audit {path}: {e.strerror}; make one with `hwnas devices audit`") from e
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        if isinstance(e, TableError):
            raise
        raise TableError(
            f"{path} is damaged ({type(e).__name__}: {e}); make it again with `hwnas devices audit`"
        ) from e


def _measurement(m: MeasuredCase, statistics: Mapping[str, Statistic]) -> dict[str, Any]:
    statistic = statistics.get(m.case.block.key)
    outcome = {"failure": m.failure} if statistic is None else {"latency_ms": statistic_values(statistic)}
    return {
        "site": m.case.site,
        "choice": m.case.choice,
        "option": m.case.option,
        "block": m.case.block.key,
        **outcome,
    }


def _read_finding(values: Mapping[str, Any], measured: Sequence[MeasuredCase]) -> Finding:
    if "kind" in values:
        given = {f.name: values[f.name] for f in fields(Finding)}
        return Finding(**{**given, "operators": tuple(given["operators"])})
    # older audits were of one kind of block, which their measurements name
    operators, base = compared_with_base(measured, values["choice"], values["option"])
    given = {f.name: values[f.name] for f in fields(Finding) if f.name not in ("kind", "operators", "base")}
    return Finding(**given, kind=measured[0].case.kind, operators=operators, base=base)


def _read_result(values: Mapping[str, Any]) -> MeasuredCase:
    case = Case(
        site=values["site"],
        choice=values["choice"],
        option=values["option"],
        # audits of earlier versions wrote attributes at their defaults
        block=normalised(Block.from_key(values["block"])),
    )
    latency = values.get("latency_ms")
    return MeasuredCase(
        case=case,
        latency_ms=float(latency["fastest"]) if latency is not None else None,
        failure=values.get("failure", ""),
    )
