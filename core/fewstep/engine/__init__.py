"""How it is trained: a plan goes in, a shelf of trained modules comes out."""

from fewstep.engine.assembly import assemble, check, problems
from fewstep.engine.checkpoint import CheckpointError
from fewstep.engine.execute import FrozenError, execute
from fewstep.engine.pairs import MakePairs, PairSource
from fewstep.engine.settings import AssemblyError, NonFiniteError, Settings, Stopped, Watch
from fewstep.engine.transfer import Transferred, control_between, control_from_lora, controlled, transfer

__all__ = [
    "AssemblyError",
    "CheckpointError",
    "FrozenError",
    "MakePairs",
    "NonFiniteError",
    "PairSource",
    "Settings",
    "Stopped",
    "Transferred",
    "Watch",
    "assemble",
    "check",
    "control_between",
    "control_from_lora",
    "controlled",
    "execute",
    "problems",
    "transfer",
]
