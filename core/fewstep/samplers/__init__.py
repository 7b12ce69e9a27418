"""How samples are drawn: solvers as plain generators, few-step students, contenders of a product."""

from fewstep.samplers.contenders import one_call_sampler, solver_sampler, student_sampler
from fewstep.samplers.solvers import Solver, ancestral, ddim, euler, heun, renoise
from fewstep.samplers.student import FewStep, FewStepTokens, student_times

__all__ = [
    "FewStep",
    "FewStepTokens",
    "Solver",
    "ancestral",
    "ddim",
    "euler",
    "heun",
    "one_call_sampler",
    "renoise",
    "solver_sampler",
    "student_sampler",
    "student_times",
]
