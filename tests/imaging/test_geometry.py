"""A raster is drawn upright, in its true shape, and only as far as its shutter shows it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from prioritizer.imaging.geometry import AS_STORED, Geometry, Shutter, outside_of, seen_share, turn_of, upright
from prioritizer.imaging.preprocessing import GreyScale, Preprocessing, Window, display_picture, film, square_picture

LETTER = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8)
"""What the reader is to see: rows run to the patient's left, columns to the feet."""
GREY8 = GreyScale(bits_allocated=8, bits_stored=8, signed=False)
GREY12 = GreyScale(bits_allocated=16, bits_stored=12, signed=False)
SPEC = Preprocessing(id="test", size=32, resize="squash", mean=(0.0,) * 3, std=(1.0,) * 3)


@pytest.mark.parametrize(
    ("stored", "directions"),
    [
        (LETTER, ("L", "F")),
        (LETTER[:, ::-1], ("R", "F")),
        (LETTER[::-1], ("L", "H")),
        (np.rot90(LETTER, 2), ("R", "H")),
        (np.rot90(LETTER), ("F", "R")),
        (np.rot90(LETTER, 3), ("H", "L")),
        (LETTER.T, ("F", "L")),
        (np.rot90(LETTER.T, 2), ("H", "R")),
        (LETTER, ("lf", "FR")),
    ],
)
def test_an_image_on_its_side_or_mirrored_is_turned_upright(stored: np.ndarray, directions: tuple[str, str]):
    turn = turn_of(*directions)
    assert turn is not None
    assert (upright(stored, turn) == LETTER).all()


@pytest.mark.parametrize("directions", [("A", "F"), ("L", "R"), ("", "F"), ("X", "Y"), ("F", "H")])
def test_directions_that_name_no_frontal_image_turn_nothing(directions: tuple[str, str]):
    assert turn_of(*directions) is None


@pytest.mark.parametrize(("aspect", "shape"), [(2.0, (120, 40)), (0.5, (60, 80)), (1.0, (60, 40))])
def test_pixels_that_are_not_square_are_drawn_in_true_shape(aspect: float, shape: tuple[int, int]):
    stored = np.zeros((60, 40), dtype=np.uint8)
    assert display_picture(stored, GREY8, 1000, Geometry(aspect=aspect)).shape == shape
    assert film(stored, GREY8, 1000, Geometry(aspect=aspect)).values.shape == shape
    assert display_picture(stored, GREY8, 1000, Geometry(aspect=aspect, transposed=True)).shape == shape[::-1]


def test_a_padded_network_sees_the_true_shape():
    stored = np.full((30, 60), 255, dtype=np.uint8)
    picture = square_picture(stored, GREY8, replace(SPEC, resize="pad"), Geometry(aspect=2.0))
    assert np.allclose(picture, 1)


def test_a_squashed_network_sees_the_turned_image():
    stored = np.random.default_rng(1).integers(0, 256, (48, 40)).astype(np.uint8)
    turned = square_picture(np.rot90(stored), GREY8, SPEC, turn_of("F", "R") or AS_STORED)
    assert np.allclose(turned, square_picture(stored, GREY8, SPEC), atol=1e-6)


SHUTTERS = {
    "rectangle": (Shutter(rectangle=(2, 4, 2, 3)), ["11111", "10001", "10001", "11111"]),
    "circle": (Shutter(circle=(2, 3, 1)), ["11011", "10001", "11011", "11111"]),
    "polygon": (Shutter(polygon=((1, 1), (1, 5), (4, 5))), ["00000", "10000", "11100", "11110"]),
    "both": (Shutter(rectangle=(2, 5, 1, 2), circle=(2, 3, 1)), ["11011", "10001", "11111", "11111"]),
    "beyond": (Shutter(rectangle=(-3, 99, 2, 99)), ["11111", "00000", "00000", "00000"]),
}


@pytest.mark.parametrize("kind", SHUTTERS)
def test_a_shutter_hides_what_lies_outside_every_shape(kind: str):
    shutter, expected = SHUTTERS[kind]
    hidden = outside_of(4, 5, Geometry(shutter=shutter))
    assert hidden is not None
    found = ["".join(str(int(cell)) for cell in row) for row in hidden]
    if kind == "polygon":  # which pixels a slanted edge takes is the drawer's
        assert (found[0], found[3][:3], found[2][0]) == ("00000", "111", "1")
    else:
        assert found == expected


@pytest.mark.parametrize("kind", SHUTTERS)
def test_how_much_a_shutter_shows_is_about_the_same_on_a_coarse_raster(kind: str):
    shutter = replace(
        SHUTTERS[kind][0],
        rectangle=(200, 900, 100, 700) if kind in ("rectangle", "both") else None,
        circle=(400, 500, 300) if kind in ("circle", "both") else None,
        polygon=((1, 1), (1, 1000), (800, 1000)) if kind == "polygon" else (),
    )
    hidden = outside_of(800, 1000, Geometry(shutter=shutter))
    assert hidden is not None
    assert seen_share(800, 1000, Geometry(shutter=shutter)) == pytest.approx(1 - hidden.mean(), abs=0.01)


def test_a_circle_is_round_on_pixels_that_are_not_square():
    hidden = outside_of(9, 9, Geometry(aspect=2.0, shutter=Shutter(circle=(5, 5, 4))))
    assert hidden is not None
    seen = ~hidden
    assert (int(seen[4].sum()), int(seen[:, 4].sum())) == (9, 5)


def test_what_a_shutter_hides_is_black_and_takes_no_part_in_the_tones():
    inside = np.random.default_rng(2).integers(1000, 2000, (40, 40)).astype(np.uint16)
    white = np.full((60, 60), 4095, dtype=np.uint16)
    white[10:50, 10:50] = inside
    shutter = Geometry(shutter=Shutter(rectangle=(11, 50, 11, 50)))
    shown = display_picture(white, GREY12, 100, shutter)
    assert (shown[:10] == 0).all()
    assert (shown[10:50, 10:50] == display_picture(inside, GREY12, 100)).all()
    equalised = square_picture(white, GREY12, replace(SPEC, size=60, tone="equalised"), shutter)
    assert (equalised[:10] == 0).all()
    assert np.quantile(equalised[12:48, 12:48], [0.1, 0.9]) == pytest.approx([0.1, 0.9], abs=0.05)


def test_a_shutter_with_a_presentation_value_is_shown_in_it_and_black_to_the_network():
    stored = np.full((20, 20), 2048, dtype=np.uint16)
    grey = replace(GREY12, window=Window(center=2048, width=4096))
    shutter = Geometry(shutter=Shutter(rectangle=(6, 20, 1, 20), level=1.0))
    assert (display_picture(stored, grey, 20, shutter)[:, :5] == 255).all()
    assert (film(stored, grey, 20, shutter).values[:, :5] == 65535).all()
    assert (square_picture(stored, grey, replace(SPEC, size=20), shutter)[:, :5] == 0).all()
