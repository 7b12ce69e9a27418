"""Moving digits and their files."""

from __future__ import annotations

import pytest
import torch

from fewstep.errors import FewstepError
from fewstep.protocol import Batch, Cond, Key
from fewstep_video.data import GLYPH, ClipShape, MovingDigits, digits, paths, pixels, render
from fewstep_video.files import decode, encode, write_clips
from fewstep_video.panels import clips_panel, strip

SHAPE = ClipShape(frames=6, height=16, width=16)


def test_a_batch_is_a_function_of_its_counter():
    source = MovingDigits(SHAPE, rows=4)
    again, other = source.batch(3, Key(0)), source.batch(4, Key(0))
    assert torch.equal(source.batch(3, Key(0)).x, again.x)
    assert not torch.equal(again.x, other.x)


def test_two_ranks_share_the_batch_of_one():
    whole = MovingDigits(SHAPE, rows=4).batch(0, Key(0))
    halves = [MovingDigits(SHAPE, rows=4).batch(0, Key(0, shard=(rank, 2))) for rank in (0, 1)]
    assert torch.equal(whole.x, torch.cat([half.x for half in halves]))


def test_rows_that_ranks_cannot_share_are_refused():
    with pytest.raises(FewstepError, match="cannot be shared by 2"):
        MovingDigits(SHAPE, rows=3).batch(0, Key(0, shard=(0, 2)))


def test_held_out_digits_are_never_trained_on():
    (train, _), (test, _) = digits("train"), digits("test")
    assert len(train) + len(test) == 1797
    assert len(test) == 359


def test_a_digit_stays_on_the_canvas_and_keeps_its_ink():
    batch = MovingDigits(SHAPE, rows=32).batch(0, Key(0))
    ink = (pixels(batch.x) + 1).sum((2, 3, 4))
    assert torch.allclose(ink, ink[:, :1].expand_as(ink), atol=1e-3)


def test_a_digit_moves_by_its_stride_or_stands_along_an_axis():
    corners = paths(SHAPE, 64, 4, Key(0))
    assert corners.min() == 0
    assert corners.max() == SHAPE.height - GLYPH
    assert set(corners.diff(dim=1).abs().unique().tolist()) == {0, 4}


def test_on_a_low_canvas_every_digit_moves_sideways():
    steps = paths(ClipShape(6, 8, 16), 64, 4, Key(0)).diff(dim=1)
    assert steps[..., 0].abs().max() == 0
    assert steps[..., 1].abs().min() == 4


def test_a_digit_bounces_back_where_it_hits_a_wall():
    corners = paths(ClipShape(12, 16, 16), 64, 4, Key(0))
    steps = corners.diff(dim=1)
    turned = (steps[:, 1:] == -steps[:, :-1]) & (steps[:, 1:] != 0)
    at_wall = (corners[:, 1:-1] == 0) | (corners[:, 1:-1] == 8)
    assert turned.any()
    assert at_wall[turned].all()


def test_a_rendered_digit_is_the_image_at_its_corner():
    image = digits("train")[0][:1]
    clip = render(image, torch.tensor([[[3, 5]]]), ClipShape(1, 16, 16))
    assert torch.equal(clip[0, 0, 0, 3:11, 5:13], image[0])
    assert clip.sum() == image.sum() - (16 * 16 - 64)


def test_pixels_survive_the_video_file():
    clip = pixels(MovingDigits(SHAPE, rows=1).batch(0, Key(0)).x)[0]
    back = decode(encode(clip, scale=8))
    assert back.shape == (6, 3, 128, 128)
    assert (back[:, 0, 4::8, 4::8] - clip[:, 0]).abs().mean() < 0.02


def test_every_clip_gets_its_own_named_file(tmp_path):
    batch = MovingDigits(SHAPE, rows=2).batch(0, Key(0))
    written = write_clips(batch.x, batch, tmp_path / "new")
    labels = batch.cond.data["label"].tolist()
    assert [path.name for path in written] == [f"00-digit-{labels[0]}.mp4", f"01-digit-{labels[1]}.mp4"]
    assert decode(written[1]).shape[0] == 6


def test_clips_that_are_not_finite_are_refused_before_anything_is_written(tmp_path):
    batch = MovingDigits(SHAPE, rows=1).batch(0, Key(0))
    with pytest.raises(FewstepError, match="NaN"):
        write_clips(batch.x * float("nan"), batch, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_clip_of_the_wrong_shape_is_told_what_is_right():
    with pytest.raises(ValueError, match="channels 1 or 3"):
        encode(torch.zeros(4, 2, 16, 16))


def test_a_batch_without_classes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="label"):
        write_clips(torch.zeros(1, 2, 1, 16, 16), Batch(like=torch.zeros(1), cond=Cond()), tmp_path)


@pytest.mark.parametrize(
    ("frames", "size", "said"), [(0, 16, "at least one frame"), (4, 7, "8 pixels high and wide")]
)
def test_impossible_clips_are_refused(frames, size, said):
    with pytest.raises(ValueError, match=said):
        ClipShape(frames, size, 16)


def test_a_digit_that_does_not_move_is_refused():
    with pytest.raises(ValueError, match="stride"):
        paths(SHAPE, 1, 0, Key(0))


def test_no_clips_at_all_is_refused():
    with pytest.raises(ValueError, match="at least one clip"):
        SHAPE.like(0)


def test_a_strip_shows_all_frames_in_a_row():
    clip = pixels(MovingDigits(SHAPE, rows=1).batch(0, Key(0)).x)[0]
    picture = strip(clip, scale=2)
    assert picture.startswith(b"\x89PNG")
    width, height = int.from_bytes(picture[16:20], "big"), int.from_bytes(picture[20:24], "big")
    assert (width, height) == (6 * 33, 32)


def test_the_panel_plays_every_contender_beside_the_real_clips_with_text_for_all():
    from fewstep.protocol import Drawn

    batch = MovingDigits(SHAPE, rows=2).batch(0, Key(0))
    html = clips_panel().render(
        {"student": Drawn(batch.x, batch, 1, 0.1), "teacher": Drawn(batch.x, batch, 1, 0.1)}
    )
    assert html.count("<video ") == html.count("data:video/mp4") == 6
    assert html.count("controls") >= 6
    assert html.count("<img ") == html.count('alt="Frames of') == 6
    assert "http" not in html
