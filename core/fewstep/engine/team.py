"""The roles of one stage made ready to train: placed, sharded, frozen, averaged, and edited by the engine alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.engine.assembly import tensors_fit
from fewstep.engine.checkpoint import CheckpointError
from fewstep.engine.learner import Learner, edited
from fewstep.engine.ownership import copy_matching, fingerprint, own_state, owned_names, state_of
from fewstep.engine.sharding import local, reshard, sharded, whole
from fewstep.protocol import Assembly, Average, Growing, Phase, Regrow, Role, Step, at_step


class Team:
    """Roles, learners and averages of one stage.

    Args:
        assembly: checked, surgery done, on its device.
        shard: shard the roles over the process group.
        shapes: stored shapes of ``<role>/<name>`` that growing roles take before anything is made of them.
    """

    def __init__(
        self, assembly: Assembly, shard: bool = False, shapes: Mapping[str, torch.Size] | None = None
    ) -> None:
        """Resize, freeze all, find owners, build optimizers."""
        self.assembly = assembly
        self.asked = {name: assembly.objective.roles.get(name, Role()) for name in assembly.roles}
        resize(assembly.roles, shapes or {})
        self.owned = owned_names(assembly.roles, assembly.optimizers)
        for role in assembly.roles.values():
            role.requires_grad_(False).eval()
        self.roles: dict[str, nn.Module] = sharded(assembly.roles) if shard else dict(assembly.roles)
        self.sharded = self.roles.values() if shard else ()
        self.learners = {
            name: Learner(self.roles[name], optim, self.owned[name], self.asked[name].reset_every)
            for name, optim in assembly.optimizers.items()
        }
        self.averages = [Follower(self, name, average) for name, average in assembly.averages.items()]
        self.frozen = [
            n for n, role in self.asked.items() if not role.trainable and n not in assembly.averages
        ]
        self.targets = {n: a.of for n, a in assembly.averages.items() if a.when == "before"}
        self.growing = [n for n in self.learners if isinstance(self.roles[n], Growing)]
        self.initial = {n: self._copy(n) for n in self.learners if self.asked[n].reset_every}
        self.active: frozenset[str] = frozenset()
        states = {name: state_of(role) for name, role in assembly.roles.items()}
        # Views first and bases last, so that a module shared by two roles takes the mode of its owner.
        self.order = sorted(self.roles, key=lambda name: -sum(v.numel() for v in states[name].values()))
        self.shared = any(len(states[name]) > len(self.owned[name]) for name in states)

    def activate(self, phase: Phase | None) -> None:
        """Gradients and training mode for the roles of this phase, and for nobody else.

        A target average takes the training mode of the role that it follows, so that one key drops the same units of both
        (Song et al. 2023: the dropout of student and target is synchronized).
        """
        wanted = frozenset(phase.updates + phase.builds) if phase else frozenset()
        if wanted == self.active:
            return
        reshard(self.sharded)
        for name in self.learners.keys() & (wanted ^ self.active):
            for parameter in self.learners[name].parameters:
                parameter.requires_grad_(name in wanted)
        for name in self.order:
            training = self.targets.get(name, name) in wanted
            if self.shared or self.roles[name].training != training:
                self.roles[name].train(training)
        self.active = wanted

    def average(self, when: str, step: Step) -> None:
        """Move the averages of this moment."""
        for follower in self.averages:
            if follower.when == when:
                follower.move(step)

    def regrow(self, step: Step) -> None:
        """Make the edits that growing students ask for: parameter, moments, and the averages of it."""
        for name in self.growing:
            role: Any = self.roles[name]
            for edit in role.regrow(step):
                self.learners[name].regrow(edit)
                _edit(self.roles[name], edit)
                for average, spec in self.assembly.averages.items():
                    if spec.of == name:
                        _edit(self.roles[average], edit)

    def reset(self, done: int) -> None:
        """After ``done`` cycles: give roles that are due the weights they began with, and forget their moments.

        A role whose init itself trains returns to what that init has become.
        """
        for name, state in self.initial.items():
            if done % (self.asked[name].reset_every or 1):
                continue
            mine = own_state(self.roles[name], self.owned[name])
            for key, value in state.items():
                mine[key].copy_(value)
            origin = self.asked[name].init
            if origin in self.learners:
                copy_matching(self.roles[name], self.roles[origin])
            self.learners[name].forget()

    def fingerprints(self) -> dict[str, str]:
        """What the frozen roles are, on this rank."""
        return {name: fingerprint(own_state(self.roles[name], self.owned[name])) for name in self.frozen}

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds: all but frozen roles, which the stage rebuilds."""
        reshard(self.roles.values())
        roles = {n: own_state(r, self.owned[n]) for n, r in self.roles.items() if n not in self.frozen}
        return _flat("roles", roles) | _flat(
            "optimizers", {n: learner.state() for n, learner in self.learners.items()}
        )

    def restore(self, stored: Mapping[str, Any], load: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Take a checkpoint: ``stored`` says what it holds, ``load`` fills the given places."""
        places = {key: value for key, value in self.state().items() if key.startswith("roles/")}
        for name, learner in self.learners.items():
            places |= _flat("optimizers", {name: learner.template(_below(stored, f"optimizers/{name}/"))})
        filled = load(places)
        for name, learner in self.learners.items():
            learner.adopt(_below(filled, f"optimizers/{name}/"))

    def leaf(self, name: str) -> dict[str, Tensor]:
        """The whole state of a role, without what it shares with other frozen roles; every rank calls it."""
        reshard(self.roles.values())
        elsewhere = {
            id(v)
            for n in self.frozen
            if n != name
            for v in own_state_ids(self.assembly.roles[n], self.owned[n])
        }
        known = {
            key for key, value in state_of(self.assembly.roles[name]).items() if id(value) not in elsewhere
        }
        return whole({key: v.detach() for key, v in state_of(self.roles[name]).items() if key in known})

    def _copy(self, name: str) -> dict[str, Tensor]:
        return {key: value.clone() for key, value in own_state(self.roles[name], self.owned[name]).items()}


class Follower:
    """One running average: parameters follow, buffers are copied."""

    def __init__(self, team: Team, name: str, average: Average) -> None:
        """Pair the tensors."""
        self.when, self.average = average.when, average
        mine, other = state_of(team.roles[name]), state_of(team.roles[average.of])
        names = [key for key in mine if key in team.owned[name]]
        moving = [key for key in names if isinstance(mine[key], nn.Parameter)]
        self.pairs = [mine[key] for key in moving], [other[key] for key in moving]
        self.copied = [(mine[key], other[key]) for key in names if key not in set(moving)]

    @torch.no_grad()
    def move(self, step: Step) -> None:
        """Average <- decay * average + (1 - decay) * of; before ``start`` it copies."""
        decay = 0.0 if step.index < self.average.start else at_step(self.average.decay, step)
        mine, other = local(self.pairs[0]), local(self.pairs[1])
        if mine and decay == 0.0:
            torch._foreach_copy_(mine, other)
        elif mine:
            torch._foreach_lerp_(mine, other, 1.0 - decay)
        for target, source in self.copied:
            target.copy_(source)


def resize(roles: Mapping[str, nn.Module], shapes: Mapping[str, torch.Size]) -> None:
    """Let growing roles take stored shapes."""
    for name, role in roles.items():
        mine = _below(shapes, f"{name}/")
        if mine and isinstance(role, Growing):
            role.resize(mine)


def fill(name: str, module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a module the state it left a stage with.

    Raises:
        CheckpointError: if a tensor has no place in it.
    """
    resize({name: module}, {f"{name}/{key}": value.shape for key, value in state.items()})
    if strange := tensors_fit(module, state):
        raise CheckpointError(
            f"the saved {name!r} does not fit this plan: {', '.join(strange[:4])}",
            "the same roles",
            "use the version of fewstep that made it (environment.json names it), or train again",
        )
    mine = state_of(module)
    with torch.no_grad():
        for key, value in state.items():
            mine[key].copy_(value)


def own_state_ids(module: nn.Module, names: frozenset[str]) -> list[Tensor]:
    """The owned tensors themselves, whose identity says what is shared."""
    return [value for key, value in state_of(module).items() if key in names]


def _edit(module: nn.Module, edit: Regrow) -> None:
    parameter = module.get_parameter(edit.parameter)
    parameter.grad = None
    # The parameter object stays, so optimizer groups and averages go on holding it.
    parameter.data = edited(parameter, edit)


def _flat(head: str, states: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{head}/{name}/{key}": value for name, state in states.items() for key, value in state.items()}


def _below(state: Mapping[str, Any], head: str) -> dict[str, Any]:
    return {key.removeprefix(head): value for key, value in state.items() if key.startswith(head)}
