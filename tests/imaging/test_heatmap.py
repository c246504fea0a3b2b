"""The overlay says what the model saw, on one scale, beside the anatomy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prioritizer.imaging.heatmap import AMBER, NOT_FOR_DIAGNOSIS, overlay_picture

FILM = np.full((800, 800), 96, dtype=np.uint8)
LINES = [NOT_FOR_DIAGNOSIS, "Triage mark: RAISED", "Bundle test", "Calibration test"]


def heat(value: float) -> np.ndarray:
    cells = np.zeros((7, 7), dtype=np.float32)
    cells[3, 3] = value
    return cells


def film_of(picture: np.ndarray) -> np.ndarray:
    return picture[:800]


def test_a_film_without_evidence_looks_like_one():
    drawn = film_of(overlay_picture(FILM, heat(0.0), 0.5, LINES))
    assert (drawn == 96).all()


def test_contributions_against_the_finding_are_not_drawn():
    drawn = film_of(overlay_picture(FILM, np.full((7, 7), -3.0, dtype=np.float32), 0.5, LINES))
    assert (drawn == 96).all()


def test_the_scale_is_fixed_and_not_stretched_to_each_film():
    weak = film_of(overlay_picture(FILM, heat(0.05), 0.5, LINES)).astype(int)
    strong = film_of(overlay_picture(FILM, heat(0.5), 0.5, LINES)).astype(int)
    assert 0 < np.ptp(weak[..., 0]) < np.ptp(strong[..., 0]) / 4


def test_colour_is_amber_only_so_red_never_falls_behind_green():
    drawn = film_of(overlay_picture(FILM, heat(0.5), 0.5, LINES)).astype(int)
    assert (drawn[..., 0] >= drawn[..., 1]).all()
    assert (drawn[..., 1] >= drawn[..., 2]).all()
    assert AMBER[0] > AMBER[1] > AMBER[2]


def test_the_strongest_colour_lies_where_the_strongest_cell_is():
    cells = np.zeros((7, 7), dtype=np.float32)
    cells[1, 5] = 0.4
    drawn = film_of(overlay_picture(FILM, cells, 0.5, LINES)).astype(int)
    row, column = np.unravel_index(np.argmax(drawn[..., 0] - drawn[..., 2]), (800, 800))
    assert abs(row - 1.5 * 800 / 7) < 20
    assert abs(column - 5.5 * 800 / 7) < 20


def test_a_padded_map_is_cut_to_the_film():
    tall = np.full((800, 720), 96, dtype=np.uint8)
    cells = np.zeros((7, 7), dtype=np.float32)
    cells[3, 3] = 0.5
    squashed = overlay_picture(tall, cells, 0.5, LINES)[:800]
    padded = overlay_picture(tall, cells, 0.5, LINES, padded=True)[:800]
    assert squashed.shape == padded.shape
    assert (padded != squashed).any()


def test_words_stand_below_the_film_and_never_on_it():
    with_words = overlay_picture(FILM, None, 0.5, LINES)
    assert (film_of(with_words) == 96).all()
    assert with_words[800:].max() > 200


def test_a_narrow_film_is_enlarged_so_that_the_words_fit():
    drawn = overlay_picture(np.zeros((64, 32), dtype=np.uint8), heat(1.0), 0.5, LINES)
    assert drawn.shape[1] == 720


def test_the_same_facts_draw_the_same_bytes():
    assert overlay_picture(FILM, heat(0.3), 0.5, LINES).tobytes() == overlay_picture(FILM, heat(0.3), 0.5, LINES).tobytes()


@pytest.mark.parametrize("line", ["x" * 400, "a b " * 100, "Zo\u00eb \u6771\u4eac\n\x1b[31m"])
def test_any_words_are_drawn_without_running_out_of_the_strip(line: str):
    assert overlay_picture(FILM, None, 0.5, [NOT_FOR_DIAGNOSIS, line]).shape[1] == 800


@given(st.lists(st.floats(width=32), min_size=4, max_size=4), st.floats(min_value=0.0, max_value=1e6))
def test_no_saliency_however_wild_breaks_the_picture(values: list[float], scale: float):
    cells = np.asarray(values, dtype=np.float32).reshape(2, 2)
    with np.errstate(all="ignore"):
        drawn = overlay_picture(np.zeros((40, 720), dtype=np.uint8), cells, scale, LINES)
    assert drawn.dtype == np.uint8
