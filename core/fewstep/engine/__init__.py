"""How it is trained: a plan goes in, a shelf of trained modules comes out."""

from fewstep.engine.assembly import assemble, check, problems
from fewstep.engine.checkpoint import CheckpointError
from fewstep.engine.execute import FrozenError, execute
from fewstep.engine.settings import AssemblyError, NonFiniteError, Settings, Stopped, Watch

__all__ = [
    "AssemblyError",
    "CheckpointError",
    "FrozenError",
    "NonFiniteError",
    "Settings",
    "Stopped",
    "Watch",
    "assemble",
    "check",
    "execute",
    "problems",
]
