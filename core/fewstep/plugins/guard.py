"""Running a plugin's code so that whatever it does stays its own affair."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class Outcome(Generic[T]):
    """What came of a guarded call: a value or an error, and what was printed meanwhile."""

    value: T | None = None
    error: BaseException | None = None
    printed: list[str] = field(default_factory=list)


def guarded(call: Callable[[], T]) -> Outcome[T]:
    """Run ``call``; keep its error and its output.

    ``SystemExit`` and other exits are errors of the plugin as much as any. Ctrl-C is the user's and gets through.
    """
    outcome: Outcome[T] = Outcome()
    with captured(outcome.printed):
        try:
            outcome.value = call()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - it is kept and told
            outcome.error = error
    return outcome


@contextlib.contextmanager
def captured(lines: list[str]) -> Iterator[None]:
    """Collect what is written to standard output and error, by Python or below it, into ``lines``."""
    with tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace") as sink:
        try:
            with _descriptor(1, sink.fileno()), _descriptor(2, sink.fileno()), _streams(sink.fileno()):
                yield
        finally:
            sink.seek(0)
            lines.extend(sink.read().splitlines())


@contextlib.contextmanager
def _streams(descriptor: int) -> Iterator[None]:
    """Point ``sys.stdout`` and ``sys.stderr`` at ``descriptor``, whatever they were (a notebook's, a test's)."""
    with (
        open(descriptor, "w", encoding="utf-8", errors="replace", closefd=False, buffering=1) as stream,
        contextlib.redirect_stdout(stream),
        contextlib.redirect_stderr(stream),
    ):
        yield


@contextlib.contextmanager
def _descriptor(number: int, target: int) -> Iterator[None]:
    """Point a file descriptor elsewhere for a while. One that is closed stays closed."""
    _flush()
    try:
        kept = os.dup(number)
    except OSError:
        yield
        return
    os.dup2(target, number)
    try:
        yield
    finally:
        _flush()  # what was written to the interpreter's own streams belongs to the plugin
        os.dup2(kept, number)
        os.close(kept)


def _flush() -> None:
    """Empty the buffers of Python's streams, those that still are open."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(OSError, ValueError):
            if stream is not None:
                stream.flush()
