"""The same picture gives the same model input, however a device wrote it down."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from prioritizer.errors import Unprocessable
from prioritizer.imaging import preprocessing, resampling
from prioritizer.imaging.preprocessing import (
    GreyScale,
    Lut,
    Preprocessing,
    Window,
    display_picture,
    grey_table,
    normalised,
    raw_words,
    robust_range,
    shrink,
    square_picture,
    stored_values,
    through_lut,
    through_window,
)
from prioritizer.learning.cohorts.dataset import read_picture

SPEC = Preprocessing(id="test", size=32, resize="squash", mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
PADDED = replace(SPEC, resize="pad")
GREY8 = GreyScale(bits_allocated=8, bits_stored=8, signed=False)
GREY12 = GreyScale(bits_allocated=16, bits_stored=12, signed=False, window=Window(center=2048, width=4096))
FILM8 = np.random.default_rng(1).integers(0, 256, (48, 40)).astype(np.uint8)
FILM12 = np.random.default_rng(2).integers(0, 4096, (48, 40)).astype(np.uint16)


def same(first: np.ndarray, second: np.ndarray) -> bool:
    return bool(np.abs(first - second).max() <= 1e-6)


def pillow(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(picture.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))


# --- pairs that show the same picture ------------------------------------------------------------------------


def test_monochrome1_is_monochrome2_upside_down():
    negative = square_picture(255 - FILM8, replace(GREY8, inverted=True), SPEC)
    assert same(negative, square_picture(FILM8, GREY8, SPEC))


def test_monochrome1_is_inverted_after_the_window():
    # PS3.3 C.11.2.1.2: the window works on stored values; inverting first would show another range.
    window = Window(center=1000, width=500)
    shown = square_picture(FILM12, replace(GREY12, window=window), SPEC)
    inverted = square_picture(FILM12, replace(GREY12, window=window, inverted=True), SPEC)
    assert same(inverted, 1 - shown)


def test_twelve_bits_in_sixteen_are_eight_bits_scaled():
    # 255 x 16 = 4080: this window spreads the twelve-bit values over black to white as the eight-bit ones are.
    twelve = square_picture(
        FILM8.astype(np.uint16) * 16, replace(GREY12, window=Window(center=2040, width=4080, function="LINEAR_EXACT")), SPEC
    )
    assert same(twelve, square_picture(FILM8, GREY8, SPEC))


def test_sixteen_bits_are_eight_bits_times_257():
    sixteen = GreyScale(
        bits_allocated=16, bits_stored=16, signed=False, window=Window(center=32767.5, width=65535, function="LINEAR_EXACT")
    )
    assert same(square_picture(FILM8.astype(np.uint16) * 257, sixteen, SPEC), square_picture(FILM8, GREY8, SPEC))


def test_signed_values_with_an_intercept_are_the_unsigned_ones():
    signed = (FILM12.astype(np.int32) - 2048).astype(np.int16)
    grey = replace(GREY12, signed=True, intercept=2048.0)
    assert same(square_picture(signed, grey, SPEC), square_picture(FILM12, GREY12, SPEC))


def test_a_falling_rescale_slope_is_an_inversion():
    falling = square_picture(4095 - FILM12, replace(GREY12, slope=-1.0, intercept=4095.0), SPEC)
    assert same(falling, square_picture(FILM12, GREY12, SPEC))


def test_a_modality_lut_is_the_rescale_it_tabulates():
    table = Lut(first=0, entries=(np.arange(4096) * 2 + 5).astype(np.uint16), bits=16)
    window = Window(center=3000, width=5000)
    by_table = square_picture(FILM12, replace(GREY12, modality_lut=table, window=window), SPEC)
    by_rescale = square_picture(FILM12, replace(GREY12, slope=2.0, intercept=5.0, window=window), SPEC)
    assert same(by_table, by_rescale)


def test_a_voi_lut_is_the_window_it_tabulates():
    window = Window(center=2000, width=1500)
    entries = np.rint(through_window(np.arange(4096.0), window) * 65535).astype(np.uint16)
    by_table = square_picture(FILM12, replace(GREY12, voi_lut=Lut(first=0, entries=entries, bits=16), window=None), SPEC)
    assert np.abs(by_table - square_picture(FILM12, replace(GREY12, window=window), SPEC)).max() < 1e-5


def test_a_voi_lut_goes_before_a_window():
    lut = Lut(first=0, entries=np.arange(4096, dtype=np.uint16) * 16, bits=16)
    both = square_picture(FILM12, replace(GREY12, voi_lut=lut, window=Window(center=1, width=2)), SPEC)
    assert same(both, square_picture(FILM12, replace(GREY12, voi_lut=lut, window=None), SPEC))


def test_overlay_bits_above_the_stored_ones_are_not_seen():
    junk = FILM12 | (np.random.default_rng(3).integers(0, 16, FILM12.shape).astype(np.uint16) << 12)
    assert same(square_picture(junk, GREY12, SPEC), square_picture(FILM12, GREY12, SPEC))


def test_big_endian_arrays_are_the_same_picture():
    assert same(square_picture(FILM12.astype(">u2"), GREY12, SPEC), square_picture(FILM12, GREY12, SPEC))


def test_a_view_with_gaps_is_the_same_picture():
    wide = np.zeros((48, 80), dtype=np.uint16)
    wide[:, ::2] = FILM12
    assert same(square_picture(wide[:, ::2], GREY12, SPEC), square_picture(FILM12, GREY12, SPEC))


@pytest.mark.parametrize("inverted", [False, True])
def test_padding_is_black_in_either_photometric_interpretation(inverted: bool):
    film = np.full((8, 8), 2000, dtype=np.uint16)
    film[:, :4] = 7
    shown = grey_table(replace(GREY12, padding=(7, 7), inverted=inverted))[film]
    assert (shown[:, :4] == 0).all()
    assert (shown[:, 4:] > 0.4).all()


@pytest.mark.parametrize("padding", [(5, 9), (9, 5)])
def test_a_padding_range_holds_both_its_ends(padding: tuple[int, int]):
    table = grey_table(replace(GREY12, padding=padding, intercept=1000.0))
    assert (table[5:10] == 0).all()
    assert table[4] > 0
    assert table[10] > 0


def test_padding_is_a_stored_value_and_not_a_rescaled_one():
    table = grey_table(replace(GREY12, signed=True, padding=(-2000, -2000), intercept=2048.0))
    assert table[np.uint16(-2000 & 0xFFFF)] == 0
    assert table[np.uint16(-1000 & 0xFFFF)] > 0


# --- the steps alone -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "center", "width", "values", "shown"),
    [
        # PS3.3 C.11.2.1.2.1: ((x - (c - 0.5)) / (w - 1) + 0.5); c = 2048, w = 4096 maps 0..4095 to the whole range
        ("LINEAR", 2048, 4096, [-1, 0, 4095, 4096], [0, 0, 1, 1]),
        ("LINEAR", 100, 11, [94, 94.5, 99.5, 104.5, 106], [0, 0, 0.5, 1, 1]),
        ("LINEAR", 2048, 1, [2047, 2047.5, 2048], [0, 0, 1]),
        # PS3.3 C.11.2.1.3.2: ((x - c) / w + 0.5)
        ("LINEAR_EXACT", 2048, 4096, [0, 2048, 4096, 5000], [0, 0.5, 1, 1]),
        ("LINEAR_EXACT", 0, 0.5, [-0.25, 0, 0.125, 0.25], [0, 0.5, 0.75, 1]),
        # PS3.3 C.11.2.1.3.1: 1 / (1 + exp(-4 (x - c) / w))
        ("SIGMOID", 2048, 4096, [0, 2048, 4096], [0.11920292202211755, 0.5, 0.8807970779778823]),
        ("SIGMOID", 0, 1e-8, [-1e9, 1e9], [0, 1]),
    ],
)
def test_window_functions_give_the_values_of_the_standard(function: str, center: float, width: float, values: list, shown: list):
    found = through_window(np.array(values, dtype=np.float64), Window(center=center, width=width, function=function))
    assert np.allclose(found, shown, atol=1e-12)


@pytest.mark.parametrize(
    ("window", "slug"),
    [
        (Window(center=1, width=0.5), "window"),
        (Window(center=1, width=0, function="LINEAR_EXACT"), "window"),
        (Window(center=1, width=-3, function="SIGMOID"), "window"),
        (Window(center=float("nan"), width=3), "window"),
        (Window(center=1, width=float("inf")), "window"),
        (Window(center=1, width=3, function="CUBIC"), "window"),
    ],
)
def test_an_impossible_window_is_unprocessable(window: Window, slug: str):
    with pytest.raises(Unprocessable) as caught:
        square_picture(FILM12, replace(GREY12, window=window), SPEC)
    assert caught.value.slug == slug


@pytest.mark.parametrize("slope", [0.0, float("nan"), float("inf"), 1e300])
@pytest.mark.parametrize("window", [None, Window(center=1, width=3)])
def test_an_impossible_rescale_is_unprocessable(slope: float, window: Window | None):
    with pytest.raises(Unprocessable) as caught:
        square_picture(FILM12, replace(GREY12, slope=slope, window=window), SPEC)
    assert caught.value.slug == "rescale"


def test_values_outside_a_lut_take_its_end_entries():
    lut = Lut(first=10, entries=np.array([100, 200, 300], dtype=np.uint16), bits=16)
    assert through_lut(np.array([-1e20, 9.0, 10.0, 11.4, 12.0, 13.0, 1e20]), lut).tolist() == [100, 100, 100, 200, 300, 300, 300]


def test_a_lut_may_begin_below_zero():
    lut = Lut(first=-2, entries=np.array([1, 2, 3], dtype=np.uint16), bits=16)
    assert through_lut(np.array([-3.0, -2.0, -1.0, 0.0, 1.0]), lut).tolist() == [1, 1, 2, 3, 3]


@pytest.mark.parametrize(
    "lut", [Lut(first=0, entries=np.array([], dtype=np.uint16), bits=16), Lut(first=0, entries=np.ones(2, np.uint16), bits=0)]
)
def test_an_empty_lut_is_unprocessable(lut: Lut):
    with pytest.raises(Unprocessable):
        grey_table(replace(GREY12, voi_lut=lut))


def test_an_eight_bit_voi_lut_reaches_white():
    lut = Lut(first=0, entries=np.arange(256, dtype=np.uint16), bits=8)
    assert grey_table(replace(GREY8, voi_lut=lut))[[0, 51, 255]].tolist() == pytest.approx([0, 0.2, 1])


def test_stored_values_are_the_low_bits_with_their_sign():
    found = stored_values(GreyScale(bits_allocated=16, bits_stored=12, signed=True))
    assert found[[0x0000, 0x07FF, 0x0800, 0x0FFF, 0xF7FF, 0xFFFF]].tolist() == [0, 2047, -2048, -1, 2047, -1]


@pytest.mark.parametrize(("allocated", "stored"), [(32, 12), (16, 17), (8, 0), (12, 12)])
def test_other_depths_are_unprocessable(allocated: int, stored: int):
    with pytest.raises(Unprocessable):
        stored_values(GreyScale(bits_allocated=allocated, bits_stored=stored, signed=False))


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.bool_])
def test_other_arrays_are_unprocessable(dtype: type):
    with pytest.raises(Unprocessable):
        raw_words(np.zeros((2, 2), dtype=dtype))


# --- without a window ------------------------------------------------------------------------------------------


def test_eight_bits_without_a_window_are_shown_as_stored():
    assert np.allclose(grey_table(GREY8, robust_range(FILM8, GREY8)), np.arange(256) / 255, atol=1e-7)


def test_eight_bits_are_not_stretched_to_what_the_film_holds():
    film = np.full((32, 32), 100, dtype=np.uint8)
    assert np.allclose(square_picture(film, GREY8, SPEC), 100 / 255, atol=1e-6)


def test_deeper_films_without_a_window_are_shown_from_quantile_to_quantile():
    film = np.arange(1000, 2000, dtype=np.uint16).reshape(20, 50)
    film[0, 0], film[-1, -1] = 0, 4095  # a collimation edge and a marker
    low, high = robust_range(film, replace(GREY12, window=None))
    assert (low, high) == (1004, 1994)


def test_a_stated_window_is_not_second_guessed():
    assert robust_range(FILM12, GREY12) is None


def test_padding_does_not_count_for_the_range():
    film = np.concatenate([np.zeros((50, 20), np.uint16), np.arange(1000, 2000, dtype=np.uint16).reshape(50, 20)], axis=1)
    with_padding = robust_range(film, replace(GREY12, window=None, padding=(0, 0)))
    assert with_padding == (1004, 1994)


def test_the_range_is_one_of_modality_values():
    film = np.arange(1000, 2000, dtype=np.uint16).reshape(20, 50)
    assert robust_range(film, replace(GREY12, window=None, slope=-1.0)) == (-1995, -1005)


def test_a_film_of_one_value_is_not_a_division_by_zero():
    picture = square_picture(np.full((9, 9), 77, dtype=np.uint16), replace(GREY12, window=None), SPEC)
    assert np.isfinite(picture).all()


def test_a_film_of_padding_alone_is_black():
    grey = replace(GREY12, window=None, padding=(0, 0))
    assert (square_picture(np.zeros((9, 9), np.uint16), grey, SPEC) == 0).all()


def test_counting_words_needs_no_copy_of_the_image_in_64_bits():
    image = np.broadcast_to(np.arange(4096, dtype=np.uint16), (4096, 4096))
    tracemalloc.start()
    try:
        counts = preprocessing.histogram(image, 16)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32 * 2**20
    assert (counts[:4096] == 4096).all()
    assert counts.sum() == image.size


def test_what_a_shutter_hides_is_not_counted():
    outside = np.zeros(FILM12.shape, dtype=bool)
    outside[:, :7] = True
    assert (preprocessing.histogram(FILM12, 16, outside) == np.bincount(FILM12[:, 7:].ravel(), minlength=65536)).all()


# --- resampling ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(224, 224), (225, 223), (448, 448), (100, 50), (1, 1), (2, 500), (1955, 1841), (223, 1)])
def test_resampling_is_pillow_bilinear(height: int, width: int):
    film = np.random.default_rng(height).integers(0, 256, (height, width)).astype(np.uint8)
    found = shrink(film, grey_table(GREY8), 224, 224)
    assert np.abs(found - pillow(film / 255, 224, 224)).max() < 1e-5


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=70)), st.integers(1, 80), st.integers(1, 80))
def test_resampling_is_pillow_bilinear_at_any_size(film: np.ndarray, height: int, width: int):
    found = shrink(film, grey_table(GREY8), height, width)
    assert found.shape == (height, width)
    assert np.abs(found - pillow(film / 255, height, width)).max() < 1e-5


def test_resampling_to_the_same_size_changes_nothing():
    assert np.allclose(shrink(FILM8, grey_table(GREY8), 48, 40), FILM8 / np.float32(255), atol=1e-7)


def test_weights_of_the_longest_side_hold_no_dense_matrix():
    bands = resampling.weight_bands(16384, 1600)
    assert sum(band.weights.nbytes for band in bands) < 2**20
    assert (bands[0].top, bands[0].start, bands[-1].bottom, bands[-1].end) == (0, 0, 1600, 16384)
    assert resampling.MAX_KEPT_WEIGHTS * 2**20 <= 64 * 2**20


def test_dense_weights_are_those_of_the_bands_and_sum_to_one():
    dense = resampling.resampling_weights(50, 9)
    assert dense.shape == (9, 50)
    assert np.allclose(dense.sum(axis=1), 1)
    assert all((dense[band.top : band.bottom, band.start : band.end] == band.weights).all() for band in resampling.weight_bands(50, 9))


def test_squash_fills_the_square():
    picture = square_picture(np.full((60, 20), 255, np.uint8), GREY8, SPEC)
    assert picture.shape == (32, 32)
    assert np.allclose(picture, 1)


def test_pad_keeps_the_aspect_between_black_bars():
    picture = square_picture(np.full((60, 30), 255, np.uint8), GREY8, PADDED)
    assert picture.shape == (32, 32)
    assert np.allclose(picture[:, 8:24], 1)
    assert (picture[:, :8] == 0).all()
    assert (picture[:, 24:] == 0).all()


def test_a_square_film_is_the_same_padded_or_squashed():
    square = FILM8[:40, :40]
    assert same(square_picture(square, GREY8, PADDED), square_picture(square, GREY8, SPEC))


def test_a_film_of_one_row_is_padded_and_not_lost():
    assert square_picture(np.full((1, 4000), 255, np.uint8), GREY8, PADDED).max() == pytest.approx(1)


def test_the_model_input_is_normalised_channel_by_channel():
    picture = np.full((1, 32, 32), 0.5, dtype=np.float32)
    found = normalised(picture, SPEC)
    assert found.dtype == np.float32
    assert found.shape == (1, 3, 32, 32)
    assert found[0, :, 0, 0].tolist() == pytest.approx([0.5, 0.0, -1 / 3], abs=1e-6)


# --- the picture for people -------------------------------------------------------------------------------------


def test_the_display_picture_keeps_the_aspect_and_the_longest_side():
    assert display_picture(np.zeros((200, 100), np.uint8), GREY8, 50).shape == (50, 25)


def test_the_display_picture_is_never_enlarged():
    shown = display_picture(FILM8, GREY8, 1000)
    assert shown.dtype == np.uint8
    assert (shown == FILM8).all()


def test_the_display_picture_shows_what_the_network_sees():
    big = np.random.default_rng(4).integers(0, 4096, (96, 96)).astype(np.uint16)
    seen = square_picture(big, GREY12, SPEC)
    assert np.abs(display_picture(big, GREY12, 32) / 255 - seen).max() <= 0.5 / 255 + 1e-6


# --- training and serving ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(224, 224), (300, 200), (32, 32)])
def test_training_reads_the_picture_that_serving_sees(tmp_path: Path, shape: tuple[int, int]):
    film = np.random.default_rng(5).integers(0, 256, shape).astype(np.uint8)
    Image.fromarray(film).save(tmp_path / "film.png")
    assert (read_picture(tmp_path / "film.png", SPEC) == square_picture(film, GREY8, SPEC)).all()


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(st.sampled_from([np.dtype(np.uint16), np.dtype(np.int16)]), (6, 5)),
    st.integers(1, 16),
    st.booleans(),
    st.booleans(),
    st.none()
    | st.builds(
        Window, center=st.floats(-1e6, 1e6), width=st.floats(1, 1e6), function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"])
    ),
    st.floats(-1e4, 1e4).filter(lambda slope: abs(slope) > 1e-6),
)
def test_every_film_becomes_a_picture_from_black_to_white(
    film: np.ndarray, bits: int, signed: bool, inverted: bool, window: Window | None, slope: float
):
    grey = GreyScale(bits_allocated=16, bits_stored=bits, signed=signed, inverted=inverted, window=window, slope=slope)
    picture = square_picture(film, grey, SPEC)
    assert picture.dtype == np.float32
    assert np.isfinite(picture).all()
    assert picture.min() >= 0
    assert picture.max() <= 1 + 1e-5


@settings(max_examples=50, deadline=None)
@given(st.floats(0.6, 1.8), st.integers(0, 2**31))
def test_an_equalised_picture_knows_no_tone_curve(gamma: float, seed: int):
    picture = np.random.default_rng(seed).random((60, 50)).astype(np.float32)
    curved = (0.1 + 0.8 * picture**gamma).astype(np.float32)
    # 256 levels: where the curve is flat several greys fall into one.
    np.testing.assert_allclose(preprocessing.equalised(curved), preprocessing.equalised(picture), atol=0.06)


def test_an_equalised_picture_has_every_grey_alike_often():
    picture = np.random.default_rng(1).normal(0.4, 0.05, (200, 200)).clip(0, 1).astype(np.float32)
    shares = np.histogram(preprocessing.equalised(picture), bins=10, range=(0, 1))[0] / picture.size
    np.testing.assert_allclose(shares, 0.1, atol=0.03)


def test_equalising_by_hand():
    picture = np.array([[0.0, 0.0], [0.5, 1.0]], dtype=np.float32)
    toned = preprocessing.equalised(picture)
    assert toned[0, 0] == pytest.approx(0.25)  # the middle of the darkest half
    assert toned[1, 1] == pytest.approx(0.875)


def test_the_order_of_greys_is_kept_and_a_flat_picture_stays_flat():
    ramp = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    assert (np.diff(preprocessing.equalised(ramp).ravel()) >= 0).all()
    flat = preprocessing.equalised(np.full((30, 30), 0.3, dtype=np.float32))
    assert np.isfinite(flat).all()
    assert flat.min() == flat.max()


def test_black_bars_are_added_after_equalising():
    spec = preprocessing.Preprocessing(id="t", size=40, resize="pad", mean=(0.0,) * 3, std=(1.0,) * 3, tone="equalised")
    grey = preprocessing.GreyScale(bits_allocated=8, bits_stored=8, signed=False)
    picture = preprocessing.square_picture(np.random.default_rng(1).integers(0, 256, (80, 40), dtype=np.uint8), grey, spec)
    assert (picture[:, :10] == 0).all()
    assert picture[:, 10:30].mean() == pytest.approx(0.5, abs=0.02)
