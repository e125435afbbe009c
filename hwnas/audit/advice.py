"""What an audit means for the space of a run: values for its configuration, and warnings.

Knows findings, configurations, and the blocks of a space by what they compute; no kind or choice by name, and must
never load torch or a runtime.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from hwnas.audit.audit_file import Audit
from hwnas.audit.cases import WIDTHS
from hwnas.audit.rules import LEAVE_OUT, Finding, recommended_multiple, variation_of
from hwnas.audit.space_options import SpaceOptions, configured_options
from hwnas.config import Config, SpaceConfig
from hwnas.precisions import EXACT, asked_as, is_quantized
from hwnas.spaces.network import CHANNEL_DIVISOR

_SEVERAL = 3  # so many new operators are told by the choice that brings them


def suggestion(audit: Audit) -> dict[str, dict[str, Any]]:
    """Kind of block -> values for the configuration of a run on this device; only what the audit has a reason for.

    They are judged in the precision that suits the device best: integers where they pay, else floats.
    """
    return {kind: values for kind in audit.kinds if (values := _suggested(audit, kind))}


def _suggested(audit: Audit, kind: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    best, worth = best_precision(audit, kind), worthwhile_precisions(audit, kind)
    if worth != audit.precisions:
        values["space.precisions"] = [asked_as(p) for p in worth]
    # in one precision: a choice that is slow in floats alone is fine where integers ship
    for f in _left_out(audit, [kind]):
        if f.precision == best and f.choice != "precision" and (setting := _setting(audit, f)) is not None:
            values.update([setting])
    multiple = recommended_multiple(_of([kind], audit.findings), best)
    if multiple > CHANNEL_DIVISOR:
        values["space.channel_divisor"] = multiple
    return values


def advice(config: Config, audit: Audit) -> list[str]:
    """What the configured space has that the audit advises against; empty if all is well, or it has no blocks.

    Blocks of a kind that was not audited are advised of the operators that they share with those that were.

    Args:
        config: of a run on the audit's device.
        audit: of it.

    Raises:
        ConfigError: there is no such space, or it does not take what the configuration asks of it.
    """
    space = configured_options(config, audited=audit.kinds)
    if space is None:
        return []
    wanted = config.space.precisions or space.precisions
    precisions = [p for p in audit.precisions if asked_as(p) in wanted]
    # where none of its kinds was audited, what holds for blocks as such is taken from those that were
    kinds = [kind for kind in audit.kinds if kind in space.options] or audit.kinds
    lines = []
    for f in _left_out(audit, audit.kinds):
        if f.precision not in precisions:
            continue
        if f.choice == "precision":
            # its own wish, and nothing else is left
            if f.kind not in kinds or len(precisions) == 1:
                continue
        elif not space.has(f):
            continue
        lines.append(f"on {audit.device} leave out {describe(f)}{_mend(audit, f, space)}")
    for precision in precisions:
        multiple = recommended_multiple(_of(kinds, audit.findings), precision)
        # the least multiple is what is told where none costs too much
        if multiple > min(WIDTHS) and space.channel_divisor % multiple:
            setting = " (space.channel_divisor)" if "channel_divisor" in space.settings else ""
            lines.append(
                f"on {audit.device} {precision} wants channels in multiples of {multiple}; space "
                f"{config.space.preset!r} has multiples of {space.channel_divisor}{setting}"
            )
    return list(dict.fromkeys(lines))


def suggestion_lines(audit: Audit) -> list[str]:
    """What to leave out on the device, and how a configuration says so, for people."""
    lines = [f"leave out {describe(f)}" for f in _left_out(audit, audit.kinds)]
    for kind in audit.kinds:
        for precision in audit.precisions:
            multiple = recommended_multiple(_of([kind], audit.findings), precision)
            if multiple > CHANNEL_DIVISOR:
                lines.append(f"in {precision} make channels of {kind} multiples of {multiple}")
    for kind, values in suggestion(audit).items():
        settings = " ".join(f"--set {key}={_toml(value)}" for key, value in values.items())
        lines.append(f"for a run of {kind} blocks on this device: {settings}")
    return lines or ["nothing to leave out: every choice costs about what its work costs"]


def describe(f: Finding) -> str:
    """`conv2d 7x7 depthwise in int8: 13x for 1.1x the MACs (mbconv with kernel size 7, against 3)`."""
    if f.choice == "precision":
        return f"{f.option} of {f.kind}: {f.reason}"
    if f.choice == "multiple":
        return f"widths of {f.kind} that are no multiple of {2 * int(f.option)} in {f.precision}: {f.reason}"
    taken = f"{f.kind} with {option_words(f)}"
    if not f.operators or len(f.operators) >= _SEVERAL:
        return f"{taken} in {f.precision}: {f.reason}{_against(f, before=' (', after=')')}"
    return f"{' and '.join(f.operators)} in {f.precision}: {f.reason} ({taken}{_against(f, before=', ')})"


def choice_words(kind: str, choice: str) -> str:
    """A choice for people: `squeeze-and-excitation`, `kernel size`."""
    variation = variation_of(kind, choice)
    return (variation.words if variation is not None else "") or choice.replace("_", " ")


def option_words(f: Finding) -> str:
    """`kernel size 5`, `squeeze-and-excitation`, `no bias`."""
    words = choice_words(f.kind, f.choice)
    if isinstance(f.option, bool):
        return words if f.option else f"no {words}"
    return f"{words} {f.option}"


def _against(f: Finding, *, before: str, after: str = "") -> str:
    if isinstance(f.option, bool):
        return f"{before}against {'none' if f.option else 'it'}{after}"
    return f"{before}against {f.base}{after}" if f.base != "" else ""


def worthwhile_precisions(audit: Audit, kind: str) -> tuple[str, ...]:
    """The precisions without one that gains nothing in blocks of a kind; all, if none would be left."""
    bad = {f.precision for f in _left_out(audit, [kind]) if f.choice == "precision"}
    return tuple(p for p in audit.precisions if p not in bad) or audit.precisions


def best_precision(audit: Audit, kind: str) -> str:
    """Integers where they pay in blocks of a kind, else the first there is."""
    worth = worthwhile_precisions(audit, kind)
    return next((p for p in worth if is_quantized(p)), worth[0])


def _of(kinds: Iterable[str], findings: Iterable[Finding]) -> list[Finding]:
    of = set(kinds)
    return [f for f in findings if f.kind in of]


def _left_out(audit: Audit, kinds: Iterable[str]) -> Iterator[Finding]:
    """What the audit advises against, widths aside: they come as one number, `recommended_multiple`."""
    return (f for f in _of(kinds, audit.findings) if f.verdict == LEAVE_OUT and f.choice != "multiple")


def _setting(audit: Audit, f: Finding) -> tuple[str, Any] | None:
    """Key and value by which a configuration leaves an option out; None if it has no key for the choice."""
    if f.choice in SpaceConfig.model_fields:
        return f"space.{f.choice}", f.base
    if f"{f.choice}s" not in SpaceConfig.model_fields:
        return None
    same = [g for g in _of([f.kind], audit.findings) if (g.choice, g.precision) == (f.choice, f.precision)]
    kept = [g.option for g in same if g.verdict != LEAVE_OUT]
    return f"space.{f.choice}s", [f.base, *kept]


def _mend(audit: Audit, f: Finding, space: SpaceOptions) -> str:
    if f.choice == "precision":
        kinds = [kind for kind in audit.kinds if kind in space.options] or audit.kinds
        worth = {p for kind in kinds for p in worthwhile_precisions(audit, kind)}
        key, value = ("space.precisions", None) if f.option not in worth else ("", None)
    else:
        key, value = _setting(audit, f) or ("", None)
    if key.removeprefix("space.") not in space.settings:
        return "; the search avoids it by itself where it has the choice, its table knows the cost"
    if f.choice == "precision":
        return f'; set space.precisions = ["{EXACT}"]'
    if isinstance(value, list):
        return f"; leave {f.option} out of {key} (the search avoids it where it has the choice)"
    return f"; set {key} = {_toml(value, quoted=True)}"


def _toml(value: object, *, quoted: bool = False) -> str:
    from hwnas._toml import format_value

    text = format_value(value)  # type: ignore[arg-type]
    if quoted:
        return text
    return f"'{text}'" if isinstance(value, list) else text.strip('"')
