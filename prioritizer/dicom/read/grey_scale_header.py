"""What a header says about grey, its weak values passed over: a value that means nothing costs itself and a warning, not the image.

Sources: PS3.3 C.7.6.3 (Image Pixel), C.11.1 (Modality LUT), C.11.2 (VOI LUT), C.7.5.1.1.2 (Pixel Padding), C.8.11.3 (DX Image).
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import zip_longest

from prioritizer.dicom.read.codecs import ImageShape
from prioritizer.dicom.read.elements import Elements, numbers, strings, tag_of, tags_of, whole, words_of
from prioritizer.dicom.read.look_up_tables import MODALITY, VOI, Range, Warn, first_table
from prioritizer.errors import Unprocessable
from prioritizer.imaging.grey_scale import WINDOW_FUNCTIONS, GreyScale, Window, stored_range

GREY_SCALE_TAGS = tags_of(
    "SOPClassUID", "PresentationIntentType", "PixelIntensityRelationshipSign", "PhotometricInterpretation", "SamplesPerPixel",
    "LossyImageCompression", "PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleIntercept", "RescaleSlope", "WindowCenter",
    "WindowWidth", "VOILUTFunction", MODALITY, VOI, "PresentationLUTShape",
)  # fmt: skip
FOR_PROCESSING_CLASS = "1.2.840.10008.5.1.4.1.1.1.1.1"
STEEPEST = 1e30
"""Rescale Slope and Intercept beyond this mean nothing: a float64 would overflow on the way."""
MIN_TONES = 2.0
"""Where all values of an image lie closer together than this, a window is meant exactly: LINEAR takes off a whole value."""


def for_processing(elements: Elements) -> bool:
    """The pixels are the detector's, not prepared for eyes, by SOP class or (0008,0068) Presentation Intent Type."""
    sop_class = next(iter(strings(elements, "SOPClassUID")), "")
    intent = next(iter(strings(elements, "PresentationIntentType")), "")
    return sop_class == FOR_PROCESSING_CLASS or "PROCESSING" in intent.upper()


def photometric_of(elements: Elements, warn: Warn) -> str:
    """MONOCHROME1 or MONOCHROME2; raises Unprocessable where the image is not one grey channel."""
    photometric = "".join(re.findall(r"[A-Z0-9_]+", " ".join(strings(elements, "PhotometricInterpretation")).upper()))
    samples = whole(elements, "SamplesPerPixel")
    if photometric.startswith("PALETTE"):
        raise Unprocessable("palette", "the image is in palette colour, not grey")
    if samples not in (None, 0, 1) or photometric.startswith(("RGB", "YBR")):
        raise Unprocessable("colour", "the image is in colour, a radiograph is grey")
    if not photometric:
        inverse = _lut_shape(elements) == "INVERSE"
        warn(f"Photometric Interpretation is empty: read as {'MONOCHROME1' if inverse else 'MONOCHROME2'}")
        return "MONOCHROME1" if inverse else "MONOCHROME2"
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise Unprocessable("header", "Photometric Interpretation is neither MONOCHROME1 nor MONOCHROME2")
    return photometric


def _lut_shape(elements: Elements) -> str:
    return next(iter(strings(elements, "PresentationLUTShape")), "").upper()


def grey_scale_of(elements: Elements, shape: ImageShape, warn: Warn, *, shift: int = 0, overshoot: bool = False) -> GreyScale:
    """The whole grey scale of an image whose raster is known. Raises Unprocessable where it cannot be rendered truly."""
    grey = GreyScale(
        bits_allocated=shape.bits_allocated,
        bits_stored=shape.bits_stored,
        signed=shape.signed,
        shift=shift,
        overshoot=overshoot,
        padding=_padding(elements, shape),
    )
    low, high = stored_range(grey)
    slope, intercept = _rescale(elements, warn)
    modality_lut = first_table(elements, MODALITY, Range(low, high), warn)
    if modality_lut is not None:
        slope, intercept = 1.0, 0.0
        inputs = Range(float(modality_lut.entries.min()), float(modality_lut.entries.max()))
    else:
        inputs = Range(*sorted((low * slope + intercept, high * slope + intercept)))
    voi_lut = first_table(elements, VOI, inputs, warn)
    return replace(
        grey,
        inverted=_inverted(elements, slope, warn),
        slope=slope,
        intercept=intercept,
        modality_lut=modality_lut,
        voi_lut=voi_lut,
        window=None if voi_lut is not None else _first_window(elements, inputs, warn),
    )


