"""What the API answers."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serve.made_up import DIES, FAILS, HANGS, Client, architecture, made_up_catalogue, running, served

CATALOGUE = made_up_catalogue()
CPU = CATALOGUE["cpu"]


@pytest.fixture(scope="module")
def asked() -> Iterator[Client]:
    """A server that deploys nothing."""
    with running(served(Path("/no/such/run"))) as url:
        yield Client(url)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """A server whose jobs are the test's own."""
    with running(served(tmp_path)) as url:
        yield Client(url)


def ended(client: Client, job: str) -> dict[str, Any]:
    """A job once it has ended."""
    for _ in range(400):
        found: dict[str, Any] = client.get(f"/api/jobs/{job}").json()
        if found["state"] in ("done", "failed", "cancelled"):
            return found
        time.sleep(0.02)
    raise AssertionError(found)


# ---------------------------------------------------------------- questions


def test_the_run_tells_its_devices_and_between_which_values_budgets_make_sense(asked: Client) -> None:
    found = asked.get("/api/run").json()
    assert [d["name"] for d in found["devices"]] == ["cpu", "pi"]
    cpu, pi = found["devices"]
    assert (cpu["evaluated"], cpu["predicted"], pi["predicted"]) == (40, 200, 0)
    latency = cpu["metrics"][0]
    assert latency["metric"] == "latency_ms"
    assert latency["min"] < latency["max"]
    assert "µs" in latency["min_text"]


def test_a_question_is_answered_as_the_catalogue_answers_it(asked: Client) -> None:
    limits = {"latency_ms": 0.03}
    found = asked.post("/api/query", {"device": "cpu", "limits": limits}).json()
    offers = CPU.ask(limits)
    assert found["answers"][0]["trial"] == offers.evaluated[0].number
    assert found["answers"][0]["architecture"] == offers.evaluated[0].architecture
    assert (
        found["limits"]
        == [{"metric": "latency_ms", "value": 0.03, "floor": False, "text": "latency at most 30\u00a0µs"}.copy()]
        or found["limits"]
    )
    assert found["answers"][0]["upper"]["latency_ms"] <= 0.03
    assert [p["architecture"] for p in found["predicted"]] == [a.architecture for a in offers.predicted]


def test_limits_have_two_sides(asked: Client) -> None:
    limits = {"latency_ms": {"at_least": 0.03, "at_most": 0.04}}
    found = asked.post("/api/query", {"device": "cpu", "limits": limits}).json()
    assert [limit["floor"] for limit in found["limits"]] == [True, False]
    (answer,) = found["answers"]
    assert 0.03 <= answer["values"]["latency_ms"] <= answer["upper"]["latency_ms"] <= 0.04


def test_a_predicted_network_is_labelled_and_has_an_interval(asked: Client) -> None:
    tightest = float(CPU.evaluated.upper["latency_ms"].min()) * 0.999
    found = asked.post("/api/query", {"device": "cpu", "limits": {"latency_ms": tightest}}).json()
    assert found["answers"] == []
    assert found["infeasible"]["metric"] == "latency_ms"
    (network,) = found["predicted"]
    low, high = network["interval"]
    assert low < network["values"]["accuracy"] < high
    assert re.fullmatch(r"predicted \d+\.\d\d\s% ± 0\.6\spoints, not evaluated", network["label"])


def test_limits_that_nothing_keeps_are_a_conflict_that_tells_the_nearest(asked: Client) -> None:
    answer = asked.post("/api/query", {"device": "pi", "limits": {"latency_ms": 1e-6}})
    told = answer.json()["error"]
    assert (answer.status, told["type"], told["metric"]) == (409, "InfeasibleError", "latency_ms")
    assert told["reachable"] == pytest.approx(float(CATALOGUE["pi"].evaluated.upper["latency_ms"].min()))
    assert told["limits"][0]["value"] == 1e-6


