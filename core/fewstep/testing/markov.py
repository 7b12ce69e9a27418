"""The oracle of discrete objectives: a Markov chain of tokens, its exact posterior, and exact laws of samplers.

Shape legend: B batch, L positions, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fewstep.processes import Masked
from fewstep.processes.masked import NEVER
from fewstep.protocol import Cond
from fewstep.testing.exact import Exact


class MarkovTeacher(Exact):
    """Exact p(x^l | visible tokens) of a stationary first-order chain, by forward and backward messages.

    Args:
        process: masked tokens with the chain's vocabulary.
        transition: (V, V), rows sum to 1.
    """

    def __init__(self, process: Masked, transition: Tensor) -> None:
        """Keep the chain; its stationary law is the left eigenvector of the transition."""
        super().__init__(process, "logits")
        self.register_buffer("transition", transition.double())
        self.register_buffer("stationary", stationary_law(transition.double()))

    transition: Tensor
    stationary: Tensor

    def believe(self, xt: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """(B, L, V) log posterior where hidden, certainty where visible."""
        evidence = self._evidence(xt)
        forward, backward = self._messages(evidence)
        joint = forward * backward
        logits = (joint / joint.sum(-1, keepdim=True)).log().clamp(min=NEVER)
        found: Tensor = self.process.x0(logits, xt, t, "logits")
        return found

    def log_evidence(self, xt: Tensor) -> Tensor:
        """(B,) log-probability of the visible tokens of each state."""
        evidence = self._evidence(xt)
        forward = [self.stationary * evidence[:, 0]]
        for l in range(1, xt.shape[1]):  # noqa: E741
            forward.append(forward[-1] @ self.transition * evidence[:, l])
        return forward[-1].sum(-1).log()

    def _evidence(self, xt: Tensor) -> Tensor:
        size = self.process.vocabulary
        seen = nn.functional.one_hot(xt.clamp(max=size - 1), size).double()
        return torch.where((xt == self.process.hidden_token).unsqueeze(-1), torch.ones_like(seen), seen)

    def _messages(self, evidence: Tensor) -> tuple[Tensor, Tensor]:
        length = evidence.shape[1]
        ahead = [self.stationary * evidence[:, 0]]
        for place in range(1, length):
            ahead.append(ahead[-1] @ self.transition * evidence[:, place])
        back = [torch.ones_like(evidence[:, 0])]
        for place in range(length - 1, 0, -1):
            back.append((back[-1] * evidence[:, place]) @ self.transition.T)
        return torch.stack(ahead, 1), torch.stack(back[::-1], 1)


def stationary_law(transition: Tensor) -> Tensor:
    """(V,) left eigenvector of a transition matrix, by elimination without subtraction (Grassmann et al. 1985, GTH).

    A solver of LAPACK may round otherwise in another process, and a resumed run would meet another teacher.
    """
    left = transition.double().clone()
    for n in range(len(left) - 1, 0, -1):
        left[:n, n] /= left[n, :n].sum()
        left[:n, :n] += left[:n, n : n + 1] * left[n : n + 1, :n]
    law = torch.ones(len(left), dtype=torch.float64)
    for n in range(1, len(left)):
        law[n] = (law[:n] * left[:n, n]).sum()
    return law / law.sum()


def all_sequences(vocabulary: int, length: int) -> Tensor:
    """(V^L, L) every sequence, the last position running fastest."""
    return torch.cartesian_prod(*[torch.arange(vocabulary)] * length).reshape(-1, length)


def sequence_law(teacher: MarkovTeacher, length: int) -> Tensor:
    """(V^L,) exact probabilities of all sequences."""
    return teacher.log_evidence(all_sequences(teacher.process.vocabulary, length)).exp()


def sampler_law(model: Any, length: int, steps: int, *, differentiable: bool = False) -> Tensor:
    """(V^L,) exact law of k-step ancestral unmasking with any denoiser: no sampling error at all.

    Dynamic programme over the sets of revealed positions: f_B(x) gains f_A(x) rho^|B - A| (1 - rho)^(L - |B|)
    prod_(l in B - A) p(x^l | x_A), with rho = 1 / (k - i) in step i of k on the uniform grid.

    Args:
        model: a denoiser on a masked process.
        length: L; (V + 1)^L states are evaluated once per step.
        steps: k.
        differentiable: keep the graph to the model's parameters.
    """
    with torch.set_grad_enabled(differentiable):
        return _grown_law(model, length, steps)


def _grown_law(model: Any, length: int, steps: int) -> Tensor:
    sequences = all_sequences(model.process.vocabulary, length)
    law = {0: torch.ones(len(sequences), dtype=torch.float64)}
    for i, time in enumerate(model.process.grid(steps)[:steps].tolist()):
        table = _revealed(model, sequences, length, time)
        rho, grown = 1 / (steps - i), dict[int, Tensor]()
        for before, mass in law.items():
            held = {before: mass}  # times the probability of the tokens in B - A, one of them after the other
            for after in (b for b in range(2**length) if b & before == before):
                new = after ^ before
                if lowest := new & -new:
                    held[after] = held[after ^ lowest] * table[before][lowest.bit_length() - 1]
                factor = rho ** new.bit_count() * (1 - rho) ** (length - after.bit_count())
                if factor > 0:
                    grown[after] = grown.get(after, 0) + held[after] * factor
        law = grown
    return law[2**length - 1]


def _revealed(model: Any, sequences: Tensor, length: int, time: float) -> list[Tensor]:
    """For every set of visible positions the (L, V^L) probability that the model gives to each sequence's tokens."""
    process = model.process
    states = all_sequences(process.vocabulary + 1, length)
    t = torch.full((len(states),), time, dtype=torch.float64)
    belief = torch.softmax(model(states, t, Cond()).x0.double(), -1)
    digits = (process.vocabulary + 1) ** torch.arange(length - 1, -1, -1)
    found = []
    for subset in range(2**length):
        visible = torch.tensor([bool(subset >> place & 1) for place in range(length)])
        index = (torch.where(visible, sequences, process.hidden_token) * digits).sum(1)
        found.append(belief[index].gather(-1, sequences.unsqueeze(-1)).squeeze(-1).T.contiguous())
    return found


def divergence(p: Tensor, q: Tensor) -> float:
    """KL(p | q) in nats of two laws over the same points."""
    return float(torch.where(p > 0, p * (p.clamp(min=1e-300).log() - q.clamp(min=1e-300).log()), 0.0).sum())


def entropy(p: Tensor) -> float:
    """H(p) in nats."""
    return float(-torch.special.xlogy(p, p).sum())


def total_correlation(p: Tensor, vocabulary: int, length: int) -> float:
    """sum_l H(x^l) - H(x): the KL that a one-step factorized sampler cannot go below (Watanabe 1960)."""
    joint = p.reshape((vocabulary,) * length)
    rest = [tuple(d for d in range(length) if d != place) for place in range(length)]
    return sum(entropy(joint.sum(other)) for other in rest) - entropy(p)
