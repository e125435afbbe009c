"""The HTTP API and the page's files. Needs FastAPI (the extra `serve`).

Every answer is one JSON object; an error is `{"error": {"type", "message"}}` with the texts that the command line has.
Knows the protocol, the catalogue and jobs; never how a network is found or made.
"""

from __future__ import annotations

import contextlib
import gc
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from hwnas import __version__
from hwnas.allowed import Allowed, limits_from_json, limits_to_json
from hwnas.catalogue import Catalogue
from hwnas.errors import ConfigError, HwnasError, InfeasibleError, UnknownNameError
from hwnas.report.style import stylesheet
from hwnas.results import json_value
from hwnas.serve.access import BodyTooLargeError, Guard
from hwnas.serve.jobs import Jobs, NoSuchJobError, TooManyJobsError
from hwnas.serve.telling import (
    device_json,
    front_json,
    infeasible_json,
    limits_json,
    network_json,
    offers_json,
)

_HERE = Path(__file__).parent
_MOST_LIMITS, _MOST_CHOICES, _MOST_ANSWERS = 32, 2000, 100

Number = Annotated[float, Field(allow_inf_nan=False)]
Architecture = Annotated[
    dict[str, bool | int | float | str], Field(max_length=_MOST_CHOICES, description="choice -> option")
]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Sides(_Asked):
    """What is allowed of a metric, where a number alone would not say it."""

    at_least: Number | None = None
    at_most: Number | None = None


AskedLimits = Annotated[
    dict[str, Number | Sides],
    Field(max_length=_MOST_LIMITS, description="metric -> the most (of an accuracy: the least) allowed, or its sides"),
]


class Question(_Asked):
    """Which network is the best within limits."""

    device: str
    limits: AskedLimits = Field(default_factory=dict)
    metric: str = ""  # what networks were evaluated for
    top: Annotated[int, Field(ge=1, le=_MOST_ANSWERS)] = 1
    predicted: Annotated[int, Field(ge=0, le=_MOST_ANSWERS, description="networks not evaluated to name")] = 1
    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class Network(_Asked):
    """A network of a device."""

    device: str
    architecture: Architecture


class Deployment(Network):
    """A network that is to be deployed, within limits that it must keep when measured."""

    limits: AskedLimits = Field(default_factory=dict)


class Problem(BaseModel):
    """Why there is no answer."""

    class Told(BaseModel):
        """What went wrong: its kind, and a sentence or more."""

        type: str
        message: str

    error: Told


@dataclass(frozen=True, kw_only=True)
class Served:
    """What is served.

    Attributes:
        catalogue: of the run.
        run: its folder.
        jobs: that deploy its networks.
    """

    catalogue: Catalogue
    run: Path
    jobs: Jobs


