"""The report in a real browser: media are there, nothing is asked of a network, and nothing is said on the console."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fewstep

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(
        not (BROWSER and DRIVER), reason="needs Chromium and its driver (apt: chromium chromium-driver)"
    ),
    pytest.mark.usefixtures("ring"),
]


@pytest.fixture(scope="module")
def page(ring: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    return fewstep.run("ring/points", profile="tiny", out=out, quiet=True).folder / "report.html"


@pytest.fixture(scope="module")
def browser(page: Path) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True},
    )
    driver.get(page.as_uri())
    yield driver
    driver.quit()


def test_nothing_is_asked_of_a_network_and_the_console_is_silent(browser: Any) -> None:
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert {url.partition(":")[0] for url in asked} <= {"file", "data", "blob"}
    assert browser.get_log("browser") == []


def test_a_request_that_a_panel_tries_is_refused(browser: Any) -> None:
    found = browser.execute_async_script(
        "const done = arguments[0]; fetch('http://127.0.0.1:9/').then(() => done('sent'), () => done('refused'))"
    )
    assert found == "refused"
    assert "Content Security Policy" in str(browser.get_log("browser"))


def test_pictures_and_players_are_there_and_hold_something(browser: Any) -> None:
    widths = browser.execute_async_script(
        "const done = arguments[0], all = [...document.images]; all.forEach(i => i.loading = 'eager');"
        "Promise.all(all.map(i => i.decode())).then(() => done(all.map(i => i.naturalWidth)))"
    )
    assert widths == [48, 48, 48]
    length = browser.execute_async_script(
        "const done = arguments[0], a = document.querySelector('audio');"
        "a.readyState ? done(a.duration) : (a.onloadedmetadata = () => done(a.duration), a.load())"
    )
    assert length == pytest.approx(0.5)


def test_the_page_fits_a_phone(browser: Any) -> None:
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390


def test_the_keyboard_reaches_everything(browser: Any) -> None:
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    seen = browser.execute_script(
        "return [...document.querySelectorAll('a[href], audio[controls], summary, [tabindex=\"0\"]')]"
        ".filter(e => { e.focus(); return document.activeElement !== e }).map(e => e.outerHTML.slice(0, 80))"
    )
    assert seen == []
    browser.execute_script("document.querySelector('summary').focus()")
    browser.switch_to.active_element.send_keys("\n")
    assert not browser.execute_script("return document.querySelector('details').open")


def test_every_picture_and_player_has_a_name(browser: Any) -> None:
    nameless = browser.execute_script(
        "return [...document.querySelectorAll('img, audio, video, svg, canvas')]"
        ".filter(e => !(e.alt || e.getAttribute('aria-label'))).length"
    )
    assert nameless == 0


def test_the_page_follows_a_dark_scheme(browser: Any) -> None:
    def paper(scheme: str) -> str:
        feature = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})
        color: str = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        return color

    assert paper("dark") == "rgb(20, 23, 26)"
    assert paper("light") == "rgb(255, 255, 255)"
