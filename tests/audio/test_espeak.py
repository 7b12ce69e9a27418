"""The process that speaks stays between calls: what it said before changes nothing, and it is replaced when it ends."""

from __future__ import annotations

import os
import threading
from dataclasses import asdict

import numpy as np
import pytest

from fewstep.errors import FewstepError
from fewstep_audio.speech import espeak
from fewstep_audio.speech.espeak import Request, Speech, speak

HELLO, RAIN = Request("Hello there."), Request("The cold rain fell.", "en-us+f2", 60)


def same(first: Speech, second: Speech) -> bool:
    mine, other = asdict(first), asdict(second)
    return all(np.array_equal(mine[name], other[name]) for name in mine)


def test_what_was_said_before_changes_nothing() -> None:
    alone, (rain, hello) = speak([HELLO])[0], speak([RAIN, HELLO])
    assert same(alone, hello)
    assert same(rain, speak([RAIN])[0])


def test_one_process_answers_all_calls() -> None:
    speak([HELLO])
    first = espeak._WORKERS[0].process.pid
    speak([RAIN])
    assert [one.process.pid for one in espeak._WORKERS] == [first]


def test_a_refused_voice_spoils_nothing_for_the_next() -> None:
    hello = speak([HELLO])[0]
    with pytest.raises(FewstepError, match="xx-none"):
        speak([Request("Hi.", "xx-none"), RAIN])
    assert same(hello, speak([HELLO])[0])


def test_a_process_that_was_killed_is_replaced() -> None:
    hello = speak([HELLO])[0]
    espeak._WORKERS[0].process.kill()
    espeak._WORKERS[0].process.wait()
    assert same(hello, speak([HELLO])[0])


def test_threads_take_turns() -> None:
    hello, found = speak([HELLO])[0], []
    threads = [threading.Thread(target=lambda: found.append(speak([HELLO])[0])) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert [same(hello, one) for one in found] == [True] * 4


def test_a_fork_speaks_through_a_process_of_its_own() -> None:
    hello = speak([HELLO])[0]
    child = os.fork()
    if child == 0:
        right = same(hello, speak([HELLO])[0]) and espeak._WORKERS[0].owner == os.getpid()
        espeak._let_go()
        os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert same(hello, speak([HELLO])[0])


def test_a_long_data_path_is_reached_through_a_link(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, data = espeak._library()
    far = tmp_path_factory.mktemp("far") / ("x" * 60) / ("y" * 60)
    far.mkdir(parents=True)
    (far / "data").symlink_to(data, target_is_directory=True)
    hello = speak([HELLO])[0]
    monkeypatch.setattr(espeak, "_library", lambda: (library, str(far / "data")))
    assert same(hello, speak([HELLO])[0])
    link = espeak._WORKERS[0].link
    monkeypatch.undo()
    speak([HELLO])
    assert link is not None
    assert not link.parent.exists()


def test_a_library_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    _, data = espeak._library()
    monkeypatch.setattr(espeak, "_library", lambda: ("/nowhere/libespeak.so", data))
    with pytest.raises(FewstepError, match="espeak-ng failed: OSError"):
        speak([HELLO])
