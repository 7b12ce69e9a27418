"""``python -m fewstep``: the program where its script is not on the path."""

from __future__ import annotations

from fewstep.cli import main

main()
