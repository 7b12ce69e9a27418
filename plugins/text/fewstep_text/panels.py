"""The report's panel: texts side by side, each token colored by the step that revealed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import torch
from torch import Tensor

from fewstep.protocol import Drawn, Panel
from fewstep.runs import media
from fewstep_text.files import tokens_of
from fewstep_text.tokenizer import HIDDEN, Tokenizer


def timeline_panel(tokenizer: Tokenizer, rows: int = 6) -> Panel:
    """Samples of every contender; the color and the title of a token say when it appeared."""
    return Panel("Texts, and when each token appeared", lambda drawn: render(drawn, tokenizer, rows))


def render(drawn: Mapping[str, Drawn], tokenizer: Tokenizer, rows: int) -> str:
    """HTML: one column per contender with a legend of its steps, and the truth where there is one."""
    parts = {name: _contender(item, tokenizer, rows) for name, item in drawn.items()}
    truth = next((item.batch.x for item in drawn.values() if item.batch.x is not None), None)
    if truth is not None:
        texts = [tokenizer.decode(row) for row in tokens_of(truth)[:rows].tolist()]
        parts["real text"] = "".join(f'<p style="{TEXT}">{escape(text)}</p>' for text in texts)
    note = "<p>Light tokens were given or came early, dark ones late; point at a token, or read its title, for its step.</p>"
    return note + media.columns(parts)


TEXT = "font-family:ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere;margin:.3rem 0"


def revealed_at(path: Sequence[Tensor], final: Tensor, vocabulary: int) -> Tensor:
    """(B, L) the step that revealed each token, counted from 1; 0 = it was given.

    Args:
        path: visited states (B, L) before the last, the start first.
        final: the finished texts (B, L).
        vocabulary: V; tokens at or above it are hidden.
    """
    hidden = torch.zeros_like(final)
    for state in path:
        hidden = hidden + (state >= vocabulary).long()
    return hidden


def _contender(drawn: Drawn, tokenizer: Tokenizer, rows: int) -> str:
    final = tokens_of(drawn.x)[:rows]
    path = [tokens_of(state.x)[:rows] for state in drawn.path]
    steps = revealed_at(path[:-1], final, tokenizer.size)
    last = max(int(steps.max()), 1)
    lines = [_line(a, b, last, tokenizer) for a, b in zip(final.tolist(), steps.tolist(), strict=True)]
    calls = f"<p>{drawn.evaluations} network calls for {len(tokens_of(drawn.x))} texts.</p>"
    return calls + "".join(lines)


def _line(row: Sequence[int], steps: Sequence[int], last: int, tokenizer: Tokenizer) -> str:
    tokens = zip(tokenizer.pieces(row), steps, strict=True)
    inner = "".join(_token(piece, step, last) for piece, step in tokens)
    return f'<p style="{TEXT}" tabindex="0" aria-label="{escape("".join(tokenizer.pieces(row)))}">{inner}</p>'


def _token(piece: str, step: int, last: int) -> str:
    """Black on a blue that darkens with the step, never below the contrast of 7 to 1."""
    light = 97 - 27 * step / last
    when = f"step {step} of {last}" if step else "given"
    shown = HIDDEN if piece == HIDDEN else piece
    return (
        f'<span title="{when}" style="background:hsl(210 80% {light:.0f}%);color:#000">{escape(shown)}</span>'
    )
