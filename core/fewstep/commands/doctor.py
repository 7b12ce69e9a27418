"""``fewstep doctor``: what this machine and this environment can do, and what stands in the way."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from fewstep.commands._output import show_json, show_lines, show_table


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Look at interpreter, torch, devices, disk, every extra, every plugin.

    Exit code 1 when fewstep itself cannot work here: a base requirement is not met, torch does not import, or a
    plugin is broken. An extra that is not installed is no fault.

    Examples: fewstep doctor · fewstep doctor --json
    """
    machine, faults = _machine()
    states, more = _extras_and_plugins()
    faults += more
    if as_json:
        show_json({"machine": machine, "extras": states, "faults": faults})
    else:
        show_table("", ("", "here"), list(machine.items()))
        show_table(
            "",
            ("extra", "state"),
            [(state["extra"], "ready" if state["ready"] else "not installed") for state in states],
        )
        show_lines(
            "To install:",
            [f"{state['install']}    # {state['needs']}" for state in states if state["install"]],
        )
        show_lines("Faults:", faults)
    if faults:
        raise typer.Exit(1)


def _machine() -> tuple[dict[str, str], list[str]]:
    """Facts about the machine, and what is wrong with them."""
    import fewstep

    facts = {
        "fewstep": fewstep.__version__,
        "python": f"{platform.python_version()} ({platform.machine()}, {platform.system()})",
        "processors": str(
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        ),
        "free disk here": f"{shutil.disk_usage(Path.cwd()).free / 2**30:.1f} GiB",
    }
    try:
        import torch
    except (ImportError, OSError) as error:
        return facts, [f"torch does not import: {error}"]
    facts["torch"] = str(torch.__version__)
    facts["accelerators"] = ", ".join(_accelerators(torch)) or "none: runs use the processor"
    return facts, []


def _accelerators(torch: Any) -> list[str]:
    """Names of the devices that torch sees."""
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _extras_and_plugins() -> tuple[list[dict[str, Any]], list[str]]:
    """Each extra's state, and the faults of base requirements and plugins."""
    from fewstep.plugins.discovery import OWN
    from fewstep.plugins.loader import registry
    from fewstep.plugins.readiness import extras, readiness

    states = []
    for extra in extras(OWN):
        state = readiness(OWN, extra)
        states.append({
            "extra": extra,
            "ready": state.ready,
            "install": state.install,
            "needs": ", ".join(map(str, state.missing)),
        })  # fmt: skip
    base = readiness(OWN)
    faults = [] if base.ready else [f"fewstep itself {base}"]
    faults += [
        f"plugin {one.name} ({one.distribution}): {one.reason}" for one in registry().plugins if one.failed
    ]
    return states, faults
