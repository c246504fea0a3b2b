"""What the guard and the drawing of an image add to the verdict on its header."""

from __future__ import annotations

from dataclasses import replace

from prioritizer.scope.out_of_distribution import Figures
from prioritizer.scope.verdict import MAX_REASON, ScopeFinding, ScopeRules, ScopeVerdict, Strictness

OUT_OF_DISTRIBUTION = "out_of_distribution"
UNLIKE = "unlike the training data"
"""Stands in every sentence about another population or device, and is what the board counts by."""


def check_image_kind(figures: Figures) -> ScopeFinding | None:
    """The picture itself is a frontal chest radiograph, whatever its header says."""
    if figures.image_kind <= 1:
        return None
    if figures.one_measure:
        said = f"the picture is {UNLIKE} ({beyond(figures.image_kind)}, card guard)"
    else:
        said = f"the picture is not a frontal chest radiograph, upright and whole ({beyond(figures.image_kind)}, card guard.image_kind)"
    return ScopeFinding(rule="image_kind", sentence=said)


def check_population(figures: Figures, local_limit: float | None = None) -> ScopeFinding | None:
    """Population and device are like those of the training; `local_limit` is the site's own, in units of the bundle's."""
    limit = 1.0 if local_limit is None else local_limit
    if figures.out_of_distribution <= limit:
        return None
    said = f"another population or device: {UNLIKE} ({beyond(figures.out_of_distribution / limit)}, card guard.out_of_distribution)"
    return ScopeFinding(rule=OUT_OF_DISTRIBUTION, sentence=said)


def beyond(distance: float) -> str:
    """A distance in units of its limit, above 1, in words."""
    return f"{distance:.2f} times the limit" if distance < 1000 else "far beyond the limit"


def with_guard(
    verdict: ScopeVerdict, figures: Figures, rules: ScopeRules, *, holds_back: bool = False, local_limit: float | None = None
) -> ScopeVerdict:
    """The verdict on the header joined with that on the picture: its kind first, then its population.

    `holds_back`: a rule "until-calibrated" leaves the image unscored, because the list moves studies and no local calibration that was
    judged fit is in force. Without it, where a file is tried or a cohort looked at, it warns. The one measure of an older bundle is
    told once, as strictly as the stricter of the two rules.
    """
    of_population = rules.out_of_distribution.strictness(holds_back=holds_back)
    if figures.one_measure:
        return _with_finding(verdict, check_image_kind(figures), min(rules.image_kind, of_population, key=STRICTEST_FIRST.index))
    verdict = _with_finding(verdict, check_image_kind(figures), rules.image_kind)
    return _with_finding(verdict, check_population(figures, local_limit), of_population)


STRICTEST_FIRST = (Strictness.ENFORCE, Strictness.FLAG, Strictness.OFF)


def _with_finding(verdict: ScopeVerdict, finding: ScopeFinding | None, strictness: Strictness) -> ScopeVerdict:
    if finding is None or strictness is Strictness.OFF or verdict.reason is not None:
        return verdict
    if verdict.doubts:
        # A strange picture of our own making says nothing about the patient's image.
        doubts = "; ".join(verdict.doubts)
        finding = ScopeFinding(rule="rendering", sentence=f"the image looks unusual, and may be drawn wrongly: {doubts}"[:MAX_REASON])
    if strictness is Strictness.ENFORCE:
        return ScopeVerdict(reason=finding)
    if finding.sentence in verdict.warnings:
        return verdict
    return replace(verdict, warnings=(*verdict.warnings, finding.sentence))


def with_drawing(verdict: ScopeVerdict, warnings: tuple[str, ...]) -> ScopeVerdict:
    """The verdict on the header joined with what only the pixels showed of how the image is drawn."""
    new = tuple(warning for warning in warnings if warning not in verdict.doubts)
    return replace(verdict, warnings=(*verdict.warnings, *new), doubts=(*verdict.doubts, *new))
