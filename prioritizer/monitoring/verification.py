"""Sensitivity and specificity of raising where readers speak of some studies rather than of others.

Readers say what they found in most of the studies that were moved up and in few of the rest. Taken as they come, such words make
sensitivity look better and specificity worse than they are (verification bias). The share with the finding is therefore taken within
each band, raised and not raised, and each band weighs as many studies as it holds, whether anybody spoke of them or not (Begg and
Greenes 1983). Intervals are those of the three shares drawn together. What it assumes: within a band, whether a reader speaks does
not hang on what they found; a random sample of studies is asked for to see that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prioritizer.statistics.logistic import Float64

NEEDED = 30
"""Studies of each band that readers must have spoken of, or all of them where the band holds fewer."""
WIDEST = 0.4
"""Width of a 95 % interval beyond which a figure is no figure yet."""
DRAWS = 4000
NAMES = ("studies that were moved up", "studies that were not moved up")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationGroup:
    """The scored studies of a period that were raised, or those that were not."""

    studies: int
    spoken: int
    """Of these, those of which a reader said what they found."""
    present: int
    """Of these, those with the finding."""
    worth: float
    """How many independent studies the spoken ones are worth: less than their number where patients had several."""

    @property
    def share(self) -> float:
        """Of those spoken of, with the finding; NaN of none."""
        return self.present / self.spoken if self.spoken else float("nan")

    @property
    def needed(self) -> int:
        """How many must be spoken of."""
        return min(NEEDED, self.studies)

    def drawn(self, rng: np.random.Generator) -> Float64:
        """Shares with the finding that these words leave possible (beta distribution after Jeffreys), shape (DRAWS,)."""
        present = self.worth * self.present / self.spoken if self.spoken else 0.0
        return rng.beta(present + 0.5, max(self.worth - present, 0.0) + 0.5, DRAWS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A share corrected for which studies readers spoke of, with its 95 % interval; `hits` of `of` is what was said, uncorrected."""

    value: float
    low: float
    high: float
    hits: int
    of: int
    why: str = ""
    """Why the figure is not given yet; empty where it is."""
    uneven: bool = False
    """Readers spoke of one band less than half as often as of the other: the figure rests on the few of them."""

    def __str__(self) -> str:
        said = f"{self.value:.3f} ({self.low:.3f}-{self.high:.3f}), {self.hits} of {self.of} as said"
        return f"{said}; {self.why}" if self.why else said


def corrected(raised: VerificationGroup, rest: VerificationGroup) -> tuple[Estimate, Estimate]:
    """Sensitivity and specificity."""
    rng = np.random.default_rng(0)
    mix = rng.beta(raised.studies + 0.5, rest.studies + 0.5, DRAWS)
    q_raised, q_rest = raised.drawn(rng), rest.drawn(rng)
    sensitivity = _shares(mix * q_raised, (1 - mix) * q_rest)
    specificity = _shares((1 - mix) * (1 - q_rest), mix * (1 - q_raised))
    present = [band.studies * band.share if band.studies else 0.0 for band in (raised, rest)]
    absent = [band.studies * (1 - band.share) if band.studies else 0.0 for band in (raised, rest)]
    sick, well = raised.present + rest.present, raised.spoken + rest.spoken - raised.present - rest.present
    return (
        _estimate(present[0], present[1], sensitivity, (raised.present, sick), (raised, rest)),
        _estimate(absent[1], absent[0], specificity, (rest.spoken - rest.present, well), (raised, rest)),
    )


def _shares(hits: Float64, misses: Float64) -> Float64:
    found: Float64 = hits / (hits + misses)
    return found


def _estimate(
    hits: float, misses: float, drawn: Float64, said: tuple[int, int], bands: tuple[VerificationGroup, VerificationGroup]
) -> Estimate:
    value = hits / (hits + misses) if hits + misses > 0 else float("nan")
    low, high = (float(edge) for edge in np.percentile(drawn, [2.5, 97.5]))
    if value == value:  # noqa: PLR0124 - not NaN
        low, high = min(low, value), max(high, value)
    else:
        low, high = 0.0, 1.0
    return Estimate(value=value, low=low, high=high, hits=said[0], of=said[1], why=_why(bands, value, low, high), uneven=_uneven(bands))


def _why(bands: tuple[VerificationGroup, VerificationGroup], value: float, low: float, high: float) -> str:
    few = [
        f"{band.spoken} of {band.needed} needed among {name}" for band, name in zip(bands, NAMES, strict=True) if band.spoken < band.needed
    ]
    if few:
        return "not yet: " + " and ".join(few)
    if np.isnan(value):
        return "not yet: nobody has said of any study what it would take"
    if high - low > WIDEST:
        spoken = " and ".join(f"{band.spoken} of the {band.studies} {name}" for band, name in zip(bands, NAMES, strict=True))
        return f"not yet: it may lie anywhere from {low:.2f} to {high:.2f} by what readers said of {spoken}"
    return ""


def _uneven(bands: tuple[VerificationGroup, VerificationGroup]) -> bool:
    spoken = [band.spoken / band.studies for band in bands if band.studies]
    return bool(spoken) and min(spoken) < max(spoken) / 2
