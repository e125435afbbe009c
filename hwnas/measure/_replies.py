"""What every reply must be: a measuring process or a board that says something else is not believed.

Shapes, ranges and sizes are parse here, whoever the process is; a board may be anybody's. Knows the replies of
worker.py, agent.py and _boot.py; must not run on boards, which need nothing but numpy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from hwnas.foreign import quoted
from hwnas.measure.protocol import ReplyError

_DAY_NS = 86_400 * 10**9
_LARGEST = 1e18  # of any number: beyond the energy or memory of anything
_MOST_KEYS = 10_000  # of a mapping
_MOST_ROUNDS = 100_000
_MOST_BYTES = 1 << 50

# bounds are far above anything honest: they stop a board from filling memory and tables, not more
Text = Annotated[str, Field(max_length=10_000)]
Texts = Annotated[dict[Annotated[str, Field(max_length=200)], Text], Field(max_length=_MOST_KEYS)]
Amount = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]
Costs = Annotated[dict[Annotated[str, Field(max_length=200)], Amount], Field(max_length=_MOST_KEYS)]
Milliseconds = Annotated[float, Field(gt=0, lt=_DAY_NS * 1e-6)]
Samples = Annotated[list[Milliseconds], Field(min_length=1, max_length=_MOST_ROUNDS)]
Pair = Annotated[list[Milliseconds], Field(min_length=2, max_length=2)]
Pairs = Annotated[list[Pair], Field(min_length=1, max_length=_MOST_ROUNDS)]
Bytes = Annotated[int, Field(ge=0, lt=_MOST_BYTES)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Reply(BaseModel):
    """Strict: a number is no text, and no number is infinite. Further keys may come with newer versions."""

    # `extra="ignore"`: an agent put there by hand may be newer
    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, extra="ignore")


# ---------------------------------------------------------------- of a measuring process


class Greeting(Reply):
    """`hello`."""

    context: Texts
    warnings: Annotated[list[Text], Field(max_length=1000)] = []


class Loaded(Reply):
    """`load`."""

    first_run_ns: Annotated[float, Field(ge=0, lt=_DAY_NS)]
    costs: Costs = {}


class Times(Reply):
    """`time`."""

    samples_ms: Annotated[dict[str, Samples], Field(max_length=_MOST_KEYS)]
    reference_ms: Annotated[dict[str, Samples], Field(max_length=_MOST_KEYS)]
    # minima; the protocol keeps its words
    fastest_ms: Annotated[dict[str, Samples], Field(max_length=_MOST_KEYS)]
    around_ms: Annotated[dict[str, Pairs], Field(max_length=_MOST_KEYS)]
    costs: Annotated[dict[str, Costs], Field(max_length=_MOST_KEYS)] = {}

    def check_keys(self, keys: Sequence[str], *, anchor: str | None) -> None:
        """Check that it is about what was asked for, with a time of the anchor for every sample.

        Raises:
            ReplyError: it is about something else.
        """
        # without an anchor nothing may claim to have one
        beside = keys if anchor is not None else []
        for name, wanted in (
            ("samples_ms", keys),
            ("fastest_ms", keys),
            ("reference_ms", beside),
            ("around_ms", beside),
        ):
            times: Mapping[str, Sequence[object]] = getattr(self, name)
            _same(name, set(times), set(wanted))
            for key in wanted:
                if len(times[key]) != len(self.samples_ms[key]):
                    raise ReplyError(
                        f"it has {len(self.samples_ms[key])} samples of {quoted(key)} and {len(times[key])} in its "
                        f"{name}"
                    )


class Ran(Reply):
    """`run`."""

    n_outputs: Annotated[int, Field(ge=0, le=1000)]


class RanThere(Ran):
    """`run` on a board: the outputs are kept there."""

    sha256: Digest
    size_bytes: Bytes


# ---------------------------------------------------------------- of an agent


class Wanted(Reply):
    """`boot`, `agent`: whether the agent is to be sent."""

    wanted: bool


class Facts(Reply):
    """`facts`."""

    python: Text
    executable: Text
    numpy: Text
    system: Text
    cores: Annotated[int, Field(ge=1, le=1 << 20)]
    folder: Text
    free_bytes: Bytes
    clock_s: Amount


class Busy(Reply):
    """`hello` of an agent: who measures already, or "" and then the facts."""

    busy: Text


class Offered(Reply):
    """`offer`: whether a file is there, how much of it, whether the rest fits."""

    have: bool
    received_bytes: Bytes = 0
    full: bool = False
    free_bytes: Bytes | None = None


class Put(Reply):
    """`put`."""

    state: Literal["more", "stored", "corrupt", "full"]
    free_bytes: Bytes | None = None


class Piece(Reply):
    """`get`."""

    # unbounded here: `Wire` knows how many bytes it asked for, and checks
    data: str


class WorkerError(Reply):
    """An error of the measuring process, told by the agent."""

    type: Text
    message: str


class Worked(Reply):
    """`work`: the result of the measuring process, or its error."""

    result: Any = None
    error: WorkerError | None = None


R = TypeVar("R", bound=Reply)
_INFO = TypeAdapter(Texts, config=ConfigDict(strict=True))


def parse(model: type[R], value: object) -> R:
    """A reply that is what its model says.

    Raises:
        ReplyError: it is not; names the first place, and what stands there.
    """
    try:
        return model.model_validate(value)
    except ValidationError as e:
        raise _error(e, value) from None


def parse_info(value: object) -> Mapping[str, str]:
    """The reply to `info`: texts by name.

    Raises:
        ReplyError: it is something else.
    """
    try:
        return _INFO.validate_python(value)
    except ValidationError as e:
        raise _error(e, value) from None


def _error(error: ValidationError, value: object) -> ReplyError:
    # the first is enough for a person; a hostile reply may have thousands
    first = error.errors(include_url=False)[0]
    place = quoted(".".join(map(str, first["loc"]))) or "it"
    return ReplyError(f"{place}: {first['msg']}; it is {quoted(value)}")


def _same(what: str, found: set[Any], wanted: set[str]) -> None:
    if found != wanted:
        raise ReplyError(
            f"its {what} are of {quoted(sorted(map(str, found)))}, and asked for was {quoted(sorted(wanted))}"
        )
