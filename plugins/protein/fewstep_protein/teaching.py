"""A teacher that needs no training, as a stage of a plan."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from fewstep.protocol import Key, Shelf, Stage, Task


@dataclass(frozen=True)
class Given:
    """A task that puts a ready teacher on the shelf, so that later stages and samplers find it like a trained one."""

    teacher: nn.Module

    def run(self, shelf: Shelf, key: Key) -> Shelf:
        """The teacher, frozen."""
        return {"teacher": self.teacher.requires_grad_(False).eval()}


def given_stage(teacher: nn.Module) -> Stage:
    """The stage "teacher" of a plan whose teacher is ready."""

    def build(shelf: Shelf) -> Task:
        return Given(teacher)

    return Stage("teacher", build)
