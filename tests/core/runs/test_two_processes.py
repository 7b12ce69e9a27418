"""Under torchrun both processes train; one folder, one report."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_two_processes_leave_one_run(ring: dict[str, str], tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    words += ["--master-addr", "127.0.0.1", "--master-port", port, "-m", "fewstep.cli"]
    words += ["run", "ring/points", "-p", "tiny", "-o", str(tmp_path), "-q"]
    done = subprocess.run(words, env=ring, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "ring" / "points").iterdir()
    assert json.loads((folder / "run.json").read_text())["status"] == "done"
    assert (folder / "report.html").is_file()
    assert done.stdout.count("report   ") == 1
