"""The served page in a real browser: text is typed, two players come, a long text streams, mistakes are shown."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fewstep.runs import Run

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (BROWSER and DRIVER), reason="needs Chromium and its driver (apt: chromium chromium-driver)"
    ),
]


@pytest.fixture(scope="module")
def address(speaking: Run) -> Iterator[str]:
    pytest.importorskip("uvicorn")
    words = [sys.executable, "-u", "-m", "fewstep.cli", "serve", str(speaking.folder), "--port", "0"]
    cache = speaking.folder.parents[3] / "cache"
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env={**os.environ, "XDG_CACHE_HOME": str(cache)}
    )
    assert process.stdout is not None
    found = next((m[0] for line in process.stdout if (m := re.search(r"http://[\d.:]+", line))), "")
    yield found
    process.terminate()
    process.wait(20)


@pytest.fixture(scope="module")
def browser(address: str) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    flags = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1000,1600",
    )
    for flag in (*flags, "--autoplay-policy=no-user-gesture-required"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.get(address)
    yield driver
    driver.quit()


def until(found: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (value := found()) and time.monotonic() < end:
        time.sleep(0.05)
    return value


def fill(browser: Any, name: str, value: str) -> None:
    control = browser.find_element("id", f"o-{name}")
    control.clear()
    control.send_keys(value)


def test_a_typed_text_is_heard_from_teacher_and_student(browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    fill(browser, "text", "Good morning.")
    # By keyboard alone: Ctrl+Enter in the text draws.
    browser.find_element("id", "o-text").send_keys(Keys.CONTROL, Keys.ENTER)
    players = until(lambda: browser.find_elements("css selector", "#result audio"))
    assert [p.get_attribute("aria-label") for p in players] == [
        "teacher: “Good morning.”",
        "student: “Good morning.”",
    ]
    lengths = browser.execute_async_script(
        "const done = arguments[0], all = [...document.querySelectorAll('#result audio')];"
        "const length = a => new Promise(told => { if (a.readyState) told(a.duration);"
        " else { a.onloadedmetadata = () => told(a.duration); a.load(); } });"
        "Promise.all(all.map(length)).then(done)"
    )
    assert lengths[0] == lengths[1] > 0.1
    assert len(browser.find_elements("css selector", "#result img")) == 2
    rows = [row.text.split()[:2] for row in browser.find_elements("css selector", "#costs tbody tr")]
    assert rows == [["teacher", "5"], ["student", "1"]]
    assert until(lambda: "Done in" in browser.find_element("id", "status").text)
    assert browser.get_log("browser") == []


def test_mistakes_stand_beside_their_controls(browser: Any) -> None:
    fill(browser, "text", "Gru\u00dfe")
    fill(browser, "pace", "9")
    browser.find_element("id", "draw").click()
    assert until(lambda: "unknown characters" in browser.find_element("id", "p-text").text)
    assert "less than or equal to 2" in browser.find_element("id", "p-pace").text
    assert browser.switch_to.active_element.get_attribute("id") == "o-text"
    assert browser.find_element("id", "o-pace").get_attribute("aria-invalid") == "true"
    browser.get_log("browser")  # the refusal itself


def test_a_long_text_plays_before_it_is_done(browser: Any) -> None:
    fill(browser, "pace", "1")
    browser.execute_script(
        "document.getElementById('o-text').value = 'This is a sentence that is said again and again. '.repeat(200)"
    )
    browser.find_element("id", "stream").click()
    assert until(lambda: "It began after" in browser.find_element("id", "status").text)
    played = "return document.getElementById('streamed').currentTime"
    assert until(lambda: browser.execute_script(played) > 1.0)
    assert not browser.execute_script("return document.getElementById('streamed').ended")


def test_every_control_has_a_label_and_the_keyboard_reaches_it(browser: Any) -> None:
    nameless = browser.execute_script(
        "return [...document.querySelectorAll('input, textarea, select')].filter(e => !e.labels.length).map(e => e.id)"
    )
    assert nameless == []
    missed = browser.execute_script(
        "return [...document.querySelectorAll('input, textarea, select, button, audio')]"
        ".filter(e => { e.focus(); return document.activeElement !== e }).map(e => e.outerHTML.slice(0, 80))"
    )
    assert missed == []


def test_the_page_fits_a_phone(browser: Any, tmp_path: Path) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True},
    )
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
