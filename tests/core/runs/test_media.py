"""Pieces of HTML are self-contained, labelled and escaped."""

from __future__ import annotations

import base64
import zlib

import numpy as np
import pytest

from fewstep.runs import media


def test_a_player_is_the_element_of_its_kind_with_the_content_inside() -> None:
    piece = media.player("audio/wav", b"RIFF", "one <sentence>")
    assert piece.startswith("<figure><audio controls")
    assert base64.b64encode(b"RIFF").decode() in piece
    assert 'aria-label="one &lt;sentence&gt;"' in piece


def test_labels_cannot_break_out_of_their_attribute() -> None:
    assert '"><script>' not in media.picture(b"", '"><script>alert(1)</script>')


def test_a_png_holds_the_pixels_that_were_given() -> None:
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    file = media.png(pixels)
    assert file.startswith(b"\x89PNG")
    begin = file.index(b"IDAT") + 4
    length = int.from_bytes(file[begin - 8 : begin - 4], "big")
    lines = np.frombuffer(zlib.decompress(file[begin : begin + length]), np.uint8).reshape(4, 16)
    assert np.array_equal(lines[:, 1:].reshape(4, 5, 3), pixels)


@pytest.mark.parametrize("pixels", [np.zeros((2, 2)), np.zeros((2, 2, 4), np.uint8), np.zeros(3, np.uint8)])
def test_what_is_no_picture_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        media.png(pixels)


def test_a_table_names_its_rows_and_columns() -> None:
    piece = media.table(["who", "calls"], [["student", "1"]], "calls by contender")
    assert '<th scope="col">calls</th>' in piece
    assert '<th scope="row">student</th><td>1</td>' in piece
    assert "<caption>calls by contender</caption>" in piece
