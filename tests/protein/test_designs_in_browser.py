"""The table of designs in a real browser: sorts by keyboard, filters, turns a molecule, and asks nothing of a network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from fewstep_protein.designs.table import write_table
from fewstep_protein.metrics.chains import describe
from fewstep_protein.metrics.secondary import secondary_structure
from fewstep_protein.panels.traces import flat_trace, letters
from fewstep_protein.structures.segments import structures

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="needs Chromium and its driver (apt: chromium chromium-driver)"
)
LENGTHS = (30, 24, 60, 24, 45, 36)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    folder = tmp_path_factory.mktemp("designs")
    write_table(folder, [record(i, length) for i, length in enumerate(LENGTHS)])
    settings = webdriver.ChromeOptions()
    settings.binary_location = str(BROWSER)
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        settings.add_argument(flag)
    settings.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=settings, service=Service(DRIVER))
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True},
    )
    driver.get((folder / "designs.html").as_uri())
    yield driver
    driver.quit()


def record(index: int, length: int) -> dict[str, Any]:
    chain = structures()[index].coordinates[:length]
    numbers = describe(chain)
    if index == 4:
        numbers["helix"] = None
    return {
        "name": f"design_{index:06d}",
        "index": index,
        "passed": length < 60,
        "reason": "" if length < 60 else "clashes 0.3 > 0.1",
        "files": [f"design_{index:06d}.pdb"],
        "numbers": numbers,
        "about": {"recipe": "x", "contender": "student", "version": "0"},
        "structure": letters(secondary_structure([chain])[0]),
        "trace": flat_trace(chain),
    }


def shown(browser: Any) -> list[int]:
    """Numbers of the designs on the page, from top to bottom."""
    names = browser.execute_script(
        "return [...document.querySelectorAll('#designs tbody tr:not([hidden]) th')].map(t => t.firstChild.data)"
    )
    return [int(name.removeprefix("design_")) for name in names]


def press(browser: Any, column: str) -> None:
    """Enter on the heading of a column."""
    from selenium.webdriver.common.keys import Keys

    browser.find_element("css selector", f"th[data-column={column}] button").send_keys(Keys.ENTER)


def typed(browser: Any, text: str) -> list[int]:
    box = browser.find_element("id", "filter")
    box.clear()
    box.send_keys(text)
    return shown(browser)


def canvas(browser: Any) -> tuple[str, str, str]:
    """What the open molecule says, its picture, and that of an empty canvas."""
    label, picture, empty = browser.execute_script(
        "const c = document.querySelector('dialog[open] canvas'), none = document.createElement('canvas');"
        "none.width = c.width; none.height = c.height;"
        "return [c.getAttribute('aria-label'), c.toDataURL(), none.toDataURL()]"
    )
    return label, picture, empty


def test_designs_that_pass_stand_first(browser: Any) -> None:
    assert shown(browser) == [0, 1, 3, 4, 5, 2]


def test_a_heading_sorts_by_its_column_both_ways_from_the_keyboard(browser: Any) -> None:
    press(browser, "length")
    assert [LENGTHS[i] for i in shown(browser)] == sorted(LENGTHS)
    assert shown(browser)[:2] == [1, 3]  # equal ones keep their order
    press(browser, "length")
    assert [LENGTHS[i] for i in shown(browser)] == sorted(LENGTHS, reverse=True)
    head = browser.find_element("css selector", "th[data-column=length]")
    assert head.get_attribute("aria-sort") == "descending"


@pytest.mark.parametrize("times", [1, 2])
def test_a_design_without_the_number_comes_last_whichever_way(browser: Any, times: int) -> None:
    press(browser, "helix")
    assert shown(browser)[-1] == 4, times


def test_the_filter_knows_bounds_words_and_verdicts(browser: Any) -> None:
    assert sorted(typed(browser, "length>30 length<=45")) == [4, 5]
    assert sorted(typed(browser, "length=24")) == [1, 3]
    assert typed(browser, "clashes") == [2]
    assert typed(browser, "000003") == [3]
    assert len(typed(browser, "length>")) == 6  # still being typed
    assert len(typed(browser, "helix>=0")) == 5  # the unknown one is in no bound
    assert browser.find_element("id", "told").text == "5 of 6 shown"
    assert len(typed(browser, " ")) == 6


def test_only_those_that_pass_can_be_shown(browser: Any) -> None:
    box = browser.find_element("id", "passing")
    box.click()
    assert sorted(shown(browser)) == [0, 1, 3, 4, 5]
    box.click()
    assert len(shown(browser)) == 6


def test_a_picture_opens_the_molecule_and_escape_closes_it(browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.find_element("css selector", "button.look").send_keys(Keys.ENTER)
    label, picture, empty = canvas(browser)
    assert "residues" in label
    assert picture != empty
    toggle = browser.find_element("css selector", "dialog[open] button[aria-pressed]")
    assert (toggle.text, toggle.get_attribute("aria-pressed")) == ("helices and strands", "true")
    toggle.click()
    assert toggle.get_attribute("aria-pressed") == "false"
    assert canvas(browser)[1] not in (picture, empty)
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not browser.find_elements("css selector", "dialog[open]")


def test_the_page_fits_a_phone(browser: Any) -> None:
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390


def test_nothing_is_asked_of_a_network_and_the_console_is_silent(browser: Any) -> None:
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert {url.partition(":")[0] for url in asked} <= {"file", "data", "blob"}
    assert browser.get_log("browser") == []
