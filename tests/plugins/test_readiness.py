"""Whether something is missing is told from metadata, with the line that mends it."""

from __future__ import annotations

import pytest

WITH_EXTRA = """
    from fewstep.plugins import CommandSpec, ComponentSpec, RecipeSpec, hookimpl
    PROTOCOL = (0, 1)

    @hookimpl
    def fewstep_recipes():
        return [RecipeSpec(name="{name}/one", summary="", config="json:loads", build="json:loads", extra="EXTRA")]
"""


@pytest.fixture
def row(tmp_path, install, fewstep):
    """The row of a foreign plugin whose recipe needs the extra ``draw``."""

    def row(*requires: str, extra: str = "draw", extras: tuple[str, ...] = ("draw", "ink")):
        source = WITH_EXTRA.replace("EXTRA", extra)
        install(tmp_path, "circle", source, requires=requires, extras=extras)
        return fewstep("plugins", "--json", sites=[tmp_path]).rows["circle"]

    return row


def test_an_absent_library_is_named_with_the_line_that_installs_it(row):
    told = row('no-such-library>=1.84; extra == "draw"')
    assert told["install"] == 'pip install "circle[draw]"'
    assert told["needs"] == ["no-such-library>=1.84 (absent)"]


def test_a_version_that_does_not_fit_is_told_with_the_one_that_is_there(row):
    from importlib.metadata import version

    assert row('pluggy<1; extra == "draw"')["needs"] == [f"pluggy<1 (have {version('pluggy')})"]


def test_what_is_installed_and_fits_is_ready(row):
    told = row('pluggy>=1; extra == "draw"')
    assert told["ready"] is True
    assert told["install"] == ""


def test_another_extra_and_another_platform_do_not_count(row):
    assert row('no-such-library; extra == "ink"', 'nor-this; sys_platform == "plan9"')["ready"] is True


def test_extras_named_inside_extras_are_followed(row):
    told = row('circle[ink]; extra == "draw"', 'no-such-library; extra == "ink"')
    assert told["needs"] == ["no-such-library (absent)"]


def test_extras_that_name_each_other_come_to_an_end(row):
    assert row('circle[ink]; extra == "draw"', 'circle[draw]; extra == "ink"')["ready"] is True


def test_an_extra_that_the_distribution_does_not_offer_is_a_problem_of_the_plugin(row):
    assert row(extra="paint")["problem"] == "circle has no extra 'paint' (it has: draw, ink)"


def test_the_distribution_name_counts_and_not_the_module_name():
    from fewstep.plugins.readiness import readiness

    needs = {str(one.requirement).split(">")[0] for one in readiness("fewstep", "nerfstudio").missing}
    assert needs <= {"nerfstudio==1.1.5", "nuscenes-devkit<1.2"}


def test_using_a_recipe_that_lacks_something_says_what_to_type(tmp_path, install, ask):
    requires = ['no-such-library>=2; extra == "draw"']
    install(tmp_path, "circle", WITH_EXTRA.replace("EXTRA", "draw"), requires=requires, extras=["draw"])
    code = "from fewstep.plugins.loader import registry; registry().recipe('circle/one').builder()"
    answer = ask("-c", code, sites=[tmp_path])
    assert "recipe 'circle/one' needs no-such-library>=2 (absent)" in answer.err
    assert 'pip install "circle[draw]"' in answer.err


def test_a_recipe_that_names_code_that_is_not_there_says_whose_fault_it_is(tmp_path, install, good, ask):
    install(tmp_path, "circle", good.replace("json:loads", "json:lods"))
    code = "from fewstep.plugins.loader import registry; registry().recipe('circle/one').builder()"
    assert (
        "recipe 'circle/one' names 'json:lods', which cannot be imported"
        in ask("-c", code, sites=[tmp_path]).err
    )


def test_install_lines_are_never_wrapped(tmp_path, install, fewstep):
    requires = [f'no-such-library-with-a-long-name-{index}; extra == "draw"' for index in range(9)]
    install(tmp_path, "circle", WITH_EXTRA.replace("EXTRA", "draw"), requires=requires, extras=["draw"])
    out = fewstep("plugins", sites=[tmp_path], COLUMNS="40").out
    line = next(line for line in out.splitlines() if "pip install" in line and "circle" in line)
    assert line.startswith('  pip install "circle[draw]"    # circle needs no-such')
    assert "name-8 (absent)" in line
