"""Sizes and patches of pictures, and positions of their tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PILImage

from vlm2vec.errors import InputError
from vlm2vec.model.families.qwen_inputs import (
    Grid,
    _check_pixel_limits,
    _image_patches,
    _mrope_positions,
    _smart_resize,
    _video_patches,
)


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((480, 640), (476, 644)),
        ((720, 1280), (728, 1288)),
        ((1080, 1920), (728, 1316)),
        ((2200, 1700), (1120, 868)),
        ((1344, 1344), (980, 980)),
        ((27, 500), (504, 504)),
        ((56, 56), (56, 56)),
    ],
)
def test_sizes_are_those_of_the_publication(size: tuple[int, int], resized: tuple[int, int]) -> None:
    assert _smart_resize(*size, min_pixels=3136, max_pixels=1_003_520) == resized


@given(height=st.integers(1, 20_000), width=st.integers(1, 20_000), tokens=st.integers(1, 2_000))
def test_every_size_becomes_multiples_of_28_under_the_limit(height: int, width: int, tokens: int) -> None:
    h, w = _smart_resize(height, width, min_pixels=784, max_pixels=784 * tokens)
    assert (h % 28, w % 28) == (0, 0)
    assert 784 <= h * w <= 784 * tokens


@pytest.mark.parametrize("limits", [(0, 784), (3136, 784), (100, 783)])
def test_limits_that_no_picture_meets_are_refused(limits: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"min_pixels={limits[0]}, max_pixels={limits[1]}"):
        _check_pixel_limits(*limits)


def test_patches_stand_in_blocks_of_two_by_two() -> None:
    # A 56 x 56 picture of 4 x 4 patches, each filled with its own number in reading order.
    numbers = np.arange(16, dtype=np.uint8).reshape(4, 4).repeat(14, 0).repeat(14, 1)
    patches, grid = _image_patches(PILImage.fromarray(numbers).convert("RGB"), 3136, 1_003_520)
    assert grid == (1, 4, 4)
    assert patches[:, 0].tolist() == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]
    assert (patches == patches[:, :1]).all()


def test_a_patch_holds_channel_then_time_then_pixels() -> None:
    frames = [PILImage.new("RGB", (56, 56), colour) for colour in [(1, 2, 3), (4, 5, 6)]]
    patches, grid = _video_patches(frames, 3136, 1_003_520)
    assert grid == (1, 4, 4)
    assert patches[0, ::196].tolist() == [1, 4, 2, 5, 3, 6]


def test_an_odd_number_of_frames_repeats_the_last_one() -> None:
    frames = [PILImage.new("L", (56, 56), value).convert("RGB") for value in (10, 20, 30)]
    patches, grid = _video_patches(frames, 3136, 1_003_520)
    assert grid == (2, 4, 4)
    assert patches[16, [0, 196]].tolist() == [30, 30]


def test_all_frames_take_the_size_of_the_first() -> None:
    frames = [PILImage.new("RGB", (112, 56)), PILImage.new("RGB", (500, 500))]
    _, grid = _video_patches(frames, 3136, 1_003_520)
    assert grid == (1, 4, 8)


# --- positions of three dimensions


def test_text_alone_counts_up_in_all_three() -> None:
    assert _mrope_positions(3, [], []).tolist() == [[0, 1, 2]] * 3


def test_a_picture_spreads_from_where_the_text_stopped_and_the_text_continues_behind_its_larger_side() -> None:
    # One text token, a picture of 2 x 3 visual tokens, two text tokens.
    positions = _mrope_positions(9, [np.arange(1, 7)], [Grid(1, 4, 6)])
    assert positions.tolist() == [
        [0, 1, 1, 1, 1, 1, 1, 4, 5],
        [0, 1, 1, 1, 2, 2, 2, 4, 5],
        [0, 1, 2, 3, 1, 2, 3, 4, 5],
    ]


def test_the_text_behind_a_long_video_continues_above_its_last_time_step() -> None:
    # Three time steps of 1 x 2 tokens: time reaches 2, so the text continues at 3; transformers takes 2 again.
    positions = _mrope_positions(7, [np.arange(6)], [Grid(3, 2, 4)])
    assert positions.tolist() == [[0, 0, 1, 1, 2, 2, 3], [0, 0, 0, 0, 0, 0, 3], [0, 1, 0, 1, 0, 1, 3]]
