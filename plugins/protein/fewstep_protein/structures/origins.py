"""Where structure files are: folders, archives, installed packages."""

from __future__ import annotations

import lzma
import os
import re
import tarfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
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
TAR = re.compile(r"\.(tar|tar\.gz|tgz|tar\.xz|tar\.bz2)$")
ZIP = re.compile(r"\.(zip|whl)$")
BROKEN = (OSError, EOFError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
"""What a damaged or locked archive raises."""

OTHER_KIND = "file of another kind: not opened"
LINKED_FOLDER = "link to a folder: not followed, name the folder to read it"
CLOSED_FOLDER = "folder that cannot be opened"
LEFT = (OTHER_KIND, LINKED_FOLDER, CLOSED_FOLDER)
"""Why something in a folder was not looked at."""


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
    """What some places hold: structure files, and (file, chain, what, count, detail) of what is not looked at."""

    files: list[Origin] = field(default_factory=list)
    left: list[tuple[str, str, str, int, str]] = field(default_factory=list)


def origins(places: Iterable[str], unpacked: Path) -> Found:
    """All structure files in some places, sorted, each once.

    Args:
        places: files, folders, archives (tar, zip, wheels), or ``package:NAME`` for an installed package.
        unpacked: where archives are unpacked to, the structure files only.

    Raises:
        FewstepError: places that do not exist or hold no structure file; names all of them.
    """
    problems: list[str] = []
    found = Found()
    for place in dict.fromkeys(places):
        try:
            here = _origins(place, unpacked)
        except PackageNotFoundError:
            problems.append(f"{place}: no such package is installed")
            continue
        except BROKEN as error:
            problems.append(f"{place}: {in_one_line(error)}")
            continue
        found.files += sorted(here.files, key=lambda origin: origin.file)
        found.left += here.left
        problems += [] if here.files else [f"{place} holds no PDB or mmCIF file"]
    if problems:
        raise FewstepError(
            "; ".join(problems),
            "files, folders, tar and zip archives, wheels, package:NAME",
            "check the paths; unpack a Debian package with dpkg-deb -x",
        )
    once: dict[str, Origin] = {}
    for origin in found.files:
        once.setdefault(_absolute(origin.path), origin)
    return Found(list(once.values()), found.left)


def _origins(place: str, unpacked: Path) -> Found:
    if place.startswith(PACKAGE):
        return Found(list(_installed(place.removeprefix(PACKAGE))))
    path = Path(place)
    path.stat()
    if path.is_dir():
        return _within(path, readable(path.resolve().name))
    if TAR.search(path.name) or ZIP.search(path.name):
        label = readable(ZIP.sub("", TAR.sub("", path.name)))
        return Found(_within(unpack(path, unpacked), label).files)
    if is_database(path):
        return Found([Origin(DATABASE, path.name, path)])
    known = SUFFIXES.search(path.name)
    return Found([Origin(readable(path.resolve().parent.name), readable(path.name), path)] if known else [])


def _within(folder: Path, label: str) -> Found:
    """Everything below a folder. Links to folders are not followed: they may lead back, or to the whole disk."""
    found, closed = Found(), list[OSError]()
    others: defaultdict[str, list[str]] = defaultdict(list)
    for place, folders, names in os.walk(folder, onerror=closed.append):
        links = [Path(place, name) for name in folders if Path(place, name).is_symlink()]
        found.left += [(_named(label, folder, path), "", LINKED_FOLDER, 1, "") for path in sorted(links)]
        for path in sorted(Path(place, name) for name in names):
            file = readable(path.relative_to(folder).as_posix())
            if is_database(path):
                found.files.append(Origin(DATABASE, file, path))
            elif SUFFIXES.search(path.name):
                found.files.append(Origin(label, file, path))
            else:
                others[path.suffix].append(file)
    found.left += [
        (_named(label, folder, Path(os.fsdecode(e.filename))), "", CLOSED_FOLDER, 1, in_one_line(e))
        for e in closed
    ]
    found.left += [
        (f"{label}/*{readable(end)}", "", OTHER_KIND, len(files), min(files)) for end, files in others.items()
    ]
    return found


def _named(label: str, folder: Path, path: Path) -> str:
    return f"{label}/{readable(path.relative_to(folder).as_posix())}"


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - resolve() would join a file and a link to it


def _installed(name: str) -> Iterator[Origin]:
    """Structure files that an installed distribution owns."""
    package = distribution(name)
    for file in package.files or ():
        if SUFFIXES.search(file.name):
            yield Origin(f"{package.name} {package.version}", str(file), Path(str(file.locate())))


def unpack(archive: Path, folder: Path) -> Path:
    """A folder below ``folder`` with the structure files of an archive; an archive that was unpacked is not opened again."""
    status = archive.stat()
    made_from = f"{_absolute(archive)} {status.st_size} {status.st_ctime_ns}"
    whole = folder / sha256(os.fsencode(made_from)).hexdigest()[:16]
    if whole.is_dir():
        return whole
    with drafting(folder, "unpacked") as draft:
        content = draft / "content"
        content.mkdir()
        for name, data in _members(archive):
            _write(content, name, data)
        content.rename(whole)
    return whole


def _members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the structure files in an archive."""
    if ZIP.search(archive.name):
        with zipfile.ZipFile(archive) as zipped:
            yield from ((name, zipped.read(name)) for name in filter(SUFFIXES.search, zipped.namelist()))
        return
    with tarfile.open(archive) as tarred:
        for member in tarred:
            is_file = (member.isfile() or member.islnk()) and SUFFIXES.search(member.name)
            handle = tarred.extractfile(member) if is_file else None
            if handle is not None:
                yield member.name, handle.read()


def _write(folder: Path, name: str, content: bytes) -> None:
    """A file below the folder, whatever its name in the archive says."""
    parts: Sequence[str] = [part for part in PurePosixPath(name).parts if part not in ("..", "/", ".")]
    path = folder.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
