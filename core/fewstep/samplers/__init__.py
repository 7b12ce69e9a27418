"""How samples are drawn: solvers as plain generators, few-step students, contenders of a product."""

from fewstep.samplers.contenders import (
    Sharpened,
    at_noise_scale,
    one_call_sampler,
    solver_sampler,
    student_sampler,
)
from fewstep.samplers.hybrid import hybrid_sampler
from fewstep.samplers.policy import FewStepPolicy, student_for
from fewstep.samplers.router import router_sampler
from fewstep.samplers.solvers import (
    Gamma,
    Sde,
    Solver,
    ancestral,
    ddim,
    dpmpp_2m,
    euler,
    flow_map,
    heun,
    renoise,
)
from fewstep.samplers.stack import prediction_stack
from fewstep.samplers.student import FewStep, FewStepTokens, Rule, is_flow_map, rule_for, student_times

__all__ = [
    "FewStep",
    "FewStepPolicy",
    "FewStepTokens",
    "Rule",
    "Gamma",
    "Sde",
    "Sharpened",
    "Solver",
    "ancestral",
    "at_noise_scale",
    "ddim",
    "dpmpp_2m",
    "euler",
    "flow_map",
    "heun",
    "hybrid_sampler",
    "is_flow_map",
    "one_call_sampler",
    "prediction_stack",
    "renoise",
    "router_sampler",
    "rule_for",
    "solver_sampler",
    "student_sampler",
    "student_for",
    "student_times",
]
