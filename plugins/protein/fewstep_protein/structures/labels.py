"""CATH labels of chains: class, architecture, topology (Orengo et al. 1997), for conditional generation.

Labels above the class come from a list that the user downloads (``cath-domain-list.txt``). The class alone can be
computed: it follows the share of secondary structure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewstep.errors import FewstepError

LEVELS = 3
"""C, A and T."""
CLASSES = {
    "1": "mainly alpha",
    "2": "mainly beta",
    "3": "alpha beta",
    "4": "few secondary structures",
}
MAINLY = 0.05
"""Share of the other kind that a mainly alpha or mainly beta chain may always have."""
RATIO = 6
"""So many times more of one kind than of the other is also mainly that kind."""
FEW = 0.2
"""Share of helix and strand together below which a chain has few secondary structures."""
CODE = re.compile(r"^(?=(\w+\.){0,3}\w+$)(\d+(\.\d+)*(\.x)*|x(\.x)*)$")
"""1, 1.10, 1.10.8, 3.x.x and 1.10.8.10: at most four levels; x leaves a level open, and then all below it."""


def class_of(helix: float, strand: float) -> str:
    """The class of a chain from its shares of helix and strand residues: computed here, not looked up.

    CATH assigns nine of ten classes from composition, contacts, alternation and parallel strands (Michie et al. 1996). This
    rule has the composition only, with bounds of our own: few secondary structures below FEW in all; mainly one kind
    if there is at most MAINLY of the other, or RATIO times less of it; alpha beta otherwise.
    """
    if helix + strand < FEW:
        return "4"
    if strand <= max(MAINLY, helix / RATIO):
        return "1"
    if helix <= max(MAINLY, strand / RATIO):
        return "2"
    return "3"


@dataclass(frozen=True)
class Vocabulary:
    """Which codes exist at each level, sorted; a label is a place in its list, and 0 says nothing."""

    levels: tuple[tuple[str, ...], ...]

    @staticmethod
    def of(codes: Iterable[str]) -> Vocabulary:
        """All codes and their beginnings; the four classes are always there, so that their indices never move."""
        known = set(codes) - {""}
        cut = [
            {_beginning(code, n) for code in known if code.count(".") >= n - 1} for n in range(1, LEVELS + 1)
        ]
        cut[0] |= set(CLASSES)
        return Vocabulary(tuple(tuple(sorted(level, key=_numbers)) for level in cut))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Indices per level, the empty one included: what an embedding needs."""
        return tuple(1 + len(level) for level in self.levels)

    def indices(self, code: str) -> tuple[int, int, int]:
        """(C, A, T) of a code of this vocabulary; what it leaves open is 0.

        Raises:
            FewstepError: not a code, or one that these data do not have.
        """
        if code and not CODE.match(code):
            raise FewstepError(
                f"{code!r} is no CATH code",
                "numbers and x, separated by points",
                "for instance 1.10.8 or 3.x.x",
            )
        named = [part for part in code.split(".") if part not in ("", "x")][:LEVELS]
        found = [self._index(".".join(named[:n]), n) for n in range(1, len(named) + 1)]
        c, a, t = [*found, 0, 0, 0][:LEVELS]
        return c, a, t

    def _index(self, code: str, level: int) -> int:
        here = self.levels[level - 1]
        if code not in here:
            known = ", ".join(here[:12]) + (", ..." if len(here) > 12 else "")
            raise FewstepError(
                f"these data have no {code}",
                f"one of {known}" if here else "no label of this level: only classes are known",
                "leave that level open with x, or harvest with --cath",
            )
        return here.index(code) + 1


def _beginning(code: str, levels: int) -> str:
    return ".".join(code.split(".")[:levels])


def _numbers(code: str) -> tuple[int, ...]:
    return tuple(int(part) for part in code.split("."))


def read_domain_list(path: Path) -> dict[str, str]:
    """C.A.T of every chain in a CathDomainList file, by entry and chain ("1oai_A").

    A line holds a domain's name (entry, chain, number: 1oaiA00), then C, A, T, H and more, separated by blanks.
    A chain of several domains has the levels that all of them share.

    Raises:
        FewstepError: no such file, or lines of another form.
    """
    if not path.is_file():
        raise FewstepError(f"there is no file {path}", "cath-domain-list.txt", "check the path")
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.match(r"^(\w{4})(\w)\d\d\s+(\d+)\s+(\d+)\s+(\d+)\b", line)
        if not match:
            raise FewstepError(
                f"{path}, line {number}: {line[:40]!r}",
                "a domain's name and its numbers C, A, T: 1oaiA00 1 10 8 10",
                "give the file that CATH calls cath-domain-list.txt",
            )
        chain, code = f"{match[1].lower()}_{match[2]}", ".".join(match.groups()[2:])
        found[chain] = shared_levels([found.get(chain, code), code])
    return found


def shared_levels(codes: Sequence[str]) -> str:
    """The levels in which all codes agree: "" if not even their class is one."""
    agreed = []
    for parts in zip(*(code.split(".") for code in codes), strict=False):
        if len(set(parts)) > 1:
            break
        agreed.append(parts[0])
    return ".".join(agreed)
