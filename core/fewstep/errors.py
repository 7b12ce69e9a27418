"""The one error that people see: what happened, what was expected, what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FewstepError(Exception):
    """Something the user can mend. Printed without a traceback; the command ends with exit code 2.

    Args:
        what: what happened, in one or more lines.
        expected: what would have been right.
        todo: the next thing to do, a command where there is one.
    """

    def __init__(self, what: str, expected: str = "", todo: str = "") -> None:
        """Keep the three parts; the message is their lines."""
        self.what = what
        self.expected = expected
        self.todo = todo
        super().__init__(str(self))

    def __str__(self) -> str:
        """The three parts, one under the other."""
        lines = [self.what]
        if self.expected:
            lines.append(f"  expected: {self.expected}")
        if self.todo:
            lines.append(f"  to do:    {self.todo}")
        return "\n".join(lines)


def nearest(name: str, valid: Iterable[str], count: int = 1) -> str:
    """``"; did you mean 'width'?"``, or an empty string when nothing is near.

    Args:
        name: what was written.
        valid: what would have been accepted.
        count: how many names to offer.
    """
    found = difflib.get_close_matches(name, list(valid), n=count, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, found))}?" if found else ""
