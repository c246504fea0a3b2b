"""Rules on body part and view, by what the header states in codes and in words."""

from __future__ import annotations

from collections.abc import Collection

from prioritizer.scope.stated_view import (
    CHEST_WORDS,
    FRONTAL_CODES,
    LATERAL_CODES,
    LATERAL_VIEWS,
    LATERAL_WORDS,
    OBLIQUE_CODES,
    OTHER_BODY_PARTS,
    OTHER_BODY_WORDS,
    POSTURE,
    no_body_part,
    no_view,
    says_not_frontal,
    stated_views,
)
from prioritizer.scope.verdict import Scope, ScopeFinding, printable
from prioritizer.study import Instance


def descriptions(instance: Instance) -> str:
    """Study, series, protocol and processing description in one text."""
    return " ".join((instance.study_description, *image_descriptions(instance)))


def image_descriptions(instance: Instance) -> tuple[str, str, str]:
    """What is said of this image and not of the whole study."""
    return instance.series_description, instance.protocol_name, instance.processing_description


def coded_views(instance: Instance) -> frozenset[str]:
    """The frontal views that (0054,0220) View Code Sequence names."""
    return frozenset(view for code in instance.view_codes for view in FRONTAL_CODES.get(code, ()))


def check_body_part(instance: Instance, scope: Scope) -> ScopeFinding | None:
    """(0018,0015) Body Part Examined, Anatomic Region and descriptions say chest, or nothing says otherwise; two that disagree refuse."""
    part, region = ("" if no_body_part(text) else text for text in (instance.body_part, instance.anatomic_region))
    if part and region and bool(CHEST_WORDS.search(part)) != bool(CHEST_WORDS.search(region)):
        both = f"Body Part Examined is {printable(part)}, Anatomic Region is {printable(region)}"
        if OTHER_BODY_PARTS.search(part) or OTHER_BODY_PARTS.search(region):
            return ScopeFinding(rule="body_part", sentence=f"{both}: they disagree")
    stated = part or region
    if stated and CHEST_WORDS.search(stated):
        return _chest_denied(instance, stated)
    if stated:
        return _other_part(instance, stated)
    return _described_part(instance)


def _chest_denied(instance: Instance, stated: str) -> ScopeFinding | None:
    """The chest is stated; a description of the image, or of the study where that is silent, names another part alone."""
    ours = [text for text in image_descriptions(instance) if text]
    silent = not any(CHEST_WORDS.search(text) for text in ours)
    for text in (*ours, *((instance.study_description,) if silent else ())):
        other = OTHER_BODY_WORDS.search(POSTURE.sub(" ", text))
        if other and not CHEST_WORDS.search(text):
            said = f"Body Part Examined is {printable(stated)}, the description names {printable(other.group())}"
            return ScopeFinding(rule="body_part", sentence=f"{said}: they disagree")
    return None


def _other_part(instance: Instance, stated: str) -> ScopeFinding | None:
    """Another part is stated: only a text that names no part at all is healed by a description."""
    chest = CHEST_WORDS.search(descriptions(instance))
    if chest and not OTHER_BODY_PARTS.search(stated):
        return None
    denied = f", the description names {printable(chest.group())}: they disagree" if chest else ", not the chest"
    return ScopeFinding(rule="body_part", sentence=f"Body Part Examined is {printable(stated.strip().upper())}{denied}")


def _described_part(instance: Instance) -> ScopeFinding | None:
    """No part is stated: what is said of the image decides, then what is said of the study."""
    for text in (" ".join(image_descriptions(instance)), instance.study_description):
        if CHEST_WORDS.search(text):
            return None
        other = OTHER_BODY_WORDS.search(text)
        if other:
            return ScopeFinding(rule="body_part", sentence=f"the description names {printable(other.group())}, not the chest")
    return None


def check_view(instance: Instance, scope: Scope) -> ScopeFinding | None:
    """(0018,5101) View Position, View Code, Patient Orientation and descriptions do not say lateral; tags that disagree refuse."""
    view = "" if no_view(instance.view_position) else instance.view_position.strip()
    frontal = stated_views(view) | coded_views(instance)
    other = _says_not_frontal(instance, view)
    if other:
        named = f"View Position {printable(view.upper())}, but " if stated_views(view) and not other.startswith("View Position") else ""
        return ScopeFinding(rule="view", sentence=f"{named}{other}; the model reads frontal views only (card scope.views)")
    if view and not stated_views(view):
        return ScopeFinding(
            rule="view", sentence=f"View Position {printable(view.upper())} is not {' or '.join(scope.views)} (card scope.views)"
        )
    if frontal and not frontal.intersection(scope.views):
        said = f"View Position {printable(view.upper())}" if view else f"View Code {', '.join(sorted(frontal))}"
        return ScopeFinding(rule="view", sentence=f"{said} is not {' or '.join(scope.views)} (card scope.views)")
    return None


def _says_not_frontal(instance: Instance, view: str) -> str:
    """Which tag says that the image is no plain frontal one; empty when none does."""
    if view.upper() in LATERAL_VIEWS or says_not_frontal(view) or (stated_views(view) and LATERAL_WORDS.search(view)):
        return f"View Position {printable(view.upper())} says {says_not_frontal(view) or 'lateral'}"
    if by_code := _code_says(instance.view_codes):
        return by_code
    if any(direction[:1].upper() in ("A", "P") for direction in instance.patient_orientation[:2]):
        return "Patient Orientation says a lateral view"
    stated = bool(stated_views(view) or coded_views(instance))
    for text in image_descriptions(instance):
        said = says_not_frontal(text)
        if not said and not stated and LATERAL_WORDS.search(text):
            said = "lateral"
        if said:
            return f"the description says {said}"
    return ""


def _code_says(view_codes: Collection[str]) -> str:
    """What (0054,0220) View Code Sequence says against a frontal view; empty where nothing."""
    if LATERAL_CODES.intersection(view_codes):
        return "View Code says a lateral view"
    if OBLIQUE_CODES.intersection(view_codes):
        return "View Code says oblique"
    return next((f"View Code {printable(code)} is not that of a frontal view" for code in view_codes if code not in FRONTAL_CODES), "")