def make_app(served: Served, *, token: str = "", names: frozenset[str] = frozenset()) -> Guard:
    """The whole server as one ASGI application.

    Args:
        served: what it tells of.
        token: that requests of the API must bear; empty: none.
        names: of this machine that a Host header may have, see `Guard`.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        served.jobs.start()
        # what is there now stays; to look through all of it would stop every answer for a tenth of a second or more
        gc.collect()
        gc.freeze()
        yield
        gc.unfreeze()
        await served.jobs.stop()

    app = FastAPI(
        title="hwnas",
        version=__version__,
        description="Budgets of a finished run: the best network within limits on any device, and its deployment.",
        openapi_url="/api/openapi.json",
        # their pages load scripts from elsewhere
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses={code: {"model": Problem} for code in (400, 401, 404, 409, 413, 415, 422, 429)},
    )
    _add_questions(app, served)
    _add_jobs(app, served)
    _add_page(app)
    _add_errors(app)
    return Guard(app, token=token, names=names)


# ---------------------------------------------------------------- the API


def _add_questions(app: FastAPI, served: Served) -> None:
    catalogue = served.catalogue

    @app.get("/api/run", summary="The run and its devices")
    async def run() -> Response:
        return _json(
            {
                "run": str(served.run),
                "space": next(iter(catalogue.values())).evaluated.space_name,
                "version": __version__,
                "devices": [device_json(networks) for networks in catalogue.values()],
            }
        )

    @app.get("/api/front", summary="What was evaluated, and the fronts of accuracy and one cost")
    async def front(device: str, cost: str = "latency_ms") -> Response:
        return _json(front_json(catalogue[device], cost))

    @app.post("/api/query", summary="The best networks within limits, evaluated and predicted")
    async def query(question: Question) -> Response:
        networks, limits = catalogue[question.device], _limits(question.limits)
        try:
            offers = networks.ask(
                limits,
                metric=question.metric,
                top=question.top,
                n_predicted=question.predicted,
                tolerance=question.tolerance,
            )
        except InfeasibleError as e:
            told = {**infeasible_json(e), "limits": limits_json(networks, limits)}
            return _json({"error": told}, status=409)
        return _json(offers_json(networks, offers, limits))

    @app.post("/api/network", summary="A network as it is drawn")
    async def network(asked: Network) -> Response:
        return _json(network_json(catalogue[asked.device], asked.architecture))


def _limits(asked: Mapping[str, float | Sides]) -> dict[str, Allowed]:
    """Limits as everybody else has them.

    Raises:
        ConfigError: two sides that leave nothing between them, or none.
    """
    plain = {m: v.model_dump(exclude_none=True) if isinstance(v, Sides) else v for m, v in asked.items()}
    return limits_from_json(plain)


def _add_jobs(app: FastAPI, served: Served) -> None:
    jobs = served.jobs

    @app.get("/api/jobs", summary="All jobs, the newest first")
    async def listed() -> Response:
        return _json({"jobs": [job.to_json() for job in jobs.all]})

    @app.post("/api/jobs", status_code=202, summary="Deploy exactly this network")
    async def submit(asked: Deployment) -> Response:
        networks = served.catalogue[asked.device]
        network_json(networks, asked.architecture)  # what is no network is refused now, not when its turn comes
        request = {
            "run": str(served.run),
            "device": networks.entry or networks.device,
            "architecture": asked.architecture,
            "limits": limits_to_json(_limits(asked.limits)),
        }
        job = jobs.submit(request, title=f"Deploy on {networks.device}")
        return _json(job.to_json(), status=202)

    @app.get("/api/jobs/{name}", summary="One job")
    async def one(name: str) -> Response:
        return _json(jobs.get(name).to_json())

    @app.delete("/api/jobs/{name}", summary="Cancel a job")
    async def cancel(name: str) -> Response:
        return _json(jobs.cancel(name).to_json())

    @app.get("/api/jobs/{name}/events", summary="One job whenever it changes, as server-sent events")
    async def events(name: str) -> Response:
        jobs.get(name)

        async def sent() -> AsyncIterator[bytes]:
            async for document in jobs.follow(name):
                yield b"event: job\ndata: " + _dumped(document) + b"\n\n"

        return StreamingResponse(sent(), media_type="text/event-stream")

    @app.get("/api/jobs/{name}/report", summary="The page of what a job deployed")
    async def report(name: str) -> Response:
        result = jobs.get(name).result or {}
        path = Path(str(result.get("deployment", ""))) / "report.html"
        if not result or not path.is_file():
            raise ConfigError("the job has no report: it has not ended, or what it deployed is gone")
        return HTMLResponse(
            path.read_bytes(),
            # a page of ours that holds its own style, and no script
            headers={
                "content-security-policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
            },
        )


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return HTMLResponse(_file("page.html"))

    @app.get("/page.css", include_in_schema=False)
    async def style() -> Response:
        return Response(stylesheet().encode() + _file("page.css"), media_type="text/css")

    @app.get("/{name}.js", include_in_schema=False)
    async def script(name: str) -> Response:
        if name not in ("page", "chart", "drawing", "jobs"):
            raise HTTPException(404, "there is no such script")
        return Response(_file(f"{name}.js"), media_type="text/javascript")


@cache
def _file(name: str) -> bytes:
    return (_HERE / name).read_bytes()


# ---------------------------------------------------------------- errors


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(HwnasError)
    async def ours(request: Request, error: HwnasError) -> Response:
        status = 400
        told: Mapping[str, object] = {"type": type(error).__name__, "message": str(error)}
        if isinstance(error, InfeasibleError):
            status, told = 409, infeasible_json(error)
        elif isinstance(error, UnknownNameError | NoSuchJobError):
            status = 404
        elif isinstance(error, TooManyJobsError):
            status = 429
        return _json({"error": told}, status=status)

    @app.exception_handler(RequestValidationError)
    async def wrong(request: Request, error: RequestValidationError) -> Response:
        found = [f"{'.'.join(map(str, e['loc'][1:])) or 'the request'}: {e['msg']}" for e in error.errors()[:5]]
        return _json({"error": {"type": "RequestError", "message": "; ".join(found)}}, status=422)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        told = {404: f"there is no {request.url.path!r}", 405: f"{request.method} is not for {request.url.path!r}"}
        message = told.get(error.status_code, str(error.detail))
        return _json({"error": {"type": "RequestError", "message": message}}, status=error.status_code)

    @app.exception_handler(BodyTooLargeError)
    async def large(request: Request, error: BodyTooLargeError) -> Response:
        return _json({"error": {"type": "SizeError", "message": "the request is too large"}}, status=413)

    @app.exception_handler(Exception)
    async def other(request: Request, error: Exception) -> Response:
        message = "this is a fault of hwnas; the terminal of `hwnas serve` shows where"
        return _json({"error": {"type": type(error).__name__, "message": message}}, status=500)


def _json(document: Mapping[str, object], *, status: int = 200) -> Response:
    return Response(_dumped(document), status_code=status, media_type="application/json")


def _dumped(document: Mapping[str, Any]) -> bytes:
    try:
        # most documents are JSON values already, and to look at every one of them takes as long as the answer
        text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        text = json.dumps(json_value(document), ensure_ascii=False, allow_nan=False)
    return text.encode()
