"""How an audit is shown: the table of the command, and the picture beside its file.

Knows findings and how they are worded; not how they were measured or judged.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas.audit.advice import choice_words, option_words, suggestion, suggestion_lines
from hwnas.audit.audit_file import Audit
from hwnas.audit.rules import COSTLY_EXCESS, LEAVE_OUT_EXCESS, VERDICTS, Finding
from hwnas.files import write_whole
from hwnas.quantities import count
from hwnas.results import Result, Shown
from hwnas.types import Option

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hwnas.report.audit import AuditRow

_SHOWN_OPERATORS = 2  # in the table; more come with a choice as a whole


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditResult(Result):
    """A device's audit, and where it is kept.

    Attributes:
        audit: what was found.
        folder: of `audit.json`, the picture and the measurements.
        seconds: this audit took.
    """

    audit: Audit
    folder: Path
    seconds: float

    def values(self) -> Mapping[str, object]:
        """The findings, and what they suggest for a configuration."""
        return {
            "source": self.audit.source,
            "suggestion": suggestion(self.audit),
            "findings": [
                {
                    "kind": f.kind,
                    "choice": f.choice,
                    "option": f.option,
                    "precision": f.precision,
                    "verdict": f.verdict,
                    "ratio": f.ratio,
                    "work": f.work,
                    "speedup": f.speedup,
                    "reason": f.reason,
                    "operators": list(f.operators),
                    "base": f.base,
                }
                for f in self.audit.findings
            ],
            "folder": self.folder,
            "seconds": self.seconds,
        }

    @property
    def shown(self) -> Shown:
        """A row for each option, a column for each precision."""
        found = self.audit
        gain = [f"{found.precisions[-1]} gain"] if len(found.precisions) > 1 else []
        return Shown(
            title=f"{found.device}: what each choice costs, {found.source}",
            columns=["block", "choice", "operators", "MACs", *found.precisions, *gain, "verdict"],
            rows=[_shown_row(found, parts) for parts in _by_option(found).values()],
            notes=[
                *(f"Base of {kind}: {_base_words(found, kind)}." for kind in found.kinds),
                f"Times against the base block of the same kind and shape, {found.source} on "
                f"{found.context.get('hardware', 'an unknown processor')}, {found.runtime} "
                f"{found.context.get('runtime_version', '')}, {count(int(found.context['threads']), 'thread')}; "
                f"costly from {COSTLY_EXCESS:g}x for the same work, leave out from {LEAVE_OUT_EXCESS:g}x.",
                *(line[0].upper() + line[1:] for line in suggestion_lines(found)),
            ],
        )


def _shown_row(found: Audit, parts: Sequence[Finding]) -> tuple[object, ...]:
    ratios = {f.precision: f.ratio for f in parts}
    operators = parts[0].operators
    return (
        parts[0].kind,
        _label(parts[0]),
        ", ".join(operators) if len(operators) <= _SHOWN_OPERATORS else f"{len(operators)} more",
        _times(_first(f.work for f in parts)),
        *(_times(ratios.get(p)) for p in found.precisions),
        *([_times(_first(f.speedup for f in parts))] if len(found.precisions) > 1 else []),
        _verdict_text(parts),
    )


def _by_option(found: Audit) -> dict[tuple[str, str, Option], list[Finding]]:
    grouped: dict[tuple[str, str, Option], list[Finding]] = {}
    for f in found.findings:
        grouped.setdefault((f.kind, f.choice, f.option), []).append(f)
    return grouped


def _label(f: Finding) -> str:
    if f.choice == "precision":
        return str(f.option)
    return f"channels of {f.option}, not {2 * int(f.option)}" if f.choice == "multiple" else option_words(f)


def _base_words(found: Audit, kind: str) -> str:
    """`activation relu6, kernel size 3, expand ratio 4`: what the other options are held against."""
    bases = {f.choice: f.base for f in found.findings if f.kind == kind and f.base != "" and f.base is not False}
    return ", ".join(f"{choice_words(kind, choice)} {base}" for choice, base in bases.items()) or "its usual options"


def _first(values: Iterable[float | None]) -> float | None:
    return next((v for v in values if v is not None), None)


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x"


def _verdict_text(parts: Sequence[Finding]) -> str:
    """`fine`, or what is wrong in which precision: `leave out in int8`."""
    found = {v: [f.precision for f in parts if f.verdict == v] for v in reversed(VERDICTS)}
    if parts and len(found[parts[0].verdict]) == len(parts):
        return parts[0].verdict
    return ", ".join(f"{v} in {' and '.join(of)}" for v, of in found.items() if of and v != VERDICTS[0])


def draw_audit(found: Audit, folder: Path) -> None:
    """Write the picture as PNG and SVG."""
    import matplotlib as mpl

    figure = _figure(found)
    with mpl.rc_context({"svg.hashsalt": "hwnas"}):  # the same picture, the same bytes
        # matplotlib writes its version and the date otherwise
        for form, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=form, dpi=150, metadata=metadata)
            write_whole(folder / f"audit.{form}", buffer.getvalue())


def _figure(found: Audit) -> Figure:
    from hwnas.report.audit import AuditRow, audit_figure

    bases = {f.kind: f for f in found.findings if f.choice == "precision"}
    rows: list[AuditRow] = []
    for kind in found.kinds:
        base = bases.get(kind)
        rows.append(
            AuditRow(
                label="usual options",
                group=f"{kind}: base",
                excess={p: [1.0] for p in found.precisions},
                speedup=base.speedup if base is not None else None,
                verdict=base.verdict if base is not None else VERDICTS[0],
                note=base.precision if base is not None else "",
            )
        )
        for (of, choice, _), parts in _by_option(found).items():
            if of == kind and choice != "precision":
                label, group = _drawn(parts[0])
                rows.append(replace(_row(parts), label=label, group=f"{kind}: {group}"))
    context = found.context
    return audit_figure(
        rows,
        title=f"{found.device}: what each choice costs",
        subtitle=f"{found.source}; {context.get('hardware', 'unknown')}; {found.runtime} "
        f"{context.get('runtime_version', '')}, {count(int(context['threads']), 'thread')}. "
        "Large marks: mean of the shapes.",
        costly=COSTLY_EXCESS,
        leave_out=LEAVE_OUT_EXCESS,
    )


def _drawn(f: Finding) -> tuple[str, str]:
    """The label of a row, and what its group is called behind the kind."""
    if f.choice == "multiple":
        return f"of {f.option}, not {2 * int(f.option)}", "channels a multiple"
    words = choice_words(f.kind, f.choice)
    if isinstance(f.option, bool):
        return "with" if f.option else "without", words
    return str(f.option), f"{words} (base {f.base})" if f.base != "" else words


def _row(parts: Sequence[Finding]) -> AuditRow:
    from hwnas.report.audit import AuditRow

    # one row for all precisions: its verdict is the worst of them
    worst = max((f.verdict for f in parts), key=VERDICTS.index)
    of = [f.precision for f in parts if f.verdict == worst]
    return AuditRow(
        label="",
        group="",
        excess={f.precision: list(f.excess.values()) for f in parts},
        speedup=_first(f.speedup for f in parts),
        verdict=worst,
        note=" and ".join(of) if len(of) < len(parts) else "",
    )
