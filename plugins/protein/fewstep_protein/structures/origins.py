"""Where structure files are: folders, archives, installed packages."""

from __future__ import annotations

import json
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from fewstep.errors import FewstepError
from fewstep.runs.folder import drafting
from fewstep_protein.structures.promod import is_database
from fewstep_protein.structures.reading import SUFFIXES, in_one_line, readable

PACKAGE = "package:"
"""Beginning of the name of an installed Python package."""
DATABASE = "promod3-data"
"""The package of ProMod3's structural database."""
TAR = re.compile(r"\.(tar|tar\.gz|tgz|tar\.xz|txz|tar\.bz2|tbz2)$", re.IGNORECASE)
ZIP = re.compile(r"\.(zip|whl)$", re.IGNORECASE)
BROKEN = (
    OSError,
    EOFError,
    RuntimeError,
    LookupError,
    ValueError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
"""What a damaged or locked archive raises."""
WORK = ".npz.work"
"""End of the name of the folder that a harvest keeps beside its file."""

OTHER_KIND = "file of another kind: not opened"
LINKED_FOLDER = "link to a folder: not followed, name the folder to read it"
CLOSED_FOLDER = "folder that cannot be opened"
WORK_FOLDER = "work folder of another harvest: not looked into"
NO_FILE = "link, pipe or device in an archive: not unpacked"
LEFT = (OTHER_KIND, LINKED_FOLDER, CLOSED_FOLDER, WORK_FOLDER, NO_FILE)
"""Why something in a folder or an archive was not looked at."""

Row = tuple[str, str, str, int, str]
"""(file, chain, what, count, detail) of a finding."""


@dataclass(frozen=True)
class Origin:
    """A file to read: which package or folder it is from, its place in there, and its path here."""

    package: str
    file: str
    path: Path

    @property
    def key(self) -> str:
        """What a result of this file depends on: a file that was changed, or may be read now, is read again."""
        try:
            status = self.path.stat()
        except OSError as error:
            return f"{_absolute(self.path)} {error.strerror}"
        # The time of the last change of anything, rights included: tools set the other times as they like.
        return f"{_absolute(self.path)} {status.st_size} {status.st_ctime_ns}"


@dataclass
class Found:
    """What some places hold: structure files, and what is not looked at."""

    files: list[Origin] = field(default_factory=list)
    left: list[Row] = field(default_factory=list)


def origins(places: Iterable[str], unpacked: Path, own: Iterable[Path] = ()) -> Found:
    """All structure files in some places, sorted, each once.

    Args:
        places: files, folders, archives (tar, zip, wheels), or ``package:NAME`` for an installed package.
        unpacked: where archives are unpacked to, the structure files only.
        own: files and folders to pass over: what the harvest itself writes.

    Raises:
        FewstepError: places that do not exist or hold no structure file; names all of them.
    """
    problems: list[str] = []
    found, mine = Found(), {_place(path) for path in own}
    for place in dict.fromkeys(places):
        try:
            if _place(Path(place)) in mine:
                continue
            here = _origins(place, unpacked, mine)
        except PackageNotFoundError:
            problems.append(f"{place}: no such package is installed")
            continue
        except BROKEN as error:
            problems.append(f"{place}: {in_one_line(error)}")
            continue
        found.files += sorted(here.files, key=lambda origin: (origin.file, origin.path))
        found.left += here.left
        problems += [] if here.files else [_nothing_in(place, here.left)]
    if problems:
        raise FewstepError(
            "; ".join(problems),
            "files, folders, tar and zip archives, wheels, package:NAME",
            "check the paths; download or pack a damaged archive again; unpack a Debian package with dpkg-deb -x",
        )
    once: dict[str, Origin] = {}
    for origin in found.files:
        once.setdefault(_absolute(origin.path), origin)
    return Found(list(once.values()), found.left)


def _nothing_in(place: str, left: Iterable[Row]) -> str:
    closed = [
        f"; {file} cannot be opened: {detail}" for file, _, what, _, detail in left if what == CLOSED_FOLDER
    ]
    return f"{place} holds no PDB or mmCIF file{''.join(closed[:3])}"


def _origins(place: str, unpacked: Path, own: Collection[Path]) -> Found:
    if place.startswith(PACKAGE):
        return Found(list(_installed(place.removeprefix(PACKAGE))))
    path = Path(place)
    path.stat()
    if path.is_dir():
        return _within(path, readable(path.resolve().name), own)
    if TAR.search(path.name) or ZIP.search(path.name):
        label = readable(ZIP.sub("", TAR.sub("", path.name)))
        content, left = unpack(path, unpacked)
        return Found(_within(content, label).files, [(f"{label}/{file}", *row) for file, *row in left])
    if is_database(path):
        return Found([Origin(DATABASE, path.name, path)])
    known = SUFFIXES.search(path.name)
    return Found([Origin(readable(path.resolve().parent.name), readable(path.name), path)] if known else [])


def _within(folder: Path, label: str, own: Collection[Path] = ()) -> Found:
    """Everything below a folder. Links to folders are not followed: they may lead back, or to the whole disk."""
    found, closed, others = Found(), list[OSError](), list[str]()
    for place, folders, names in os.walk(folder, onerror=closed.append):
        real = Path(place).resolve()
        inside = [Path(place, name) for name in folders if real / name not in own]
        skipped = [(path, why) for path in inside if (why := _passed_over(path))]
        found.left += [(_named(label, folder, path), "", why, 1, "") for path, why in skipped]
        folders[:] = [path.name for path in inside if not _passed_over(path)]
        for path in (Path(place, name) for name in names if real / name not in own):
            file = readable(path.relative_to(folder).as_posix())
            if is_database(path):
                found.files.append(Origin(DATABASE, file, path))
            elif SUFFIXES.search(path.name):
                found.files.append(Origin(label, file, path))
            else:
                others.append(file)
    found.left += [
        (_named(label, folder, Path(os.fsdecode(e.filename))), "", CLOSED_FOLDER, 1, in_one_line(e))
        for e in closed
    ]
    found.left += [(f"{label}/{ends}", *row) for ends, *row in _of_another_kind(others)]
    found.left.sort()
    return found


def _passed_over(folder: Path) -> str:
    """Why a folder is not entered, or nothing."""
    return LINKED_FOLDER if folder.is_symlink() else WORK_FOLDER if folder.name.endswith(WORK) else ""


def _of_another_kind(files: Iterable[str]) -> list[Row]:
    """A row per suffix: how many files, and the first."""
    by_end: defaultdict[str, list[str]] = defaultdict(list)
    for file in files:
        by_end[PurePosixPath(file).suffix].append(file)
    return [(f"*{end}", "", OTHER_KIND, len(some), min(some)) for end, some in sorted(by_end.items())]


def _named(label: str, folder: Path, path: Path) -> str:
    return f"{label}/{readable(path.relative_to(folder).as_posix())}"


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - resolve() would join a file and a link to it


def _place(path: Path) -> Path:
    """Where a path is, however its folder is named; a link stays a link."""
    return path.parent.resolve() / path.name


def _installed(name: str) -> Iterator[Origin]:
    """Structure files that an installed distribution owns."""
    package = distribution(name)
    for file in package.files or ():
        if SUFFIXES.search(file.name):
            yield Origin(f"{package.name} {package.version}", str(file), Path(str(file.locate())))


def unpack(archive: Path, folder: Path) -> tuple[Path, list[Row]]:
    """A folder below ``folder`` with the structure files of an archive, and what else is in it.

    An archive that was unpacked is not opened again until it changes.
    """
    status = archive.stat()
    made_from = [status.st_size, status.st_ctime_ns]
    whole = folder / sha256(os.fsencode(_absolute(archive))).hexdigest()[:16]
    content, listing = whole / "content", whole / "listing.json"
    with suppress(FileNotFoundError, ValueError):
        known = json.loads(listing.read_text())
        if known["made_from"] == made_from:
            return content, [tuple(row) for row in known["left"]]
    with drafting(folder, "unpacked") as draft:
        made = draft / "archive"
        (made / "content").mkdir(parents=True)
        left = _unpack(archive, made / "content")
        (made / "listing.json").write_text(json.dumps({"made_from": made_from, "left": left}))
        shutil.rmtree(whole, ignore_errors=True)
        made.rename(whole)
    return content, left


def _unpack(archive: Path, folder: Path) -> list[Row]:
    """Write the structure files of an archive below a folder; rows of what else is in it."""
    others, links = list[str](), list[str]()
    for name, content in _members(archive):
        if content is None:
            links.append(readable(name))
        elif SUFFIXES.search(name):
            _write(folder, name, content())
        else:
            others.append(readable(name))
    return sorted([*((name, "", NO_FILE, 1, "") for name in links), *_of_another_kind(others)])


def _members(archive: Path) -> Iterator[tuple[str, Callable[[], bytes] | None]]:
    """Names in an archive, folders left out, with how to read each; None for what is no file."""
    if ZIP.search(archive.name):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                if not info.is_dir():
                    is_link = stat.S_ISLNK(info.external_attr >> 16)
                    yield info.filename, None if is_link else partial(zipped.read, info)
        return
    with tarfile.open(archive) as tarred:
        for member in tarred:
            if not member.isdir():
                is_file = member.isfile() or member.islnk()
                yield member.name, partial(_read, tarred, member) if is_file else None


def _read(tarred: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """The bytes of a file; of a hard link those of what it links to.

    Raises:
        KeyError: that is not in the archive.
    """
    handle = tarred.extractfile(member)
    return handle.read() if handle else b""


def _write(folder: Path, name: str, content: bytes) -> None:
    """A file below the folder, whatever its name in the archive says."""
    parts: Sequence[str] = [part for part in PurePosixPath(name).parts if part not in ("..", "/", ".")]
    path = folder.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
