"""Where structure files are: folders, archives, installed packages."""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from fewstep.errors import FewstepError
from fewstep_protein.structures.promod import is_database
from fewstep_protein.structures.reading import SUFFIXES

PACKAGE = "package:"
"""Beginning of the name of an installed Python package."""
DATABASE = "promod3-data"
"""The package of ProMod3's structural database."""
TAR = re.compile(r"\.(tar|tar\.gz|tgz|tar\.xz|tar\.bz2)$")
ZIP = re.compile(r"\.(zip|whl)$")


@dataclass(frozen=True)
class Origin:
    """A file to read: which package or folder it is from, its place in there, and its path here."""

    package: str
    file: str
    path: Path

    @property
    def key(self) -> str:
        """What a result of this file depends on: a file of other size or time is read again."""
        status = self.path.stat()
        return f"{self.package}/{self.file} {status.st_size} {status.st_mtime_ns}"


def origins(places: Iterable[str], unpacked: Path) -> list[Origin]:
    """All structure files in some places, sorted.

    Args:
        places: files, folders, archives (tar, zip, wheels), or ``package:NAME`` for an installed package.
        unpacked: where archives are unpacked to, the structure files only.

    Raises:
        FewstepError: places that do not exist or hold no structure file; names all of them.
    """
    problems: list[str] = []
    found: list[Origin] = []
    for place in dict.fromkeys(places):
        try:
            here = sorted(_origins(place, unpacked), key=lambda origin: origin.file)
        except (OSError, tarfile.TarError, zipfile.BadZipFile, PackageNotFoundError) as error:
            problems.append(f"{place}: {_reason(error)}")
            continue
        found += here
        problems += [] if here else [f"{place} holds no PDB or mmCIF file"]
    if problems:
        raise FewstepError(
            "; ".join(problems),
            "files, folders, tar and zip archives, wheels, package:NAME",
            "check the paths; unpack a Debian package with dpkg-deb -x",
        )
    return found


def _reason(error: Exception) -> str:
    if isinstance(error, PackageNotFoundError):
        return "no such package is installed"
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _origins(place: str, unpacked: Path) -> Iterator[Origin]:
    if place.startswith(PACKAGE):
        yield from _installed(place.removeprefix(PACKAGE))
        return
    path = Path(place)
    path.stat()
    if path.is_dir():
        yield from _within(path, path.resolve().name)
    elif TAR.search(path.name) or ZIP.search(path.name):
        label = ZIP.sub("", TAR.sub("", path.name))
        yield from _within(unpack(path, unpacked / label), label)
    elif is_database(path):
        yield Origin(DATABASE, path.name, path)
    elif SUFFIXES.search(path.name):
        yield Origin(path.resolve().parent.name, path.name, path)


def _within(folder: Path, label: str) -> Iterator[Origin]:
    for path in folder.rglob("*"):
        if path.is_file() and (SUFFIXES.search(path.name) or is_database(path)):
            package = DATABASE if is_database(path) else label
            yield Origin(package, path.relative_to(folder).as_posix(), path)


def _installed(name: str) -> Iterator[Origin]:
    """Structure files that an installed distribution owns."""
    package = distribution(name)
    for file in package.files or ():
        if SUFFIXES.search(file.name):
            yield Origin(f"{package.name} {package.version}", str(file), Path(str(file.locate())))


def unpack(archive: Path, folder: Path) -> Path:
    """The structure files of an archive, below ``folder``; those that lie there are not unpacked again."""
    folder.mkdir(parents=True, exist_ok=True)
    if ZIP.search(archive.name):
        with zipfile.ZipFile(archive) as zipped:
            for name in filter(SUFFIXES.search, zipped.namelist()):
                _write(folder, name, zipped.read(name))
        return folder
    with tarfile.open(archive) as tarred:
        for member in tarred:
            handle = tarred.extractfile(member) if member.isfile() and SUFFIXES.search(member.name) else None
            if handle is not None:
                _write(folder, member.name, handle.read())
    return folder


def _write(folder: Path, name: str, content: bytes) -> None:
    """A file below the folder, whatever its name in the archive says; only if it is not there."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("..", "/", ".")]
    path = folder.joinpath(*parts)
    if path.is_file() and path.stat().st_size == len(content):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
