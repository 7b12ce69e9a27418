"""How it is trained: a plan goes in, a shelf of trained modules comes out."""

from fewstep.engine.assembly import assemble, check, problems
from fewstep.engine.checkpoint import CheckpointError
from fewstep.engine.execute import FrozenChanged, execute
from fewstep.engine.settings import AssemblyError, NonFinite, Settings, Stopped, Watch

__all__ = [
    "AssemblyError",
    "CheckpointError",
    "FrozenChanged",
    "NonFinite",
    "Settings",
    "Stopped",
    "Watch",
    "assemble",
    "check",
    "execute",
    "problems",
]
