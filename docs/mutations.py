"""Break the mathematics on purpose, one place at a time, and see whether the tests notice.

Every mutation replaces one piece of a file of the core in a copy: a sign, a stop-gradient, r and 1/r, a weight. The tests
that it names must then fail. Type ``python docs/mutations.py`` to write docs/mutations.md (minutes); ``--only WORD`` runs
those whose family or change holds the word and prints instead. Exit code 1 if any mutation survives.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from recipes import table

TOP = Path(__file__).resolve().parents[1]
PAGE = Path(__file__).with_name("mutations.md")
BEGIN, END = "<!-- mutations: python docs/mutations.py -->", "<!-- end of mutations -->"
ORACLES, INVARIANCES = (
    "tests/core/objectives/test_gaussian_oracles.py",
    "tests/core/objectives/test_invariances.py",
)


@dataclass(frozen=True)
class Mutation:
    """One way to be wrong.

    Args:
        family: whose mathematics it breaks.
        change: what it does, in words.
        file: below core/fewstep.
        before: what stands there, exactly once.
        after: what takes its place.
        tests: what must notice, as given to pytest.
    """

    family: str
    change: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]


MUTATIONS: tuple[Mutation, ...] = (
    Mutation(
        "processes",
        "velocity: sign of the noise's slope",
        "processes/gaussian.py",
        "return _times(slope_x0, est.x0) + _times(slope_eps, self.eps(xt, est, t))",
        "return _times(slope_x0, est.x0) - _times(slope_eps, self.eps(xt, est, t))",
        ("tests/core/processes/test_gaussian_laws.py",),
    ),
    Mutation(
        "processes",
        "jump: alpha of the wrong end",
        "processes/gaussian.py",
        "_times(self.alpha(s) - kept * self.alpha(t), est.x0)",
        "_times(self.alpha(t) - kept * self.alpha(t), est.x0)",
        ("tests/core/processes/test_gaussian_laws.py",),
    ),
    Mutation(
        "processes",
        "reverse SDE: eta instead of its square",
        "processes/gaussian.py",
        "kept = closer.clamp(0, 1) ** eta**2",
        "kept = closer.clamp(0, 1) ** eta",
        ("tests/core/objectives/test_stochastic_solvers.py",),
    ),
    Mutation(
        "pairs",
        "the first state of the path is scaled at the wrong time",
        "objectives/pairs.py",
        "shown = begun(float(grid[0])), {t: begun(t) for t in times[:1]}",
        "shown = begun(float(grid[0])), {t: begun(float(grid[-1])) for t in times[:1]}",
        ("tests/core/objectives/test_pairs.py",),
    ),
    Mutation(
        "progressive",
        "t' and t'' change places",
        "objectives/progressive.py",
        "there = half(half(zt, 2 * index), 2 * index + 1)",
        "there = half(half(zt, 2 * index + 1), 2 * index)",
        ("tests/core/objectives/test_rounds.py",),
    ),
    Mutation(
        "progressive",
        "the clean end is forgotten",
        "objectives/progressive.py",
        "aim = _where(index == len(times) - 1, _as(there, zt), landing(process, zt, there, t, end))",
        "aim = landing(process, zt, there, t, end)",
        ("tests/core/objectives/test_rounds.py",),
    ),
    Mutation(
        "guidance",
        "w instead of g = 1 + w",
        "objectives/guidance.py",
        "return 1 + w",
        "return w",
        ("tests/core/objectives/test_rounds.py",),
    ),
    Mutation(
        "guidance",
        "c + g (c - u)",
        "protocol/denoiser.py",
        "return free + spread(scale.to(given.dtype), given) * (given - free)",
        "return given + spread(scale.to(given.dtype), given) * (given - free)",
        ("tests/core/protocol/test_keys_and_values.py",),
    ),
    Mutation(
        "consistency",
        "the target keeps its graph",
        "objectives/flow_map.py",
        '        with torch.no_grad(), same_randomness(step.key.at("dropout")):\n            aim',
        '        with same_randomness(step.key.at("dropout")):\n            aim',
        ("tests/core/objectives/test_invariances.py",),
    ),
    Mutation(
        "consistency",
        "the two passes draw different dropout",
        "objectives/flow_map.py",
        '        with same_randomness(step.key.at("dropout")):\n            own',
        '        with same_randomness(step.key.at("else")):\n            own',
        ("tests/core/objectives/test_flow_maps.py", "tests/core/objectives/test_trajectory_maps.py"),
    ),
    Mutation(
        "consistency",
        "Heun forgets its second slope",
        "objectives/pair_solvers.py",
        "return _moved(xt, tree_map(lambda a, b: (a + b) / 2, slope, slope_ahead), s - t)",
        "return _moved(xt, slope, s - t)",
        ("tests/core/objectives/test_flow_maps.py",),
    ),
    Mutation(
        "consistency",
        "the boundary is forgotten",
        "objectives/flow_map.py",
        "edge = t <= process.t_min",
        "edge = t < 0",
        ("tests/core/objectives/test_flow_maps.py", "tests/core/objectives/test_trajectory_maps.py"),
    ),
    Mutation(
        "consistency",
        "ECT: the gap shrinks toward clean times",
        "objectives/pairs_of_times.py",
        "(1 + self.boost * torch.sigmoid(-t))",
        "(1 + self.boost * torch.sigmoid(t))",
        ("tests/core/objectives/test_flow_maps.py",),
    ),
    Mutation(
        "segments",
        "an edge belongs to the segment above",
        "objectives/pairs_of_times.py",
        "which = torch.searchsorted(edges, first, right=True)",
        "which = torch.searchsorted(edges, first).clamp(min=1)",
        ("tests/core/objectives/test_trajectory_maps.py", "tests/core/objectives/test_flow_maps.py"),
    ),
    Mutation(
        "segments",
        "a pair reaches beyond its segment",
        "objectives/pairs_of_times.py",
        "second = torch.minimum(first + self.skip, end)",
        "second = (first + self.skip).clamp(max=self.steps)",
        ("tests/core/objectives/test_trajectory_maps.py", "tests/core/objectives/test_flow_maps.py"),
    ),
    Mutation(
        "sCM",
        "sign of the tangent",
        "objectives/scm.py",
        "return pulled - ramp * (scaled(here.xt, cos * sin / chart.scale) + turned)",
        "return pulled + ramp * (scaled(here.xt, cos * sin / chart.scale) + turned)",
        ("tests/core/objectives/test_continuous.py",),
    ),
    Mutation(
        "sCM",
        "the derivative loses cos sin",
        "objectives/scm.py",
        "(scaled(dx, cos * sin), dt * cos * sin)",
        "(scaled(dx, cos), dt * cos)",
        ("tests/core/objectives/test_continuous.py",),
    ),
    Mutation(
        "rCM",
        "pull without its root",
        "objectives/scm.py",
        "return cos * (1 - (ramp * sin).square()).sqrt()",
        "return cos * (1 - (ramp * sin).square())",
        ("tests/core/objectives/test_continuous.py",),
    ),
    Mutation(
        "MeanFlow",
        "sign of the identity",
        "objectives/mean_flow.py",
        "return flow - scaled(turned, ramp * far / room)",
        "return flow + scaled(turned, ramp * far / room)",
        ("tests/core/objectives/test_mean_flow.py",),
    ),
    Mutation(
        "MeanFlow",
        "the weight keeps its graph",
        "objectives/mean_flow.py",
        "total = (error / (error.detach() + self.constant) ** self.power).mean()",
        "total = (error / (error + self.constant) ** self.power).mean()",
        ("tests/core/objectives/test_mean_flow.py", "tests/core/objectives/test_continuous.py"),
    ),
    Mutation(
        "derivatives",
        "a difference to one side, halved",
        "objectives/tangent.py",
        "return tree_map(lambda a, b: (a - b) / (2 * h), ahead, behind)",
        "return tree_map(lambda a, b: (a - b) / h, ahead, behind)",
        ("tests/core/objectives/test_tangents.py",),
    ),
    Mutation(
        "score distillation",
        "fake and teacher change places",
        "objectives/score_distillation.py",
        "return scaled(process.geometry.difference(fake, real, seen.xt), weight)",
        "return scaled(process.geometry.difference(real, fake, seen.xt), weight)",
        ("tests/core/objectives/test_gaussian_oracles.py",),
    ),
    Mutation(
        "score distillation",
        "weight of the score: the square root",
        "objectives/weights.py",
        "return snr(process, t)\n\n\ndef truncated_snr",
        "return snr(process, t).sqrt()\n\n\ndef truncated_snr",
        ("tests/core/objectives/test_gaussian_oracles.py",),
    ),
    Mutation(
        "score distillation",
        "the direction keeps its graph",
        "protocol/student.py",
        "geometry.inner(geometry.coordinates(sample), detach(direction))",
        "geometry.inner(geometry.coordinates(sample), direction)",
        ("tests/core/protocol/test_keys_and_values.py",),
    ),
    Mutation(
        "f-distill",
        "forward KL: r becomes 1 / r",
        "objectives/ratios.py",
        '"""Factor r."""\n    return r\n',
        '"""Factor r."""\n    return 1 / r\n',
        ("tests/core/objectives/test_gaussian_oracles.py", "tests/core/objectives/test_ratios.py"),
    ),
    Mutation(
        "f-distill",
        "Jensen-Shannon: r becomes 1 / r",
        "objectives/ratios.py",
        "return r / (1 + r)",
        "return 1 / (1 + r)",
        ("tests/core/objectives/test_gaussian_oracles.py", "tests/core/objectives/test_ratios.py"),
    ),
    Mutation(
        "f-distill",
        "Neyman: r becomes 1 / r",
        "objectives/ratios.py",
        "return 2 / r\n",
        "return 2 * r\n",
        ("tests/core/objectives/test_gaussian_oracles.py", "tests/core/objectives/test_ratios.py"),
    ),
    Mutation(
        "f-distill",
        "the ratio of the student to the teacher",
        "objectives/ratios.py",
        "ratio = logit.clamp(-10, 10).exp()",
        "ratio = (-logit).clamp(-10, 10).exp()",
        (
            "tests/core/objectives/test_gaussian_oracles.py",
            "tests/core/objectives/test_ratios.py",
            "tests/core/objectives/test_score_distillation.py",
        ),
    ),
    Mutation(
        "TDM",
        "the target is the clean estimate",
        "objectives/corruption.py",
        "push = sigma.square() / width",
        "push = width",
        ("tests/core/objectives/test_first_proofs.py", "tests/core/objectives/test_score_distillation.py"),
    ),
    Mutation(
        "adversary",
        "the student loses on purpose",
        "objectives/discriminator.py",
        "return F.softplus(-logit)",
        "return F.softplus(logit)",
        ("tests/core/objectives/test_adversarial.py",),
    ),
    Mutation(
        "adversary",
        "R1 at the same point",
        "objectives/discriminator.py",
        "(of_real - near).square()",
        "(of_real - of_real).square()",
        ("tests/core/objectives/test_adversarial.py",),
    ),
    Mutation(
        "rewards",
        "the tilt goes down",
        "objectives/reward.py",
        "tree_map(lambda leaf: -strength * leaf, slope)",
        "tree_map(lambda leaf: strength * leaf, slope)",
        ("tests/core/objectives/test_rewards.py",),
    ),
    Mutation(
        "rewards",
        "effective sample size without its square",
        "objectives/reward.py",
        "return weight.sum().square() / weight.square().sum()",
        "return weight.sum() / weight.square().sum()",
        ("tests/core/objectives/test_rewards.py",),
    ),
    Mutation(
        "score identity",
        "sign of the Fisher term",
        "objectives/identity.py",
        "(1 - alpha) * inner(judged.delta, judged.delta)",
        "(alpha - 1) * inner(judged.delta, judged.delta)",
        ("tests/core/objectives/test_gaussian_oracles.py", "tests/core/objectives/test_identity.py"),
    ),
    Mutation(
        "score identity",
        "the fake is cut from the graph",
        "objectives/identity.py",
        "delta, toward = geometry.difference(real, fake, xt), geometry.difference(fake, own, xt)",
        "delta, toward = geometry.difference(real, fake, xt), geometry.difference(fake, own, xt.detach()).detach()",
        ("tests/core/objectives/test_identity.py",),
    ),
    Mutation(
        "SIM",
        "slope of the pseudo-Huber distance without its bend",
        "objectives/identity_family.py",
        "return scaled(gap, (geometry.inner(gap, gap) + self.c**2).rsqrt())",
        "return scaled(gap, geometry.inner(gap, gap).rsqrt())",
        ("tests/core/objectives/test_identity_family.py",),
    ),
    Mutation(
        "Uni-Instruct",
        "r stands still",
        "objectives/identity_family.py",
        "return (factor - slope) * own + 2 * factor * cross",
        "return factor * own + 2 * factor * cross",
        ("tests/core/objectives/test_identity_family.py",),
    ),
    Mutation(
        "Uni-Instruct",
        "the ratio moves the wrong way",
        "objectives/identity_family.py",
        "log = log + (slope * (x - x.detach())).flatten(1).sum(1)",
        "log = log - (slope * (x - x.detach())).flatten(1).sum(1)",
        ("tests/core/objectives/test_identity_family.py",),
    ),
    Mutation(
        "forgetting",
        "the teacher is asked about what is forgotten",
        "objectives/identity.py",
        "asked = sample.cond if self.override is None else self.override(sample.cond)",
        "asked = sample.cond",
        ("tests/core/objectives/test_forgetting.py",),
    ),
    Mutation(
        "preferences",
        "winner and loser change places",
        "objectives/preference.py",
        "wins = preference(rewards[0] - rewards[1], self.temperature)",
        "wins = preference(rewards[1] - rewards[0], self.temperature)",
        ("tests/core/objectives/test_preference.py",),
    ),
    Mutation(
        "preferences",
        "the reference is forgotten",
        "objectives/preference.py",
        "ratios.append(log_probability(sample) - known)",
        "ratios.append(log_probability(sample))",
        ("tests/core/objectives/test_preference.py",),
    ),
    Mutation(
        "policy gradient",
        "the baseline includes its own row",
        "objectives/ratio_policy.py",
        "others = (rows.sum(1, keepdim=True) - rows) / (size - 1)",
        "others = rows.sum(1, keepdim=True) / size",
        ("tests/core/objectives/test_policies.py",),
    ),
    Mutation(
        "several students",
        "every part sees all rows",
        "objectives/experts.py",
        "mine = (self.partition(seen.cond) == self.part).nonzero().squeeze(1)",
        "mine = (self.partition(seen.cond) >= 0).nonzero().squeeze(1)",
        ("tests/core/objectives/test_experts.py",),
    ),
    Mutation(
        "samplers",
        "the hand-over at the student's own time, whatever its process",
        "samplers/hybrid.py",
        "handover = same_noise(own, start, model.process)",
        "handover = start",
        ("tests/core/samplers/test_tools.py",),
    ),
    Mutation(
        "masks",
        "means count the padding",
        "protocol/geometry.py",
        'return total / real.flatten(1).sum(1).clamp(min=1) if self.reduction == "mean" else total',
        'return total / elements.flatten(1).shape[1] if self.reduction == "mean" else total',
        ("tests/core/objectives/test_invariances.py",),
    ),
    Mutation(
        "processes",
        "conversion scales by the inverse",
        "processes/matching.py",
        "ratio = _size(target, s) / _size(source, t)",
        "ratio = _size(source, t) / _size(target, s)",
        ("tests/core/processes/test_conversion.py", "tests/core/processes/test_matching.py"),
    ),
    Mutation(
        "score distillation",
        "the fake is not told the step",
        "objectives/critic.py",
        'return cond if knows == "per-step" else replace(cond, index=None)',
        "return replace(cond, index=None)",
        ("tests/core/objectives/test_multistep.py", "tests/core/objectives/test_invariances.py"),
    ),
    Mutation(
        "idempotence",
        "clean states at the wrong scale",
        "processes/matching.py",
        "scale = (alpha.square() + (sigma / process.sigma_data).square()).sqrt()",
        "scale = (alpha.square() + (sigma * process.sigma_data).square()).sqrt()",
        ("tests/core/objectives/test_idempotent.py", "tests/core/processes/test_matching.py"),
    ),
)


def survives(mutation: Mutation) -> tuple[bool, str, float]:
    """Whether the tests stay green under a mutation, the test that noticed, and the seconds it took."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "fewstep"
        shutil.copytree(TOP / "core" / "fewstep", copy, ignore=shutil.ignore_patterns("__pycache__"))
        file = copy / mutation.file
        file.write_text(mutated(mutation, file.read_text(encoding="utf-8")), encoding="utf-8")
        noticed = first_failure(mutation.tests, folder)
    return noticed == "", noticed, time.monotonic() - begun