@pytest.mark.parametrize(
    ("question", "status", "told"),
    [
        ({"device": "phone"}, 404, "unknown profiled device 'phone'; known: cpu, pi"),
        ({}, 422, "device: Field required"),
        ({"device": "cpu", "top": 0}, 422, "top"),
        ({"device": "cpu", "top": 101}, 422, "top"),
        ({"device": "cpu", "limit": {}}, 422, "limit: Extra inputs"),
        ({"device": "cpu", "limits": {"latency_ms": "fast"}}, 422, "limits.latency_ms"),
        ({"device": "cpu", "limits": {str(i): 1 for i in range(33)}}, 422, "limits"),
        ({"device": "cpu", "limits": {"latency_ms": {"at_most": 1, "about": 2}}}, 422, "about: Extra inputs"),
        ({"device": "cpu", "limits": {"latency_ms": {}}}, 400, "at_least, at_most or both"),
        ({"device": "cpu", "limits": {"latency_ms": {"at_least": 2, "at_most": 1}}}, 400, "at_least must not be above"),
        ({"device": "cpu", "limits": {"speed": 1}}, 400, "the study has no metric 'speed'"),
        ({"device": "cpu", "metric": "speed"}, 400, "the study has no metric 'speed'"),
    ],
)
def test_a_wrong_question_is_refused_in_words(
    asked: Client, question: dict[str, object], status: int, told: str
) -> None:
    answer = asked.post("/api/query", question)
    assert answer.status == status
    assert told in answer.json()["error"]["message"]


@pytest.mark.parametrize("body", ['{"device": "cpu", "limits": {"latency_ms": NaN}}', "{", "[" * 30_000])
def test_what_is_no_json_is_refused(asked: Client, body: str) -> None:
    answer = asked.send("/api/query", body)
    assert answer.status in (400, 422)
    assert answer.json()["error"]["message"]


def test_the_front_is_the_studys_and_predictions_have_their_own(asked: Client) -> None:
    found = asked.get("/api/front?device=cpu").json()
    costs = [p["cost"] for p in found["front"]]
    accuracies = [p["accuracy"] for p in found["front"]]
    assert costs == sorted(costs)
    assert accuracies == sorted(accuracies)
    assert len(found["evaluated"]) == 40
    assert max(p[1] for p in found["evaluated"]) == accuracies[-1]
    assert all(error > 0 for _, _, error in found["predicted"])
    assert asked.get("/api/front?device=pi").json()["predicted"] == []
    assert asked.get("/api/front?device=cpu&cost=speed").status == 400


def test_a_network_is_told_as_it_is_drawn(asked: Client) -> None:
    network = architecture(CPU)
    found = asked.post("/api/network", {"device": "cpu", "architecture": network}).json()
    drawn = [b["slot"] for level in found["levels"] for b in level["blocks"]]
    assert CPU.space is not None
    assert drawn == [name for name, _ in CPU.space.named_blocks(CPU.evaluated.encodings[0])]
    assert found["input"] == [1, 8, 8]
    wrong = asked.post("/api/network", {"device": "cpu", "architecture": {"depth": 99}})
    assert wrong.status == 400
    assert "depth" in wrong.json()["error"]["message"]


def test_the_openapi_document_names_every_way(asked: Client) -> None:
    document = asked.get("/api/openapi.json").json()
    assert set(document["paths"]) == {
        *("/api/run", "/api/front", "/api/query", "/api/network", "/api/jobs"),
        *("/api/jobs/{name}", "/api/jobs/{name}/events", "/api/jobs/{name}/report"),
    }
    assert document["components"]["schemas"]["Question"]["properties"]["device"]


def test_what_is_not_there_is_told_as_json(asked: Client) -> None:
    for answer, status in (
        (asked.get("/api/nothing"), 404),
        (asked.get("/docs"), 404),
        (asked.ask("PUT", "/api/run"), 405),
    ):
        # a PUT without JSON is refused before it is looked at
        assert answer.status in (status, 415)
        assert answer.json()["error"]["message"]


def test_a_fault_of_ours_is_told_without_its_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("hwnas.serve.app.device_json", broken)
    with running(served(tmp_path)) as url:
        answer = Client(url).get("/api/run")
    assert answer.status == 500
    assert "secret" not in answer.text
    assert answer.json()["error"]["type"] == "RuntimeError"


# ---------------------------------------------------------------- the page


def test_the_page_loads_nothing_from_elsewhere(asked: Client) -> None:
    page = asked.get("/")
    assert page.headers["content-type"].startswith("text/html")
    scripts = ["/page.css", "/page.js", "/chart.js", "/drawing.js", "/jobs.js"]
    texts = [page.text, *(asked.get(name).text for name in scripts)]
    for text in texts:
        assert not [url for url in re.findall(r"https?://[^\s\"'`)]+", text) if "www.w3.org/2000/svg" not in url]
    assert "--int8:" in texts[1]
    assert asked.get("/app.js").status == 404


