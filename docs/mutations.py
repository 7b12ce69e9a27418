"""Break the mathematics on purpose, one place at a time, and see whether the tests notice.

Every mutation of docs/mutations.yaml replaces one piece of a file of the core in a copy: a sign, a stop-gradient, r and
1/r, a weight. The tests that it names must then fail. Type ``python docs/mutations.py`` to write docs/mutations.md
(minutes); ``--only WORD`` runs those whose family or change holds the word and prints instead. Exit code 1 if any mutation
survives.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from recipes import table

TOP = Path(__file__).resolve().parents[1]
PAGE = Path(__file__).with_name("mutations.md")
BEGIN, END = "<!-- mutations: python docs/mutations.py -->", "<!-- end of mutations -->"


@dataclass(frozen=True)
class Mutation:
    """One way to be wrong.

    Args:
        family: whose mathematics it breaks.
        change: what it does, in words.
        file: below core/fewstep.
        before: what stands there, exactly once.
        after: what takes its place.
        tests: what must notice, as given to pytest.
    """

    family: str
    change: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]


MUTATIONS = tuple(
    Mutation(**{**found, "tests": tuple(found["tests"])})
    for found in yaml.safe_load(Path(__file__).with_name("mutations.yaml").read_text(encoding="utf-8"))
)


def survives(mutation: Mutation) -> tuple[bool, str, float]:
    """Whether the tests stay green under a mutation, the test that noticed, and the seconds it took."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "fewstep"
        shutil.copytree(TOP / "core" / "fewstep", copy, ignore=shutil.ignore_patterns("__pycache__"))
        file = copy / mutation.file
        file.write_text(mutated(mutation, file.read_text(encoding="utf-8")), encoding="utf-8")
        noticed = first_failure(mutation.tests, folder)
    return noticed == "", noticed, time.monotonic() - begun


@cache
def first_failure(tests: tuple[str, ...], folder: str = "") -> str:
    """The first test that fails with the core in ``folder`` (this checkout's by default); empty if all pass.

    Raises:
        RuntimeError: if pytest could not run them.
    """
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *tests]
    room = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    room |= {"PYTHONPATH": folder} if folder else {}
    done = subprocess.run(command, cwd=TOP, env=room, capture_output=True, text=True, check=False)
    noticed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.M)
    if done.returncode not in (0, 1) and not noticed:
        raise RuntimeError(
            f"pytest ended with {done.returncode} for {tests}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return noticed[0] if noticed else ""


def mutated(mutation: Mutation, text: str) -> str:
    """The text with the mutation in it.

    Raises:
        ValueError: if what it replaces is not there exactly once.
    """
    found = text.count(mutation.before)
    if found != 1:
        raise ValueError(
            f"{mutation.file} holds {mutation.before!r} {found} times; mend the list of mutations"
        )
    return text.replace(mutation.before, mutation.after)


def main() -> None:
    """Run the list and write or print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a word of the family or the change")
    word = parser.parse_args().only
    rows, alive = [], 0
    for mutation in (m for m in MUTATIONS if word in f"{m.family} {m.change}"):
        if broken := first_failure(mutation.tests):
            raise SystemExit(f"{broken} fails without any mutation; mend that first")
        survived, noticed, seconds = survives(mutation)
        alive += survived
        where = "**nobody**" if survived else f"`{noticed.rpartition('/')[2]}`"
        print(
            f"{'SURVIVES' if survived else 'noticed':<9}{seconds:5.1f} s  {mutation.family}: {mutation.change}  {noticed}",
            flush=True,
        )
        rows.append((mutation.family, mutation.change, f"`{mutation.file}`", where))
    told = table(("family", "change", "file", "first test that fails"), rows)
    if word:
        print(told)
    else:
        text = PAGE.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{told}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    raise SystemExit(1 if alive else 0)


if __name__ == "__main__":
    main()