@cache
def first_failure(tests: tuple[str, ...], folder: str = "") -> str:
    """The first test that fails with the core in ``folder`` (this checkout's by default); empty if all pass.

    Raises:
        RuntimeError: if pytest could not run them.
    """
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *tests]
    room = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    room |= {"PYTHONPATH": folder} if folder else {}
    done = subprocess.run(command, cwd=TOP, env=room, capture_output=True, text=True, check=False)
    noticed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.M)
    if done.returncode not in (0, 1) and not noticed:
        raise RuntimeError(
            f"pytest ended with {done.returncode} for {tests}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return noticed[0] if noticed else ""


def mutated(mutation: Mutation, text: str) -> str:
    """The text with the mutation in it.

    Raises:
        ValueError: if what it replaces is not there exactly once.
    """
    found = text.count(mutation.before)
    if found != 1:
        raise ValueError(
            f"{mutation.file} holds {mutation.before!r} {found} times; mend the list of mutations"
        )
    return text.replace(mutation.before, mutation.after)


def main() -> None:
    """Run the list and write or print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a word of the family or the change")
    word = parser.parse_args().only
    rows, alive = [], 0
    for mutation in (m for m in MUTATIONS if word in f"{m.family} {m.change}"):
        if broken := first_failure(mutation.tests):
            raise SystemExit(f"{broken} fails without any mutation; mend that first")
        survived, noticed, seconds = survives(mutation)
        alive += survived
        where = "**nobody**" if survived else f"`{noticed.rpartition('/')[2]}`"
        print(
            f"{'SURVIVES' if survived else 'noticed':<9}{seconds:5.1f} s  {mutation.family}: {mutation.change}  {noticed}",
            flush=True,
        )
        rows.append((mutation.family, mutation.change, f"`{mutation.file}`", where))
    told = table(("family", "change", "file", "first test that fails"), rows)
    if word:
        print(told)
    else:
        text = PAGE.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{told}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    raise SystemExit(1 if alive else 0)


if __name__ == "__main__":
    main()
