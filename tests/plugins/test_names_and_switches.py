"""Who holds a name, and what the three switches do."""

from __future__ import annotations

import pytest


@pytest.fixture
def rivals(tmp_path, install, good):
    """Two distributions in two places; both bring a plugin called circle."""
    first = install(tmp_path / "one", "alpha-circle", good, name="circle")
    second = install(tmp_path / "two", "beta-circle", good, name="circle")
    return first, second


def test_two_plugins_of_one_name_list_the_same_in_both_orders(rivals, fewstep):
    there = fewstep("plugins", "--json", sites=rivals)
    back = fewstep("plugins", "--json", sites=tuple(reversed(rivals)))
    assert there.out == back.out
    assert there.rows["alpha-circle"]["status"] == "loaded"
    assert "held by alpha-circle" in there.rows["beta-circle"]["reason"]


def test_switching_the_holder_off_frees_its_name(rivals, fewstep):
    rows = fewstep("plugins", "--json", sites=rivals, FEWSTEP_DISABLE="alpha-circle").rows
    assert rows["alpha-circle"]["status"] == "disabled"
    assert rows["beta-circle"]["recipes"] == ["circle/one"]


def test_a_broken_holder_keeps_its_name(tmp_path, install, good, fewstep):
    install(tmp_path, "alpha-circle", "raise RuntimeError", name="circle")
    install(tmp_path, "beta-circle", good, name="circle")
    rows = fewstep("plugins", "--json", sites=[tmp_path]).rows
    assert rows["beta-circle"]["status"] == "broken"
    assert rows["beta-circle"]["recipes"] == []


def test_a_distribution_that_is_on_the_path_twice_counts_once(tmp_path, install, good, fewstep):
    sites = [
        install(tmp_path / place, "circle", good, version=version)
        for place, version in (("a", "2"), ("b", "1"))
    ]
    rows = [
        row for row in fewstep("plugins", "--json", sites=sites).data["plugins"] if row["name"] == "circle"
    ]
    assert [row["version"] for row in rows] == ["2"]


@pytest.mark.parametrize("name", ["Circle", "cir cle", "circle.square"])
def test_a_plugin_name_that_is_hard_to_type_is_refused(tmp_path, install, good, fewstep, name):
    row = fewstep("plugins", "--json", sites=[install(tmp_path, "circle", good, name=name)]).rows["circle"]
    assert "a plugin's name is lower case letters" in row["reason"]


def test_only_the_named_plugins_are_loaded(tmp_path, install, good, fewstep):
    site = install(tmp_path, "circle", good)
    rows = fewstep("plugins", "--json", sites=[site], FEWSTEP_PLUGINS="circle").rows
    assert [name for name, row in rows.items() if row["status"] == "loaded"] == ["circle"]


def test_an_empty_list_of_plugins_loads_none(fewstep):
    answer = fewstep("recipes", "--json", FEWSTEP_PLUGINS="")
    assert answer.data == []


def test_a_plugin_that_is_switched_off_is_not_imported(tmp_path, install, fewstep):
    site = install(tmp_path, "circle", "raise SystemExit('imported')")
    answer = fewstep("plugins", "--json", sites=[site], FEWSTEP_DISABLE="circle")
    assert answer.code == 0
    assert answer.rows["circle"]["reason"] == "named in FEWSTEP_DISABLE"


def test_a_slip_of_the_pen_in_a_switch_is_told(fewstep):
    notes = fewstep("plugins", "--json", FEWSTEP_DISABLE="auido").data["notes"]
    assert notes == ["FEWSTEP_DISABLE names 'auido', which is no installed plugin"]


def test_without_its_own_entry_points_the_core_has_no_recipes():
    from importlib import metadata

    from fewstep.plugins.loader import discover

    # The ring is a plugin of the core's own tests; a process that ran them has it on its path.
    foreign = [one for one in metadata.distributions() if one.name not in ("fewstep", "fewstep-ring")]
    assert discover(foreign, environ={}).recipes == ()


def test_an_unknown_plugin_is_answered_with_the_nearest_name(fewstep):
    answer = fewstep("recipes", "--plugin", "adio")
    assert answer.code == 2
    assert "no plugin 'adio'; did you mean 'audio'?" in answer.err


def test_an_unknown_recipe_is_answered_with_the_nearest_name_and_what_did_not_load(
    tmp_path, install, good, ask
):
    install(tmp_path, "circle", good)
    install(tmp_path, "future", "PROTOCOL = (1, 0)")
    code = "from fewstep.plugins.loader import registry; registry().recipe('circel/one')"
    answer = ask("-c", code, sites=[tmp_path])
    assert "no recipe 'circel/one'; did you mean 'circle/one'?" in answer.err
    assert "future: incompatible (speaks protocol 1.0, this core speaks 0.1)" in answer.err


def test_a_recipe_without_its_prefix_is_answered_with_the_full_name(tmp_path, install, good, ask):
    code = "from fewstep.plugins.loader import registry; registry().recipe('one')"
    answer = ask("-c", code, sites=[install(tmp_path, "circle", good)])
    assert "no recipe 'one'; did you mean 'circle/one'?" in answer.err
