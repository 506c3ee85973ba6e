"""Three-dimensional positions of visual tokens."""

from __future__ import annotations

import numpy as np

from vlm2vec.model.families.qwen_inputs import Grid, _mrope_positions


def test_text_alone_counts_up_in_all_three() -> None:
    assert _mrope_positions(3, [], []).tolist() == [[0, 1, 2]] * 3


def test_a_picture_spreads_from_where_the_text_stopped_and_the_text_goes_on_behind_its_larger_side() -> None:
    # One text token, a picture of 2 x 3 visual tokens, two text tokens.
    positions = _mrope_positions(9, [np.arange(1, 7)], [Grid(1, 4, 6)])
    assert positions.tolist() == [
        [0, 1, 1, 1, 1, 1, 1, 4, 5],
        [0, 1, 1, 1, 2, 2, 2, 4, 5],
        [0, 1, 2, 3, 1, 2, 3, 4, 5],
    ]


def test_the_text_behind_a_long_video_goes_on_above_its_last_time_step() -> None:
    # Three time steps of 1 x 2 tokens: time reaches 2, so the text goes on at 3, where transformers would take 2 again.
    positions = _mrope_positions(7, [np.arange(6)], [Grid(3, 2, 4)])
    assert positions.tolist() == [[0, 0, 1, 1, 2, 2, 3], [0, 0, 0, 0, 0, 0, 3], [0, 1, 0, 1, 0, 1, 3]]
