"""What an audit means for the space of a run: values for its configuration, and warnings.

Knows findings, configurations and the stages of a space; must never load torch or a runtime.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hwnas.audit.audit_file import Audit
from hwnas.audit.cases import BASE_ACTIVATION, BASE_EXPAND_RATIO, BASE_KERNEL_SIZE, KERNEL_SIZES
from hwnas.audit.rules import LEAVE_OUT, Finding, recommended_multiple
from hwnas.config import Config
from hwnas.named_spaces import make_space
from hwnas.precisions import EXACT, asked_as, is_quantized
from hwnas.spaces.network import CHANNEL_DIVISOR

if TYPE_CHECKING:
    from hwnas.spaces.staged import StagedSpace

_NAMES = {"se": "squeeze-and-excitation", "kernel_size": "kernel size", "expand_ratio": "expand ratio"}
_BASES = {
    "activation": BASE_ACTIVATION,
    "se": "none",
    "kernel_size": f"{BASE_KERNEL_SIZE}",
    "expand_ratio": f"{BASE_EXPAND_RATIO}",
}


def suggestion(audit: Audit) -> dict[str, Any]:
    """Values for the configuration of a run on this device, by key; only what the audit has a reason for.

    They are judged in the precision that suits the device best: integers where they pay, else floats.
    """
    values: dict[str, Any] = {}
    # in one precision: a choice that is slow in floats alone is fine where integers ship
    left_out = {(f.choice, f.option) for f in _left_out(audit) if f.precision == best_precision(audit)}
    worth = worthwhile_precisions(audit)
    if worth != audit.precisions:
        values["space.precisions"] = [asked_as(p) for p in worth]
    if any(choice == "activation" for choice, _ in left_out):
        values["space.activation"] = BASE_ACTIVATION
    if ("se", True) in left_out:
        values["space.se"] = False
    large = [int(option) for choice, option in left_out if choice == "kernel_size"]
    if large:
        values["space.kernel_sizes"] = [k for k in (BASE_KERNEL_SIZE, *KERNEL_SIZES) if k not in large]
    multiple = recommended_multiple(audit.findings, best_precision(audit))
    if multiple > CHANNEL_DIVISOR:
        values["space.channel_divisor"] = multiple
    return values


def advice(config: Config, audit: Audit) -> list[str]:
    """What the configured space has that the audit advises against; empty if all is well, or of another kind of space.

    Args:
        config: of a run on the audit's device.
        audit: of it.

    Raises:
        ConfigError: there is no such space, or it does not take what the configuration asks of it.
    """
    space = _configured_space(config)
    if space is None:
        return []
    wanted = config.space.precisions or space.precisions
    precisions = [p for p in audit.precisions if asked_as(p) in wanted]
    options = _options(space) | {"precision": set(precisions)}
    lines = []
    for f in _left_out(audit):
        if f.precision not in precisions or f.option not in options[f.choice]:
            continue
        if f.choice == "precision" and len(precisions) == 1:  # its own wish, and nothing else is left
            continue
        lines.append(f"on {audit.device} leave out {describe(f)}{_mend(f)}")
    for precision in precisions:
        multiple = recommended_multiple(audit.findings, precision)
        if multiple > space.channel_divisor:
            lines.append(
                f"on {audit.device} {precision} wants channels in multiples of {multiple}; space "
                f"{config.space.preset!r} has multiples of {space.channel_divisor} (space.channel_divisor)"
            )
    return lines


def suggestion_lines(audit: Audit) -> list[str]:
    """What to leave out on the device, and how a configuration says so, for people."""
    lines = [f"leave out {describe(f)}" for f in _left_out(audit)]
    for precision in audit.precisions:
        multiple = recommended_multiple(audit.findings, precision)
        if multiple > CHANNEL_DIVISOR:
            lines.append(f"in {precision} make channels multiples of {multiple}")
    values = suggestion(audit)
    if values:
        settings = " ".join(f"--set {key}={_toml(value)}" for key, value in values.items())
        lines.append(f"for a run on this device: {settings}")
    return lines or ["nothing to leave out: every choice costs about what its work costs"]


def describe(f: Finding) -> str:
    """`hswish in int8: 3.1x relu6, slower than fp32`."""
    if f.choice == "precision":
        return f"{f.option}: {f.reason}"
    if f.choice == "multiple":
        return f"widths that are no multiple of {2 * int(f.option)} in {f.precision}: {f.reason}"
    name = str(f.option) if f.choice == "activation" else _NAMES[f.choice]
    if f.choice in ("kernel_size", "expand_ratio"):
        name = f"{name} {f.option}"
    return f"{name} in {f.precision}: {f.reason} (against {_BASES[f.choice]})"


def worthwhile_precisions(audit: Audit) -> tuple[str, ...]:
    """The precisions without one that gains nothing; all, if none would be left."""
    bad = {f.precision for f in _left_out(audit) if f.choice == "precision"}
    return tuple(p for p in audit.precisions if p not in bad) or audit.precisions


def best_precision(audit: Audit) -> str:
    """Integers where they pay, else the first there is."""
    worth = worthwhile_precisions(audit)
    return next((p for p in worth if is_quantized(p)), worth[0])


def _left_out(audit: Audit) -> Iterator[Finding]:
    """What the audit advises against, widths aside: they come as one number, `recommended_multiple`."""
    return (f for f in audit.findings if f.verdict == LEAVE_OUT and f.choice != "multiple")


def _mend(f: Finding) -> str:
    if f.choice == "activation":
        return f'; set space.activation = "{BASE_ACTIVATION}"'
    if f.choice == "se":
        return "; set space.se = false"
    if f.choice == "precision":
        return f'; set space.precisions = ["{EXACT}"]'
    if f.choice == "kernel_size":
        return f"; leave {f.option} out of space.kernel_sizes (the search avoids it where it has the choice)"
    return "; the search avoids it by itself, its table knows the cost"


def _toml(value: object) -> str:
    from hwnas._toml import format_value

    text = format_value(value)  # type: ignore[arg-type]
    return f"'{text}'" if isinstance(value, list) else text.strip('"')


def _configured_space(config: Config) -> StagedSpace | None:
    """The space, for images and classes that do not matter here; None if it is not of stages."""
    from hwnas.spaces.staged import StagedSpace

    style = config.space.model_dump(include={"activation", "se", "channel_divisor"}, exclude_none=True)
    # the style alone decides which operators there are
    space = make_space(config.space.preset, in_channels=3, n_classes=10, style=style)
    return space.restrict(kernel_sizes=config.space.kernel_sizes) if isinstance(space, StagedSpace) else None


def _options(space: StagedSpace) -> dict[str, set[object]]:
    """Choice of an audit -> what some network of the space has.

    What depends on the inside of inverted residuals, which alone are audited, is no advice for other blocks.
    """
    from hwnas.spaces.mobilenet import MobileNetSpace

    stages = space.stages if isinstance(space, MobileNetSpace) else ()
    return {
        "activation": set(space.activations),
        "se": set().union(*(s.se for s in stages)),
        "kernel_size": set().union(*(s.kernel_sizes for s in stages)),
        "expand_ratio": set().union(*(s.expand_ratios for s in stages)),
    }
