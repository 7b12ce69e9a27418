"""Text and JSON Lines out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from fewstep.protocol import Batch, Tree
from fewstep_text.tokenizer import Tokenizer


def write_texts(x: Tree, batch: Batch, folder: Path, *, tokenizer: Tokenizer) -> Sequence[Path]:
    """``samples.txt``, one text per line, and ``samples.jsonl`` with text, prefix and token ids.

    Args:
        x: tokens (B, L), or a mapping that holds them as "tokens".
        batch: what they answer; ``extra["prefix"]`` says how they were asked to begin.
        folder: made if it is absent.
        tokenizer: ids to text.
    """
    lines = [_record(row, tokenizer) for row in tokens_of(x).tolist()]
    for line, begin in zip(lines, _prefixes(batch, tokenizer, len(lines)), strict=True):
        line["prefix"] = begin
    folder.mkdir(parents=True, exist_ok=True)
    plain, records = folder / "samples.txt", folder / "samples.jsonl"
    plain.write_text("".join(f"{line['text']}\n" for line in lines), encoding="utf-8")
    records.write_text(
        "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8"
    )
    return [plain, records]


def tokens_of(x: Tree) -> Tree:
    """The (B, L) tokens of a product's samples."""
    return x["tokens"] if isinstance(x, Mapping) else x


def _record(row: Sequence[int], tokenizer: Tokenizer) -> dict[str, object]:
    return {"text": tokenizer.decode(row), "tokens": list(row)}


def _prefixes(batch: Batch, tokenizer: Tokenizer, count: int) -> list[str]:
    given = batch.extra.get("prefix")
    if given is None:
        return [""] * count
    return [tokenizer.decode([i for i in row if i < tokenizer.size]) for row in given.tolist()]
