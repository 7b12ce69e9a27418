"""Descriptors refuse what cannot be right, and gates judge."""

from __future__ import annotations

import doctest
import math

import pytest

from fewstep.plugins import ComponentSpec, Gate, RecipeSpec, hookspecs, resolve, specs


@pytest.mark.parametrize("module", [hookspecs, specs])
def test_the_examples_in_the_docstrings_run(module):
    result = doctest.testmod(module)
    assert result.failed == 0
    assert result.attempted > 0


def test_every_hook_has_an_example():
    hooks = [value for name, value in vars(hookspecs).items() if name.startswith("fewstep_")]
    assert len(hooks) == 7
    assert all(">>>" in hook.__doc__ for hook in hooks)


@pytest.mark.parametrize("bounds", [{}, {"at_most": 1.0, "at_least": 0.0}])
def test_a_gate_has_exactly_one_bound(bounds):
    with pytest.raises(ValueError, match="either at_most or at_least"):
        Gate(metric="distance", control="teacher_1step", **bounds)


def test_a_gate_cannot_be_its_own_control():
    with pytest.raises(ValueError, match="its own control"):
        Gate(metric="distance", of="student", control="student", at_most=1)


@pytest.mark.parametrize(
    ("bound", "good", "bad"), [({"at_most": 1.0}, 1.0, 1.1), ({"at_least": 1.0}, 1.0, 0.9)]
)
def test_a_gate_holds_up_to_its_bound_and_never_for_nan(bound, good, bad):
    gate = Gate(metric="m", control="c", **bound)
    assert gate.holds(good)
    assert not gate.holds(bad)
    assert not gate.holds(math.nan)


def test_a_gate_without_profiles_holds_in_all():
    every, smoke = (
        Gate(metric="m", control="c", at_most=1),
        Gate(metric="m", control="c", at_most=1, profiles=("smoke",)),
    )
    recipe = RecipeSpec(name="a/b", summary="", config="json:loads", build="json:loads", gates=(every, smoke))
    assert recipe.gates_of("smoke") == (every, smoke)
    assert recipe.gates_of("default") == (every,)


def test_presets_cannot_be_changed_afterwards():
    given = {"smoke": {"steps": 10}}
    recipe = RecipeSpec(name="a/b", summary="", config="json:loads", build="json:loads", presets=given)
    given["smoke"]["steps"] = 20
    assert recipe.presets["smoke"]["steps"] == 10
    with pytest.raises(TypeError):
        recipe.presets["smoke"]["steps"] = 30


def test_an_unknown_kind_of_component_is_refused():
    with pytest.raises(ValueError, match="kind 'gadget' is none of process, objective"):
        ComponentSpec(name="a/b", kind="gadget", target="json:loads")


@pytest.mark.parametrize("target", ["json", "json:", ":loads", "json loads", "json:loads()", "a/b:c"])
def test_code_that_is_not_named_as_module_and_attribute_is_refused(target):
    with pytest.raises(ValueError, match="module:attr"):
        resolve(target)
