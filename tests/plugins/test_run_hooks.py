"""Plugins are told how a run goes, and one that fails hurts nobody else."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from fewstep.plugins import hookimpl
from fewstep.plugins.discovery import Found
from fewstep.plugins.lifecycle import RunHooks
from fewstep.plugins.loader import load


class Listener:
    """A plugin object that writes down what it is told."""

    PROTOCOL = (0, 1)

    def __init__(self) -> None:
        self.heard = []

    @hookimpl
    def fewstep_run_started(self, run):
        self.heard.append(("started", run.name))

    @hookimpl
    def fewstep_step_logged(self, step, metrics):
        self.heard.append((step, dict(metrics)))

    @hookimpl
    def fewstep_checkpoint_saved(self, path):
        self.heard.append(("saved", path.name))

    @hookimpl
    def fewstep_run_finished(self, status):
        self.heard.append(("finished", status))


class Failing(Listener):
    """One that fails at the second step, in a way of its own."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    @hookimpl
    def fewstep_step_logged(self, step, metrics):
        if step == 2:
            raise self.error
        super().fewstep_step_logged(step, metrics)


@pytest.fixture
def hooks(monkeypatch):
    """Run hooks over listeners, loaded through the loader as any plugin is."""

    def hooks(strict=False, **listeners):
        import fewstep

        for name, listener in listeners.items():
            monkeypatch.setattr(fewstep, f"_listener_{name}", listener, raising=False)
        found = [
            Found(name=name, target=f"fewstep:_listener_{name}", distribution=name, version="1")
            for name in listeners
        ]
        return RunHooks([load(one, strict=True) for one in found], strict=strict)

    return hooks


RUN = SimpleNamespace(name="circle-1")


def test_a_plugin_hears_the_life_of_a_run_in_order(hooks, tmp_path):
    listener = Listener()
    told = hooks(good=listener)
    told.run_started(RUN)
    told.step_logged(RUN, 1, {"loss": 0.5})
    told.checkpoint_saved(RUN, tmp_path / "student-1")
    told.run_finished(RUN, "done")
    assert listener.heard == [
        ("started", "circle-1"),
        (1, {"loss": 0.5}),
        ("saved", "student-1"),
        ("finished", "done"),
    ]


@pytest.mark.parametrize("error", [RuntimeError("disk of the tracker"), SystemExit(1)], ids=["error", "exit"])
def test_a_plugin_that_fails_is_told_no_more_and_the_others_are(hooks, caplog, error):
    bad, good = Failing(error), Listener()
    told = hooks(bad=bad, good=good)
    with caplog.at_level(logging.WARNING):
        for step in (1, 2, 3):
            told.step_logged(RUN, step, {})
        told.run_finished(RUN, "done")
    assert [entry[0] for entry in bad.heard] == [1]
    assert [entry[0] for entry in good.heard] == [1, 2, 3, "finished"]
    assert told.listening == ("good",)
    assert "plugin 'bad' failed in fewstep_step_logged" in caplog.text
    assert len(caplog.records) == 1


def test_a_plugin_that_failed_is_told_again_in_the_next_run(hooks):
    bad = Failing(RuntimeError())
    hooks(bad=bad).step_logged(RUN, 2, {})
    hooks(bad=bad).step_logged(RUN, 1, {})
    assert [entry[0] for entry in bad.heard] == [1]


def test_strict_raises_what_the_plugin_raised(hooks):
    with pytest.raises(RuntimeError, match="disk"):
        hooks(strict=True, bad=Failing(RuntimeError("disk"))).step_logged(RUN, 2, {})


def test_ctrl_c_in_a_hook_gets_through(hooks):
    with pytest.raises(KeyboardInterrupt):
        hooks(bad=Failing(KeyboardInterrupt())).step_logged(RUN, 2, {})
