"""The run folder: the truth about a run. Whole files are replaced atomically; metrics are only appended.

::

    runs/<recipe>/<date>-<time>-<hash6>/
      run.json            recipe, profile, status, times, seed, config hash, parents, the command that goes on
      config.yaml         every setting                 config.origin.json   where each came from
      environment.json    versions, machine, commit     metrics.jsonl        one object per logged cycle
      checkpoints/ stages/  the engine's                eval.json            table and gates
      samples/<contender>/  native files                export/              weights for elsewhere
      report.html         MODEL_CARD.md
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from fewstep.errors import FewstepError


@dataclass(frozen=True)
class RunFolder:
    """Reads and writes one run's folder."""

    path: Path

    @classmethod
    def create(cls, root: Path, recipe: str, config_hash: str) -> RunFolder:
        """A new folder below ``root``, named after recipe, time and configuration.

        Raises:
            FewstepError: it cannot be made: read-only place, full disk, a file in the way.
        """
        base = f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-{config_hash[:6]}"
        with writing(root / recipe / base):
            for number in range(1, 1000):
                path = root / recipe / (base if number == 1 else f"{base}-{number}")
                try:
                    path.mkdir(parents=True)
                    return cls(path)
                except FileExistsError:
                    if not path.is_dir():
                        raise
        raise FewstepError(
            f"a thousand runs were begun in {root / recipe} in one second", "", "wait a second"
        )

    @property
    def facts(self) -> dict[str, Any]:
        """What run.json says."""
        found: dict[str, Any] = self.read_json("run.json")
        return found

    def note(self, **facts: Any) -> None:
        """Add to run.json."""
        before = self.facts if (self.path / "run.json").is_file() else {}
        self.write_json("run.json", {**before, **facts})

    def read_json(self, name: str) -> Any:
        """The content of a JSON file.

        Raises:
            FewstepError: it is absent or damaged.
        """
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FewstepError(
                f"{self.path / name} cannot be read: {error}",
                "the folder of a run",
                "give the folder that a run printed",
            ) from error

    def write_json(self, name: str, content: Any) -> Path:
        """Replace a JSON file."""
        return self.write(name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def write_yaml(self, name: str, content: Mapping[str, Any]) -> Path:
        """Replace a YAML file; the order of fields stays."""
        return self.write(name, yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True))

    def write(self, name: str, text: str) -> Path:
        """Replace a text file: written beside, flushed, renamed.

        Raises:
            FewstepError: the disk is full or the folder read-only. What stood there before stays.
        """
        target, draft = self.path / name, self.path / f".{name.replace('/', '-')}.draft"
        with writing(target, draft):
            with draft.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
        return target

    def append(self, name: str, content: Mapping[str, Any]) -> None:
        """Add one line to a JSONL file."""
        with writing(self.path / name), (self.path / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(content) + "\n")

    def lines(self, name: str) -> list[dict[str, Any]]:
        """All objects of a JSONL file; what is none, such as a last line that a kill cut short, is left out."""
        file = self.path / name
        found = []
        for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
            with suppress(ValueError):
                found.append(json.loads(line))
        return [one for one in found if isinstance(one, dict)]

    def metrics(self) -> dict[tuple[str, str], list[tuple[int, float]]]:
        """(stage, metric name) -> [(cycle, value)]; a cycle that was run again after a resume counts once."""
        series: dict[tuple[str, str], dict[int, float]] = {}
        for line in self.lines("metrics.jsonl"):
            for name, value in line["metrics"].items():
                series.setdefault((line["stage"], name), {})[line["cycle"]] = value
        return {name: sorted(points.items()) for name, points in series.items()}

    def training(self) -> dict[str, dict[str, float]]:
        """Stage -> updates and seconds, as far as metrics tell; what was trained again after a kill has cost, too."""
        found: dict[str, dict[str, float]] = {}
        before = 0.0
        for line in self.lines("metrics.jsonl"):
            stage = found.setdefault(line["stage"], {"updates": 0, "seconds": 0.0})
            stage["updates"], stage["seconds"] = line["updates"], stage["seconds"] + line["t"] - before
            before = line["t"]
        return found


def find_run(name: str, root: Path = Path("runs")) -> RunFolder:
    """The run that a person means: a folder, or a recipe's (or any folder's) newest run.

    Args:
        name: path of a run folder, or a recipe's name.
        root: where runs are kept.

    Raises:
        FewstepError: there is none.
    """
    for place in (Path(name), root / name):
        if (place / "run.json").is_file():
            return RunFolder(place)
        inside = sorted(file.parent for file in place.glob("**/run.json")) if place.is_dir() else []
        if inside:
            return RunFolder(max(inside, key=lambda path: path.name))
    raise FewstepError(
        f"no run at {name!r}, nor below {root}/",
        "a run folder (it holds run.json), or the name of a recipe that was run here",
        "fewstep run RECIPE makes one and prints its folder",
    )


def check_place(file: Path) -> None:
    """Find out before any work that a file cannot be written: a hidden folder is made beside it and taken away.

    Raises:
        FewstepError: a folder in its place, a read-only folder, a full disk.
    """
    with writing(file):
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        file.parent.mkdir(parents=True, exist_ok=True)
        Path(tempfile.mkdtemp(dir=file.parent)).rmdir()


@contextmanager
def drafting(folder: Path, kind: str) -> Iterator[Path]:
    """A hidden folder in ``folder`` for what is not yet good, taken away at the end; those of killed processes go first.

    Each is locked as long as its process lives, so what can be locked belongs to nobody. The folder itself is locked
    meanwhile, lest another process finds a draft that was made and not yet locked.
    """
    with ExitStack() as held:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder, wait=True):
                for left in folder.glob(f".{kind}-*"):
                    with suppress(OSError), _locked(left) as free:  # gone already, or another person's
                        if free:
                            shutil.rmtree(left, ignore_errors=True)
                draft = Path(tempfile.mkdtemp(prefix=f".{kind}-", dir=folder))
                held.enter_context(_locked(draft))
        held.callback(shutil.rmtree, draft, ignore_errors=True)
        yield draft


@contextmanager
def _locked(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Whether the folder could be locked; the system lifts the lock when the process ends, however it ends."""
    file = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            free = True
        except OSError:  # held, or a file system without locks, where nothing is known to be left over
            free = False
        yield free
    finally:
        os.close(file)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """One process at a time fills a folder; the system lifts the claim when the process ends, however it ends.

    Raises:
        FewstepError: another process holds it, or the folder cannot be written to.
    """
    with writing(folder / ".claim"):
        file = (folder / ".claim").open("a")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Some network file systems know no locks: there the claim cannot be made, and the run goes on without.
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise FewstepError(
                    f"another process is running in {folder}",
                    "one process per folder, so that neither overwrites the other's files",
                    "wait until it ends, or begin a folder of its own",
                ) from error
        yield


@contextmanager
def writing(target: Path, draft: Path | None = None) -> Iterator[None]:
    """Turn a full disk or a read-only folder into an error for people.

    Raises:
        FewstepError: naming the file and what the system said.
    """
    try:
        yield
    except OSError as error:
        if draft is not None:
            draft.unlink(missing_ok=True)
        raise FewstepError(
            f"cannot write {target}: {error.strerror or error}",
            "a writable folder with some space",
            "free space or choose another place with --out; nothing that was saved before is lost",
        ) from error
