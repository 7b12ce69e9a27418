"""Real English text that needs no download, cut into windows of tokens."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from fewstep.errors import FewstepError
from fewstep.protocol import Batch, Cond, Key
from fewstep_text.alphabet import ALPHABET
from fewstep_text.tokenizer import Tokenizer, fold

Corpus = Literal["python-topics", "bible", "file"]

BLOCK = 4096
"""Characters per block; blocks go to the training or to the judging part in turn."""


def read(corpus: Corpus, path: str | None = None) -> str:
    """The raw text.

    Args:
        corpus: Python's own help topics (standard library), the King James Bible (Debian packages ``bible-kjv`` and
            ``bible-kjv-text``), or a text file.
        path: the file, for ``corpus="file"``.

    Raises:
        FewstepError: the text is not on this machine, or cannot be read.
    """
    if corpus == "python-topics":
        return _topics()
    if corpus == "bible":
        return _bible()
    return _file(path)


def clean(text: str, alphabet: str = ALPHABET) -> str:
    """Case and accents folded, every run of foreign characters one space, punctuation once and beside its word."""
    known = re.escape(alphabet)
    text = re.sub(f"[^{known}]+", " ", fold(text, alphabet))
    text = re.sub(r" +(?=[.,;:!?])", "", text)
    text = re.sub(r"[.,;:!?]*([.,;:!?])", r"\1", text)
    return re.sub(r"\s+", " ", text).strip()


def split(text: str, shares: Sequence[float] = (0.6, 0.3, 0.1), block: int = BLOCK) -> list[str]:
    """Disjoint parts of one text, each made of whole blocks spread evenly over it.

    Args:
        text: clean text.
        shares: of the blocks; by default to train on, to train the judge on, and to take prompts from.
        block: characters per block.

    Raises:
        FewstepError: the text is too short for all parts to have a block.
    """
    blocks = [text[i : i + block] for i in range(0, len(text) - block + 1, block)]
    parts: list[list[str]] = [[] for _ in shares]
    for number, piece in enumerate(blocks, start=1):
        behind = [share * number - len(part) for share, part in zip(shares, parts, strict=True)]
        parts[behind.index(max(behind))].append(piece)
    if not all(parts):
        raise FewstepError(
            f"the corpus has only {len(text)} usable characters",
            f"at least {int(block / min(shares))}: disjoint parts train, judge and prompt",
            "give a longer text",
        )
    return ["".join(part) for part in parts]


@dataclass(frozen=True)
class Windows:
    """Random windows of a token stream: a source that is a pure function of its counter.

    Args:
        tokens: (N,) int64.
        length: L, tokens per window.
        size: B, windows per batch, all ranks together.

    Raises:
        FewstepError: the stream is shorter than one window.
    """

    tokens: Tensor
    length: int
    size: int

    def __post_init__(self) -> None:
        if len(self.tokens) <= self.length:
            raise FewstepError(
                f"the corpus has {len(self.tokens)} tokens, which is less than one window of {self.length}",
                "a corpus longer than data.length",
                "lower data.length or give a longer text",
            )

    def batch(self, index: int, key: Key) -> Batch:
        """The ``index``-th batch: x (B, L)."""
        x = self.draw(key.share(self.size), key.at("windows", index))
        return Batch(like=torch.zeros_like(x[:1]).expand_as(x), x=x)

    def draw(self, count: int, key: Key) -> Tensor:
        """(count, L) windows at random places."""
        start = key.integers((count,), len(self.tokens) - self.length)
        return self.tokens[start.unsqueeze(1) + torch.arange(self.length)]


@dataclass(frozen=True)
class Continuations:
    """Real windows whose last tokens are to be written: a source for students that fill one block.

    Args:
        windows: windows of context + block tokens.
        block: tokens to write.
        hidden_token: id that stands where nothing is written yet.
        openings: share of batches whose window is the block alone, so that a text can begin.
    """

    windows: Windows
    block: int
    hidden_token: int
    openings: float = 0.1

    def batch(self, index: int, key: Key) -> Batch:
        """Real text x (B, L); ``extra["prefix"]`` and ``cond.mask`` say where the block is."""
        x = self.windows.batch(index, key).x
        # Drawn, not counted: every n-th batch would always meet the same phase of a cycle.
        opens = float(key.at("opening", index).whole().uniform((1,))) < self.openings
        return self.ask(x[:, -self.block :] if opens else x)

    def ask(self, x: Tensor) -> Batch:
        """The batch that asks to write the last ``block`` tokens of x (B, L) again."""
        acts = (torch.arange(x.shape[1]) >= x.shape[1] - self.block).expand_as(x)
        prefix = torch.where(acts, self.hidden_token, x)
        return Batch(like=torch.zeros_like(x), x=x, cond=Cond(mask=acts), extra={"prefix": prefix})


def stream(text: str, tokenizer: Tokenizer) -> Tensor:
    """(N,) int64 tokens of a whole text."""
    return torch.tensor(tokenizer.encode(text), dtype=torch.int64)


def _topics() -> str:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise FewstepError(
            "this Python was installed without pydoc_data, the text of its help topics",
            "the whole standard library",
            "install it (Debian: libpython3-stdlib), or use -s data.corpus=file -s data.path=TEXT",
        ) from error
    return "\n".join(topics[name] for name in sorted(topics))


def _bible() -> str:
    program = shutil.which("bible")
    if program is None:
        raise FewstepError(
            "the King James Bible is not on this machine",
            "Debian's packages bible-kjv and bible-kjv-text",
            "apt install bible-kjv, or use -s data.corpus=python-topics",
        )
    done = subprocess.run(
        [program, "-f"], input="gen1:1-rev22:21\n", capture_output=True, text=True, check=False, timeout=120
    )
    verses = re.sub(r"(?m)^\S+ ?\d+:\d+ ", "", done.stdout)
    if done.returncode or len(verses) < BLOCK:
        raise FewstepError(
            f"{program} -f gave no text: {done.stderr.strip()}", "all verses", "apt install bible-kjv-text"
        )
    return verses


def _file(path: str | None) -> str:
    if not path:
        raise FewstepError("data.corpus=file needs data.path", "a text file", "add -s data.path=TEXT")
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FewstepError(
            f"cannot read data.path = {path}: {error}", "a text file in UTF-8", "correct data.path"
        ) from error