def _inverted(elements: Elements, slope: float, warn: Warn) -> bool:
    """True where the smallest value after the VOI is white."""
    sign = whole(elements, "PixelIntensityRelationshipSign")
    if for_processing(elements):
        warn("FOR PROCESSING: raw values of the detector, drawn by Pixel Intensity Relationship Sign")
        if sign in (1, -1):
            # PS3.3 C.8.11.3.1.2: with 1, low stored values are little X-ray, and what absorbs much is drawn white.
            return (sign == 1) == (slope > 0)
    monochrome1, shape = photometric_of(elements, warn) == "MONOCHROME1", _lut_shape(elements)
    if monochrome1 and shape == "IDENTITY":
        warn("Photometric Interpretation MONOCHROME1 and Presentation LUT Shape IDENTITY disagree: drawn as MONOCHROME1")
    # DX states both of one inversion (PS3.3 C.8.11.3.1.2), so they are never applied twice.
    return monochrome1 or shape == "INVERSE"


def _rescale(elements: Elements, warn: Warn) -> tuple[float, float]:
    slope, intercept = (next(iter(numbers(elements, keyword)), None) for keyword in ("RescaleSlope", "RescaleIntercept"))
    if slope is not None and not 0 < abs(slope) < STEEPEST:
        warn("Rescale Slope means nothing and was passed over")
        slope = None
    if intercept is not None and abs(intercept) >= STEEPEST:
        warn("Rescale Intercept means nothing and was passed over")
        intercept = None
    for keyword, name in (("RescaleSlope", "Rescale Slope"), ("RescaleIntercept", "Rescale Intercept")):
        if None in numbers(elements, keyword)[:1] and any(strings(elements, keyword)):
            warn(f"{name} is no number and was passed over")
    return 1.0 if slope is None else slope, 0.0 if intercept is None else intercept


def _first_window(elements: Elements, inputs: Range, warn: Warn) -> Window | None:
    """The first pair of Window Center and Window Width that can be meant, with the function that fits it."""
    centers, widths = numbers(elements, "WindowCenter"), numbers(elements, "WindowWidth")
    function = _function(elements, warn) if centers and widths else "LINEAR"
    for center, width in zip_longest(centers, widths):
        if center is None or width is None or not 1e-9 <= width <= STEEPEST or abs(center) > STEEPEST:
            warn("a Window Center or Window Width means nothing and was passed over")
            continue
        exact = function == "LINEAR" and (width < 1 or (inputs.high - inputs.low < MIN_TONES and width < 2 * MIN_TONES))
        if exact:
            warn("the window is narrower than whole values: read as LINEAR_EXACT")
        if function != "SIGMOID" and not (center - width / 2 < inputs.high and center + width / 2 > inputs.low):
            warn("a window that no value of the image can reach was passed over")
            continue
        return Window(center=center, width=width, function="LINEAR_EXACT" if exact else function)
    return None


def _function(elements: Elements, warn: Warn) -> str:
    """(0028,1056) VOI LUT Function; LINEAR where it is absent or unknown."""
    written = next(iter(strings(elements, "VOILUTFunction")), "")
    function = re.sub(r"[\W_]+", "_", written.upper()).strip("_")
    if function and function not in WINDOW_FUNCTIONS:
        warn("the VOI LUT Function is unknown: read as LINEAR")
    return function if function in WINDOW_FUNCTIONS else "LINEAR"


def _padding(elements: Elements, shape: ImageShape) -> tuple[int, int] | None:
    """(0028,0120) Pixel Padding Value to (0028,0121) Pixel Padding Range Limit, both inclusive, as the pixels hold them.

    Devices write them as US although the pixels are signed, and the reverse: only their bits count.
    """
    value, limit = (words_of(elements.get(tag_of(keyword))) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"))
    if len(value) == 0:
        return None
    span: int = 2**shape.bits_allocated
    low, high = (int(word[0]) & (span - 1) for word in (value, limit if len(limit) else value))
    if shape.signed:
        low, high = (word - span if 2 * word >= span else word for word in (low, high))
    return min(low, high), max(low, high)