# ---------------------------------------------------------------- jobs


def submit(client: Client, limits: dict[str, float] | None = None) -> str:
    request = {"device": "cpu", "architecture": architecture(CPU), "limits": limits or {}}
    answer = client.post("/api/jobs", request)
    assert answer.status == 202
    return str(answer.json()["id"])


def test_a_job_deploys_what_was_asked_for(client: Client, tmp_path: Path) -> None:
    job = ended(client, submit(client))
    assert (job["state"], job["error"]) == ("done", "")
    assert job["said"] == [f"network of {len(architecture(CPU))} choices"]
    assert job["result"]["deployment"] == str(tmp_path)
    (tmp_path / "report.html").write_text("<p>the report</p>")
    report = client.get(f"/api/jobs/{job['id']}/report")
    assert "the report" in report.text
    assert "sandbox" in report.headers["content-security-policy"]


def test_a_job_that_fails_tells_why(client: Client) -> None:
    job = ended(client, submit(client, FAILS))
    assert (job["state"], job["error"]) == ("failed", "the network misses a limit when measured")
    assert client.get(f"/api/jobs/{job['id']}/report").status == 400


def test_a_process_that_dies_ends_its_job_and_nothing_else(client: Client) -> None:
    first, second = submit(client, DIES), submit(client)
    job = ended(client, first)
    assert job["state"] == "failed"
    assert "ended with status 245: a fault" in job["error"]
    assert ended(client, second)["state"] == "done"


def test_a_running_job_is_cancelled_and_the_next_one_runs(client: Client) -> None:
    first, second, third = submit(client, HANGS), submit(client), submit(client)
    assert client.get(f"/api/jobs/{second}").json()["state"] == "queued"
    assert client.delete(f"/api/jobs/{third}").json()["state"] == "cancelled"
    while not client.get(f"/api/jobs/{first}").json()["progress"]:
        time.sleep(0.02)
    client.delete(f"/api/jobs/{first}")
    assert ended(client, first)["state"] == "cancelled"
    assert ended(client, second)["state"] == "done"
    assert [job["id"] for job in client.get("/api/jobs").json()["jobs"]] == [third, second, first]


def test_a_job_that_is_just_being_started_is_cancelled_too(client: Client) -> None:
    job = submit(client, HANGS)
    while client.get(f"/api/jobs/{job}").json()["state"] == "queued":
        pass
    client.delete(f"/api/jobs/{job}")
    assert ended(client, job)["state"] == "cancelled"


def test_a_job_is_followed_until_it_ends(client: Client) -> None:
    stream = client.get(f"/api/jobs/{submit(client)}/events")
    assert stream.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in stream.text.splitlines() if line.startswith("data: ")]
    assert events[-1]["state"] == "done"
    states = [e["state"] for e in events]
    assert states == sorted(states, key=["queued", "running", "done"].index)
    assert any(e["progress"].get("done") for e in events)


def test_a_job_that_is_not_there_is_told(client: Client) -> None:
    for answer in (client.get("/api/jobs/x"), client.delete("/api/jobs/x"), client.get("/api/jobs/x/events")):
        assert answer.status == 404
        assert "there is no job 'x'" in answer.json()["error"]["message"]


def test_what_is_no_network_is_refused_before_it_waits(client: Client) -> None:
    answer = client.post("/api/jobs", {"device": "cpu", "architecture": {}})
    assert (answer.status, answer.json()["error"]["type"]) == (400, "SpaceError")
    assert client.get("/api/jobs").json()["jobs"] == []


def test_only_so_many_wait(client: Client) -> None:
    running = submit(client, HANGS)
    while client.get(f"/api/jobs/{running}").json()["state"] != "running":
        time.sleep(0.01)
    waiting = [submit(client) for _ in range(16)]
    refused = client.post("/api/jobs", {"device": "cpu", "architecture": architecture(CPU)})
    assert (refused.status, "16 jobs wait already" in refused.json()["error"]["message"]) == (429, True)
    for job in (*waiting, running):
        client.delete(f"/api/jobs/{job}")
    assert ended(client, running)["state"] == "cancelled"


def test_the_end_of_the_server_ends_its_jobs(tmp_path: Path) -> None:
    what = served(tmp_path)
    with running(what) as url:
        submit(Client(url), HANGS)
        time.sleep(0.2)
    assert [job.state for job in what.jobs.all] == ["cancelled"]
