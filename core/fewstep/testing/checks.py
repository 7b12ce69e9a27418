"""What a conformance check is: a named law that a component must obey, runnable with or without pytest."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewstep.protocol import Tree, tensors, tree_map


@dataclass(frozen=True)
class Check:
    """One law.

    Args:
        name: a sentence with underscores, stable: authors name it in EXPECTED_FAILURES.
        run: raises AssertionError (or anything) if the law is broken.
        since: protocol number in which the law appeared.
    """

    name: str
    run: Callable[[], None]
    since: tuple[int, int] = (0, 1)


@dataclass(frozen=True)
class Outcome:
    """What a check found: ok, or the reason in words and the full trace."""

    name: str
    ok: bool
    reason: str = ""
    trace: str = ""


def run_checks(checks: Iterable[Check]) -> list[Outcome]:
    """Run all checks; a broken one never stops the rest."""
    return [_run(check) for check in checks]


def named(prefix: str, checks: Iterable[Check]) -> Iterator[Check]:
    """The checks with a prefix before their names ("recipe/name: law")."""
    for check in checks:
        yield Check(f"{prefix}: {check.name}", check.run, check.since)


def same(a: Tree, b: Tree, tolerance: float = 0.0) -> bool:
    """Whether two trees agree leaf by leaf, in shape and to an absolute tolerance."""
    left, right = tensors(a), tensors(b)
    return len(left) == len(right) and all(_close(x, y, tolerance) for x, y in zip(left, right, strict=True))


def finite(tree: Tree) -> bool:
    """Whether every floating leaf is finite."""
    return all(bool(torch.isfinite(leaf).all()) for leaf in tensors(tree) if leaf.is_floating_point())


def floating(tree: Tree) -> bool:
    """Whether every leaf is a floating tensor: a state that one can differentiate through."""
    return all(leaf.is_floating_point() for leaf in tensors(tree))


def reversed_rows(tree: Tree) -> Tree:
    """The batch in reverse order."""
    return tree_map(lambda leaf: leaf.flip(0) if isinstance(leaf, Tensor) and leaf.ndim else leaf, tree)


def untouched_generator(fn: Callable[[], Any]) -> bool:
    """Whether ``fn`` leaves torch's global generator as it was."""
    before = torch.get_rng_state()
    fn()
    return bool(torch.equal(before, torch.get_rng_state()))


def _run(check: Check) -> Outcome:
    try:
        check.run()
    except Exception as error:  # noqa: BLE001 - a check of foreign code may raise anything; it is a finding, not a crash
        return Outcome(check.name, False, str(error) or type(error).__name__, traceback.format_exc())
    return Outcome(check.name, True)


def _close(x: Tensor, y: Tensor, tolerance: float) -> bool:
    if x.shape != y.shape:
        return False
    if not x.is_floating_point() or tolerance == 0.0:
        return bool(torch.equal(x, y))
    return bool(torch.allclose(x, y, rtol=tolerance, atol=tolerance))
