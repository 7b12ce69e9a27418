"""Work that many processes share and that goes on where a killed run stopped.

Results are lines of JSON in a file that only grows. Whatever stands there is not done again. A last line that a killed
run left unfinished is written over; what a failing disk made of other lines is ignored, and that work done again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait as ready
from pathlib import Path
from threading import Thread
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewstep.engine import Watch


def _any(result: Any) -> bool:
    """Every result lasts."""
    return True


def remembered(
    tasks: Mapping[str, tuple[Any, ...]],
    work: Callable[..., Any],
    ledger: Path,
    workers: int,
    watch: Watch | None = None,
    shared: tuple[Callable[..., None], tuple[Any, ...]] | None = None,
    lasts: Callable[[Any], bool] = _any,
) -> dict[str, Any]:
    """Results of ``work(*arguments)`` for every task, in the order of the tasks.

    Args:
        tasks: arguments under a key that says all that the result depends on.
        work: a function of a module, whose result JSON can hold.
        ledger: where results are kept; its folder is made.
        workers: processes; 1 works in this one.
        watch: is told how far it is.
        shared: a function and its arguments that every process calls first.
        lasts: whether a result is kept; others are done again by the next call.
    """
    known = read_ledger(ledger, lasts)
    new = {key: arguments for key, arguments in tasks.items() if key not in known}
    if new:
        ledger.parent.mkdir(parents=True, exist_ok=True)
        with whole_lines(ledger) as book:
            for key, result in _watched(_results(new, work, workers, shared), len(new), ledger.stem, watch):
                known[key] = result
                if lasts(result):
                    book.write(json.dumps([key, result]) + "\n")
                    book.flush()
    return {key: known[key] for key in tasks}


def read_ledger(ledger: Path, lasts: Callable[[Any], bool] = _any) -> dict[str, Any]:
    """What is known; an unfinished last line is not, nor one that is no JSON or whose result does not last."""
    known: dict[str, Any] = {}
    if ledger.is_file():
        for line in ledger.read_bytes().split(b"\n")[:-1]:
            with suppress(ValueError, TypeError):
                key, result = json.loads(line)
                if lasts(result):
                    known[key] = result
    return known


@contextmanager
def whole_lines(ledger: Path) -> Iterator[IO[str]]:
    """The ledger, opened where its last whole line ends."""
    with ledger.open("a+b") as raw:
        raw.seek(0)
        raw.truncate(raw.read().rfind(b"\n") + 1)
    with ledger.open("a") as book:
        yield book


def _watched(
    results: Iterator[tuple[str, Any]], total: int, what: str, watch: Watch | None
) -> Iterator[tuple[str, Any]]:
    """The same results, counted aloud."""
    if watch is None:
        yield from results
        return
    watch.stage_started(what, total, 0)
    for count, result in enumerate(results, 1):
        yield result
        watch.logged(what, count, count, {})
    watch.finished(what)


def _results(
    tasks: Mapping[str, tuple[Any, ...]],
    work: Callable[..., Any],
    workers: int,
    shared: tuple[Callable[..., None], tuple[Any, ...]] | None,
) -> Iterator[tuple[str, Any]]:
    """(key, result) as they come; few are under way at once, so that a million tasks need no memory."""
    if workers == 1:
        _begin(*(shared or ()))
        yield from ((key, work(*given)) for key, given in tasks.items())
        return
    waiting = iter(tasks.items())
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin, shared or ()) as pool:
        under_way: dict[Future[Any], str] = {}
        while True:
            for key, given in islice(waiting, 4 * workers - len(under_way)):
                under_way[pool.submit(work, *given)] = key
            if not under_way:
                return
            for done in wait(under_way, return_when=FIRST_COMPLETED).done:
                yield under_way.pop(done), done.result()


def _begin(share: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()) -> None:
    """Take what the processes share, and end with the process that started this one, even if that one is killed."""
    parent = parent_process()
    if parent is not None:
        Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    if share is not None:
        share(*arguments)


def _end_with(sentinel: int) -> None:
    """Wait until the parent is gone; an executor's worker would wait for its next task for ever."""
    ready([sentinel])
    os._exit(1)
