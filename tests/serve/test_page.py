"""The page, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.browser import CHROMIUM, Browser, opened
from tests.serve.made_up import DIES, HANGS, Client, made_up_catalogue, running, served

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
TOKEN = "a-token-of-some-length"
READY = "document.querySelector('#network .block') && document.querySelector('#chart .front')"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with opened(tmp_path_factory.mktemp("profile")) as made:
        yield made


@pytest.fixture
def url(tmp_path: Path, browser: Browser) -> Iterator[str]:
    (tmp_path / "report.html").write_text("<p>a report</p>")
    with running(served(tmp_path)) as found:
        browser.faults.clear()
        browser.open(found)
        browser.until(READY)
        yield found
        assert browser.faults == []
        browser.open("about:blank")


def move(browser: Browser, metric: str, step: int) -> None:
    """Move a slider, as a hand would, but at once."""
    script = f"(() => {{ const i = document.getElementById('limit-{metric}'); i.value = {step};"
    browser.ask(f"{script} i.dispatchEvent(new Event('input')); }})()")


def test_a_slider_changes_the_answer_to_that_of_the_catalogue(browser: Browser, url: str) -> None:
    cpu = made_up_catalogue()["cpu"]
    before = browser.text("#verdict")
    move(browser, "latency_ms", 500)
    browser.until(f"document.querySelector('#verdict').innerText !== {json.dumps(before)}")
    browser.until("document.querySelector('output[for=limit-latency_ms]').innerText.startsWith('at most')")
    low = min(float(s.upper["latency_ms"].min()) for s in (cpu.evaluated, cpu.predicted) if s is not None)
    high = max(float(s.upper["latency_ms"].max()) for s in (cpu.evaluated, cpu.predicted) if s is not None)
    answer = cpu.ask({"latency_ms": low * (high / low) ** 0.5}).evaluated[0]
    assert f"Trial {answer.number} " in browser.text("#why")
    assert browser.ask("document.querySelectorAll('#chart .limit').length") == 1
    move(browser, "latency_ms", 1000)
    browser.until(f"document.querySelector('#verdict').innerText === {json.dumps(before)}")
    assert browser.ask("document.querySelectorAll('#chart .limit').length") == 0


def test_what_is_predicted_is_labelled_and_what_nothing_keeps_is_told(browser: Browser, url: str) -> None:
    move(browser, "latency_ms", 0)
    browser.until("document.querySelector('#verdict .tag')")
    assert "predicted, not evaluated" in browser.text("#verdict")
    assert "95 % interval" in browser.text("#values").replace("\u00a0", " ")
    assert "Of the evaluated networks: no network" in browser.text("#why")
    browser.ask("document.querySelector('#device').value = 'pi'")
    browser.ask("document.querySelector('#device').dispatchEvent(new Event('change'))")
    browser.until("document.querySelector('#device-note').innerText.includes('40 evaluated networks;')")
    move(browser, "latency_ms", 0)
    move(browser, "size_bytes", 0)
    # the smallest latency and the smallest size of this device are of one network
    browser.until("document.querySelector('#verdict').innerText.includes('accuracy')")
    # waited for: the answer before this one had a verdict too
    browser.until("document.querySelectorAll('#chart .predicted').length === 0")


def test_a_network_is_deployed_and_its_job_is_shown_live(browser: Browser, url: str) -> None:
    browser.click("#deploy")
    browser.until("document.querySelector('#jobs li[data-state=done]')")
    assert "size: 11 kB" in browser.text("#jobs li")
    assert "Open its report" in browser.text("#jobs li")


def test_jobs_are_cancelled_and_failures_told(browser: Browser, url: str) -> None:
    client, architecture = Client(url), made_up_catalogue()["cpu"].evaluated.architecture_at(0)
    for limits in (HANGS, DIES):
        client.post("/api/jobs", {"device": "cpu", "architecture": architecture, "limits": limits})
    # a page that is opened anew finds them
    browser.open(f"{url}/?again")
    browser.until("document.querySelector('#jobs li[data-state=running] button')")
    browser.until("document.querySelector('#jobs li[data-state=queued]')")
    browser.click("#jobs li[data-state=running] button")
    browser.until("document.querySelector('#jobs li[data-state=cancelled]')")
    browser.until("document.querySelector('#jobs li[data-state=failed]')")
    assert "ended with status" in browser.text("#jobs li[data-state=failed] .error")


def test_it_fits_a_telephone(browser: Browser, url: str) -> None:
    browser.look(width=400, height=900)
    assert browser.ask("document.documentElement.scrollWidth") <= 400
    browser.look(width=1280, height=900, dark=True)
    assert browser.ask("getComputedStyle(document.body).backgroundColor") == "rgb(15, 19, 24)"


def test_the_token_is_taken_from_the_address_and_asked_for_without(browser: Browser, tmp_path: Path) -> None:
    with running(served(tmp_path), token=TOKEN) as found:
        browser.open(found)
        browser.until("document.querySelector('#token-form')?.hidden === false")
        assert "the token is missing or wrong" in browser.text("#problem")
        browser.ask(f"document.querySelector('#token').value = '{TOKEN}'")
        browser.click("#token-form button")
        browser.until(READY)
        browser.ask("sessionStorage.clear()")
        browser.open("about:blank")
        browser.open(f"{found}/#token={TOKEN}")
        browser.until(READY)
        assert browser.ask("location.hash") == ""
        browser.open("about:blank")
