"""Bad plugins installed beside good ones: each becomes one row, nothing crashes, the good ones run."""

from __future__ import annotations

import pytest

HEAD = """
    from fewstep.plugins import RecipeSpec, hookimpl
    PROTOCOL = (0, 1)
"""
RECIPE = 'RecipeSpec(name="{name}/one", summary="One", config="json:JSONDecoder", build="json:loads")'

BAD = {
    "bad-raises": "raise RuntimeError('no luck today')",
    "bad-library": "import a_library_that_nobody_has",
    "bad-future": "PROTOCOL = (2, 0)",
    "bad-silent": "x = 1",
    "bad-hook-name": HEAD + "    @hookimpl\n    def fewstep_recepies():\n        return ()\n",
    "bad-argument": HEAD + "    @hookimpl\n    def fewstep_recipes(color):\n        return ()\n",
    "bad-unmarked": HEAD + "    def fewstep_recipes():\n        return ()\n",
    "bad-hook-raises": HEAD + "    @hookimpl\n    def fewstep_recipes():\n        raise KeyError('gone')\n",
    "bad-type": HEAD + "    @hookimpl\n    def fewstep_recipes():\n        return ['a recipe']\n",
    "bad-exit": "raise SystemExit(3)",
    "bad-half": HEAD
    + f"    @hookimpl\n    def fewstep_recipes():\n        yield {RECIPE}\n        raise OSError('half')\n",
    "bad-twice": HEAD + f"    @hookimpl\n    def fewstep_recipes():\n        return [{RECIPE}, {RECIPE}]\n",
    "bad-thief": HEAD
    + "    @hookimpl\n    def fewstep_recipes():\n"
    + '        return [RecipeSpec(name="text/didi", summary="", config="json:loads", build="json:loads")]\n',
    "bad-reference": HEAD
    + "    @hookimpl\n    def fewstep_recipes():\n"
    + '        return [RecipeSpec(name="{name}/one", summary="", config="json", build="json:loads")]\n',
    "bad-unspeakable": """
        class Worse(Exception):
            def __str__(self):
                raise ValueError("even this")
        raise Worse
    """,
}
"""Distribution (and plugin) name -> source of its module."""

REASONS = {
    "bad-raises": "RuntimeError: no luck today",
    "bad-library": "ModuleNotFoundError: No module named 'a_library_that_nobody_has'; needs pip install \"bad-library\"",
    "bad-future": "speaks protocol 2.0, this core speaks 0.1",
    "bad-silent": "states no protocol",
    "bad-hook-name": "unknown hook 'fewstep_recepies'",
    "bad-argument": "{'color'} are declared in the hookimpl but can not be found in the hookspec",
    "bad-unmarked": "fewstep_recipes is not marked; put @hookimpl above it",
    "bad-hook-raises": "KeyError: 'gone'",
    "bad-type": "fewstep_recipes gave str, expected RecipeSpec",
    "bad-exit": "SystemExit: 3",
    "bad-half": "OSError: half",
    "bad-twice": "offers 'bad-twice/one' twice",
    "bad-thief": "offers 'text/didi', but everything of this plugin is named 'bad-thief/...'",
    "bad-reference": "code is named as 'module:attr', got 'json'",
    "bad-unspeakable": "Worse",
}
LOUD = """
    import os, subprocess, sys
    print("hello from", __name__)
    print("a warning", file=sys.stderr)
    sys.__stdout__.write("past the redirect\\n")
    subprocess.run([sys.executable, "-c", "print('from a child')"])
    os.write(1, b"from below\\n")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory, install, good):
    """A place where every bad plugin and three good ones are installed."""
    site = tmp_path_factory.mktemp("site")
    for name, source in BAD.items():
        requires = ["a-library-that-nobody-has>=2"] if name == "bad-library" else []
        install(site, name, source, requires=requires)
    install(site, "aardvark", good)
    install(site, "zebra", good)
    install(site, "loud", LOUD + good)
    install(site, "hijacker", good, name="audio")
    return site


@pytest.fixture(scope="module")
def listing(site, fewstep):
    """``fewstep plugins --json`` in that place."""
    return fewstep("plugins", "--json", sites=[site])


@pytest.mark.parametrize("name", BAD)
def test_a_bad_plugin_is_one_row_that_says_why(listing, name):
    row = listing.rows[name]
    assert row["status"] == ("incompatible" if name in ("bad-future", "bad-silent") else "broken")
    assert REASONS[name] in row["reason"]
    assert row["recipes"] == []
    assert sum(one["distribution"] == name for one in listing.data["plugins"]) == 1


@pytest.mark.parametrize("name", ["aardvark", "zebra", "loud"])
def test_good_plugins_beside_bad_ones_are_loaded(listing, name):
    assert listing.rows[name]["status"] == "loaded"
    assert listing.rows[name]["recipes"] == [f"{name}/one"]


def test_the_five_of_the_house_stay_up(listing):
    assert {listing.rows[name]["status"] for name in ("audio", "video", "3d", "protein", "text")} == {
        "loaded"
    }


def test_a_broken_plugin_makes_the_listing_end_with_one(listing):
    assert listing.code == 1


def test_only_good_plugins_end_the_listing_with_zero(tmp_path, install, good, fewstep):
    assert fewstep("plugins", sites=[install(tmp_path, "zebra", good)]).code == 0


def test_what_a_plugin_prints_is_kept_and_not_shown_on_our_output(listing):
    printed = listing.rows["loud"]["printed"]
    expected = {"hello from loud_plugin", "a warning", "past the redirect", "from a child", "from below"}
    assert set(printed) == expected
    assert "hello" not in listing.err


def test_a_foreign_plugin_cannot_take_the_name_of_ours(listing):
    row = listing.rows["hijacker"]
    assert row["name"] == "audio"
    assert row["status"] == "broken"
    assert "the name 'audio' of hijacker is held by fewstep" in row["reason"]


def test_recipes_of_good_plugins_are_listed_and_the_broken_are_told(site, fewstep):
    answer = fewstep("recipes", sites=[site])
    assert answer.code == 0
    assert "zebra/one" in answer.out
    assert "bad-raises: RuntimeError: no luck today" in answer.out
    assert "bad-half/one" not in answer.out


def test_strict_raises_with_the_plugins_own_traceback(tmp_path, install, fewstep):
    answer = fewstep(
        "plugins", sites=[install(tmp_path, "bad-raises", BAD["bad-raises"])], FEWSTEP_STRICT="1"
    )
    assert answer.code == 1
    assert 'bad_raises_plugin.py", line 1' in answer.err
    assert "RuntimeError: no luck today" in answer.err


def test_ctrl_c_during_an_import_is_not_the_plugins_affair(tmp_path, install, fewstep):
    answer = fewstep("plugins", sites=[install(tmp_path, "interrupted", "raise KeyboardInterrupt")])
    assert answer.code == 130
    assert answer.out == ""


def test_a_missing_plugin_file_is_a_row(tmp_path, install, good, fewstep):
    install(tmp_path, "gone", good)
    (tmp_path / "gone_plugin.py").unlink()
    assert (
        "No module named 'gone_plugin'"
        in fewstep("plugins", "--json", sites=[tmp_path]).rows["gone"]["reason"]
    )


def test_an_unreadable_entry_point_file_is_a_row(tmp_path, install, good, fewstep):
    install(tmp_path, "garbled", good)
    (tmp_path / "garbled-1.0.dist-info" / "entry_points.txt").write_text("[fewstep.plugins]\n= = =\n[[\n")
    row = fewstep("plugins", "--json", sites=[tmp_path]).rows["garbled"]
    assert row["status"] == "broken"
