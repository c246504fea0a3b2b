"""Which bits of its words an image holds its values in, where the header is wrong about it and the pixels prove it.

Values that go on beyond Bits Stored are distinguished from an overlay in the unused bits by the steps between neighbouring pixels: a value
whose upper bits are cut off leaps by the whole range where it passes the end, an overlay leaps at its own edges.

Sources: PS3.3 C.7.6.3.1.2 (Bits Stored, High Bit), C.7.5.1.1.2 (Pixel Padding), PS3.5 8.1.1 (native pixel cells).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from prioritizer.dicom.read.codecs import Pixels
from prioritizer.imaging.grey_scale import GreyScale, Mask, Words, histogram, raw_words, stored_range, within_padding, word_values

OVERSHOOT = 1 / 8
"""Share of the range by which a lossy codec may go beyond it; what goes further is no overshoot."""
FEW = 0.01
"""Share of the pixels that a lossy codec may drive beyond Bits Stored, however far."""
CLIPPED = "values beyond Bits Stored are drawn as its ends"
MAX_SAMPLED = 2**19
"""Pixels whose steps to their neighbours are measured: rows spread over the whole image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBits:
    """Where the values lie in their words."""

    stored: int
    """Bits of a value."""
    shift: int
    """Bits below the value."""
    overshoot: bool
    """What goes beyond is clipped, not masked off."""
    warning: str = ""
    """What people must know of it; empty where the header is right."""


def proven_bits(pixels: Pixels, grey: GreyScale, *, precision: int | None, overlays: frozenset[int]) -> StoredBits:
    """Where the values of `pixels`, integer, shape (rows, columns), lie by the header (`grey`) and by what the pixels prove.

    `precision` is what the codestream states (None without one), `overlays` are the bits in which the header says overlays lie.
    """
    width = grey.bits_allocated if precision is None else precision
    header = StoredBits(stored=grey.bits_stored, shift=grey.shift, overshoot=grey.overshoot)
    if header.stored + header.shift > width:  # a codestream that does not reach up to High Bit was written without the gap
        header = replace(header, shift=0)
    low, high = stored_range(grey)
    if not header.shift and low <= (int(pixels.min()) if grey.signed else 0) and int(pixels.max()) <= high:
        return header
    words = raw_words(pixels)
    counts = histogram(words, grey.bits_allocated)
    counts[within_padding(grey)] = 0
    present = np.flatnonzero(counts)
    if header.shift and _at_lower_end(present, grey, header.shift):
        header = replace(header, shift=0)
    grey = replace(grey, shift=header.shift)
    values = word_values(grey, grey.bits_allocated - grey.shift, grey.shift)[present]
    inside = (values >= low) & (values <= high)
    if inside.all():
        return header
    if not overlays and _overshoots(grey, values, float(counts[present[~inside]].sum() / counts.sum())):
        return replace(header, overshoot=True, warning="" if grey.overshoot else CLIPPED)
    limit = min(width, *(bit for bit in overlays if bit >= grey.bits_stored + grey.shift), grey.bits_allocated) - grey.shift
    return _beyond(present, grey, replace(header, stored=_smoothest(words, present, grey, limit, precision)), overlaid=bool(overlays))


def _at_lower_end(present: NDArray[np.intp], grey: GreyScale, shift: int) -> bool:
    """The words deny High Bit: all are values of Bits Stored as they are, and bits are set below the stored ones."""
    low, high = stored_range(grey)
    values = word_values(grey)[present]
    return bool(((values >= low) & (values <= high)).all()) and bool(int(np.bitwise_or.reduce(present)) & (2**shift - 1))


def _overshoots(grey: GreyScale, values: NDArray[np.int64], share: float) -> bool:
    """Values beyond Bits Stored, a `share` of the pixels, are what a lossy codec makes of black and white."""
    low, high = stored_range(grey)
    reach = (high - low) * OVERSHOOT
    return bool(low - reach <= values.min() and values.max() <= high + reach) or (grey.overshoot and share < FEW)


def _beyond(present: NDArray[np.intp], grey: GreyScale, bits: StoredBits, *, overlaid: bool) -> StoredBits:
    """The bits with the warning they need: values go on beyond Bits Stored, or what lies there is no value."""
    if bits.stored > grey.bits_stored:
        return replace(bits, warning=f"values lie beyond Bits Stored: read as {bits.stored} bits, as the image proves")
    if bits.overshoot:
        return replace(bits, warning=CLIPPED)
    below = grey.bits_stored + grey.shift
    upper, signs = present >> below, 2 ** (grey.bits_allocated - below) - 1 if grey.signed else 0
    stray = not overlaid and bool(((upper != 0) & (upper != signs)).any())
    return replace(bits, warning="bits above Bits Stored are passed over, as those of an overlay" if stray else "")


def _smoothest(words: Words, present: NDArray[np.intp], grey: GreyScale, limit: int, precision: int | None) -> int:
    """The number of low bits, Bits Stored to `limit`, in which neighbouring pixels differ least.

    Where no number is better than Bits Stored, the precision of the codestream counts if that is not just the whole word. Where one
    is, the bits beyond are values: then all that nothing speaks against, less those that change none of the words `present`.
    """
    pairs = _neighbours(words, ~within_padding(grey))
    meant = {bits: word_values(grey, bits, grey.shift) for bits in range(grey.bits_stored, limit + 1)}
    rough = {bits: _roughness(pairs, values, grey.bits_stored) for bits, values in meant.items()}
    best = [bits for bits, steps in rough.items() if steps == min(rough.values())]
    if grey.bits_stored in best and not (precision in best and precision is not None and precision < grey.bits_allocated):
        return grey.bits_stored
    most = meant[best[-1]][present]
    return next(bits for bits, values in meant.items() if (values[present] == most).all())


def _neighbours(words: Words, counted: Mask) -> list[tuple[Words, Words]]:
    """Pixels and their neighbours to the right, and pixels and their neighbours below, where both are `counted` words."""
    rows, columns = words.shape
    count = min(max(MAX_SAMPLED // columns, 2), rows)
    here = words[np.linspace(0, rows - 1, count).astype(np.intp)]
    above = np.linspace(0, max(rows - 2, 0), count).astype(np.intp)
    both = [(here[:, :-1], here[:, 1:]), (words[above], words[np.minimum(above + 1, rows - 1)])]
    kept = [counted[one] & counted[other] for one, other in both]
    return [(one[mask], other[mask]) for (one, other), mask in zip(both, kept, strict=True)]


def _roughness(pairs: list[tuple[Words, Words]], values: NDArray[np.int64], bits_stored: int) -> int:
    """Sum of the steps between neighbours.

    A step is counted up to a quarter of the range of Bits Stored: of longer ones nobody can tell whether they pass its end.
    """
    table, longest = values.astype(np.int32), max(2**bits_stored // 4, 1)
    steps = (np.minimum(np.abs(table[one] - table[other]), longest) for one, other in pairs)
    return sum(int(step.sum(dtype=np.int64)) for step in steps)
