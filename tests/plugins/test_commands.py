"""The listing commands: light, quick, fit for people and scripts; and commands that plugins bring."""

from __future__ import annotations

import time

import pytest

LIGHT = """
import sys
from fewstep.cli import main
sys.argv = ["fewstep", *{arguments}]
try:
    main()
except SystemExit as end:
    assert end.code in (0, None), end.code
heavy = {{"torch", "numpy", "jinja2"}} & set(sys.modules)
assert not heavy, heavy
"""
COMMANDS = """
    from fewstep.plugins import CommandSpec, hookimpl
    PROTOCOL = (0, 1)

    def plot(radius: float = 1.0):
        print("a circle of radius", radius)

    @hookimpl
    def fewstep_commands():
        yield CommandSpec(name="circle/plot", summary="Plot a circle", target="circle_plugin:plot")
        yield CommandSpec(name="circle/gone", summary="Gone", target="circle_plugin:gone")
        yield CommandSpec(name="circle/ink", summary="Ink", target="circle_plugin:plot", extra="ink")
"""


@pytest.fixture(scope="module")
def circle(tmp_path_factory, install):
    site = tmp_path_factory.mktemp("circle")
    return install(site, "circle", COMMANDS, requires=['no-such-library; extra == "ink"'], extras=["ink"])


@pytest.mark.parametrize(
    "arguments", [["plugins"], ["plugins", "--json"], ["recipes"], ["recipes", "--json"], ["--help"]]
)
def test_listing_imports_nothing_heavy(ask, arguments):
    answer = ask("-c", LIGHT.format(arguments=arguments))
    assert answer.code == 0, answer.err


def test_importing_fewstep_imports_no_torch(ask):
    answer = ask(
        "-c", "import fewstep, sys; assert 'torch' not in sys.modules; print(fewstep.recipes()[0].name)"
    )
    assert answer.code == 0, answer.err


@pytest.mark.parametrize("arguments", [["plugins"], ["recipes"], ["--help"]])
def test_listing_answers_in_well_under_half_a_second_of_processor_time(fewstep, arguments):
    # Processor time of the child, since the wall clock also counts whoever else uses the machine.
    # Measured: 0.29 s on one core of a two-core machine. The least of three, for a cold disk and a neighbour on the
    # same core can only add to it.
    assert min(_seconds(fewstep, arguments) for _ in range(3)) < 0.5


def _seconds(fewstep, arguments):
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    assert fewstep(*arguments).code == 0
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return min(wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def test_recipes_can_be_those_of_one_plugin(tmp_path, install, good, fewstep):
    answer = fewstep("recipes", "--json", "--plugin", "circle", sites=[install(tmp_path, "circle", good)])
    assert [row["name"] for row in answer.data] == ["circle/one"]


def test_doctor_tells_interpreter_torch_and_extras(fewstep):
    answer = fewstep("doctor", "--json")
    assert answer.code == 0, answer.out
    assert answer.data["machine"]["torch"].startswith("2.11")
    assert {"audio", "video", "3d", "protein", "text"} <= {state["extra"] for state in answer.data["extras"]}


def test_doctor_ends_with_one_when_a_plugin_is_broken(tmp_path, install, fewstep):
    answer = fewstep("doctor", "--json", sites=[install(tmp_path, "circle", "raise ValueError('round')")])
    assert answer.code == 1
    assert answer.data["faults"] == ["plugin circle (circle): ValueError: round"]


def test_a_command_of_a_plugin_is_under_its_name(circle, fewstep):
    assert "circle" in fewstep("--help", sites=[circle]).out
    assert "Plot a circle" in fewstep("circle", "--help", sites=[circle]).out
    assert fewstep("circle", "plot", "--radius", "2", sites=[circle]).out == "a circle of radius 2.0\n"


@pytest.mark.parametrize(
    ("command", "told"), [("ink", 'pip install "circle[ink]"'), ("gone", "cannot be imported")]
)
def test_a_command_that_cannot_run_says_why(circle, fewstep, command, told):
    answer = fewstep("circle", command, sites=[circle])
    assert answer.code == 2
    assert told in answer.err
    assert "Traceback" not in answer.err


def test_an_unknown_command_ends_with_two(fewstep):
    assert fewstep("pluggins").code == 2


def test_the_version_is_printed(fewstep):
    import fewstep as package

    assert fewstep("--version").out == f"fewstep {package.__version__}\n"
