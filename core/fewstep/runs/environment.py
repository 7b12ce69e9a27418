"""On what a run was made: versions, machine class, commit. No host names, no user names."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from packaging.requirements import Requirement

import fewstep


def environment(distribution: str, extra: str | None, device: str) -> dict[str, Any]:
    """What could explain a difference between two runs.

    Args:
        distribution: that of the recipe's plugin; its requirements' versions are recorded.
        extra: the recipe's extra.
        device: where it ran.
    """
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
        "commit": _commit(),
        "versions": _versions(distribution, extra),
    }


def _versions(distribution: str, extra: str | None) -> dict[str, str]:
    names = ["fewstep", distribution, *_required("fewstep", None), *_required(distribution, extra)]
    found = {name: _version(name) for name in dict.fromkeys(names)}
    return {name: version for name, version in found.items() if version}


def _required(distribution: str, extra: str | None) -> list[str]:
    try:
        lines = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return []
    parsed = [Requirement(line) for line in lines]
    return [r.name for r in parsed if r.marker is None or r.marker.evaluate({"extra": extra or ""})]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _commit() -> str | None:
    """Commit of the source tree, with "+changes" when it has some; None for an installed package."""
    tree = Path(fewstep.__file__).parent
    commit, changes = _git(tree, "rev-parse", "HEAD"), _git(tree, "status", "--porcelain", "--", ".")
    return f"{commit}{'+changes' if changes else ''}" if commit else None


def _git(tree: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(tree), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
