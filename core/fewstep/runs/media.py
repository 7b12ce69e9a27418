"""Small pieces of HTML for panels: players, pictures, downloads and tables, all inside the one file.

Every function returns a fragment that is safe to put into the report: text is escaped, media are data URIs, and
each piece has a label that a screen reader can say.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

PLAYED = ("audio", "video")
"""Major types of media that browsers play; the element bears the same name."""


def data_uri(mime: str, content: bytes) -> str:
    """``data:`` address of some bytes."""
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def player(mime: str, content: bytes, label: str, *, attributes: str = "controls") -> str:
    """A player with controls for anything that has a duration; the first half of ``mime`` names the element.

    Args:
        mime: such as "audio/wav" or "video/mp4".
        content: the whole file.
        label: what it is, for screen readers and as its caption.
        attributes: of the element, such as "controls loop muted".
    """
    element = mime.partition("/")[0]
    inner = (
        f'<{element} {attributes} preload="metadata" aria-label="{escape(label)}" '
        f'src="{data_uri(mime, content)}"></{element}>'
    )
    return captioned(inner, label)


def picture(content: bytes, label: str, *, mime: str = "image/png", caption: bool = True) -> str:
    """A picture with its label as alternative text and, if wanted, as caption."""
    inner = f'<img src="{data_uri(mime, content)}" alt="{escape(label)}" loading="lazy">'
    return captioned(inner, label) if caption else inner


def download(mime: str, content: bytes, name: str, label: str = "") -> str:
    """A link that saves a file out of the report."""
    text = escape(label or f"Save {name}")
    return f'<a class="download" download="{escape(name)}" href="{data_uri(mime, content)}">{text}</a>'


def captioned(inner: str, caption: str) -> str:
    """A figure: any fragment with a caption under it."""
    return f"<figure>{inner}<figcaption>{escape(caption)}</figcaption></figure>"


def columns(parts: Mapping[str, str]) -> str:
    """Fragments side by side under their headings; one under the other on a phone."""
    cells = "".join(f"<div><h4>{escape(name)}</h4>{inner}</div>" for name, inner in parts.items())
    return f'<div class="columns">{cells}</div>'


def table(head: Sequence[str], body: Sequence[Sequence[str]], caption: str) -> str:
    """A table of plain texts that scrolls sideways on a phone.

    Args:
        head: column names.
        body: rows of texts.
        caption: what the table says, read first by a screen reader.
    """
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = "".join(f"<tr>{_cells(row)}</tr>" for row in body)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def png(pixels: np.ndarray) -> bytes:
    """A PNG file of (H, W) gray or (H, W, 3) colored uint8 pixels, row 0 at the top. PNG specification, section 5.

    Raises:
        ValueError: for another shape or dtype.
    """
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise ValueError(f"a picture is (H, W) or (H, W, 3) uint8, got {pixels.shape} {pixels.dtype}")
    height, width = pixels.shape[:2]
    color = 0 if pixels.ndim == 2 else 2
    lines = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    body = zlib.compress(lines.tobytes(), 9)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _cells(row: Sequence[str]) -> str:
    first, rest = row[0], row[1:]
    return f'<th scope="row">{escape(first)}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in rest)
