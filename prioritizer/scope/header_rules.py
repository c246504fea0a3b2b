"""Is this image in the model's scope? Tags decide what can be decided from tags, and say which tag decided.

Written against the headers of two real archives: Body Part is empty in a third of them and View Position in another, so what is
*not stated* is flagged, and what is *stated otherwise* is refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace

from prioritizer.scope.out_of_distribution import Figures
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
    companion_of,
    no_body_part,
    no_view,
    says_not_frontal,
    stated_views,
    words,
)
from prioritizer.scope.verdict import Finding, PopulationRule, Rules, Scope, Strictness, Verdict, age_words, printable
from prioritizer.study import Instance

__all__ = [
    "CHECKS",
    "FRONTAL_CODES",
    "LATERAL_CODES",
    "LATERAL_VIEWS",
    "RADIOGRAPH_CLASSES",
    "Finding",
    "PopulationRule",
    "Rules",
    "Scope",
    "Strictness",
    "Verdict",
    "age_words",
    "judge",
    "not_a_radiograph",
    "printable",
    "with_guard",
]  # fmt: skip

COMPUTED_RADIOGRAPHY_CLASS = "1.2.840.10008.5.1.4.1.1.1"
FOR_PRESENTATION_CLASS = "1.2.840.10008.5.1.4.1.1.1.1"
FOR_PROCESSING_CLASS = "1.2.840.10008.5.1.4.1.1.1.1.1"
RADIOGRAPH_CLASSES = frozenset({COMPUTED_RADIOGRAPHY_CLASS, FOR_PRESENTATION_CLASS, FOR_PROCESSING_CLASS})
AGE_NOT_STATED = "age not stated"
AGES_APART = 2.0
"""Years between a stated age and that by the dates from which on they disagree: birth dates are cut to the year, ages to whole years."""
MAX_REASON = 300
"""Characters of a reason that the ledger keeps."""
SECONDARY_CAPTURE_CLASS = "1.2.840.10008.5.1.4.1.1.7"


ANIMAL_WORDS = words("canine", "dog", "feline", "equine", "bovine", "veterinary")
ANIMAL_DIRECTIONS = re.compile(r"C[RD]|[DV]|LE|RT", re.IGNORECASE)
"""Values of (0020,0020) Patient Orientation that only a quadruped has (PS3.3 C.7.6.1.1.1)."""


SENT_AS_CAPTURE = frozenset({"CR", "DX", "DR", "RG", "XR", "PX", "RF"})
"""Modalities of radiographs that sites send in the Secondary Capture class."""


def may_be_a_radiograph(instance: Instance) -> bool:
    """May it carry a radiograph? Reports, presentation states, dose reports and documents do not, nor do pictures of other devices."""
    if instance.made_by_us or not instance.has_pixels:
        return False
    sent_as_capture = instance.sop_class_uid == SECONDARY_CAPTURE_CLASS and instance.modality.upper() in SENT_AS_CAPTURE
    return instance.sop_class_uid in RADIOGRAPH_CLASSES or sent_as_capture


SCOPE_FACTS = (
    "sop_class_uid", "modality", "body_part", "anatomic_region", "view_position", "view_codes", "patient_orientation", "image_type",
    "presentation_intent", "species", "number_of_frames", "has_pixels", "age_years", "age_stated", "age_by_dates", "study_description",
    "series_description", "protocol_name", "processing_description", "derivation_description",
)  # fmt: skip
"""What of an instance decides whether it may be scored."""


def same_facts(one: Instance, other: Instance) -> bool:
    """True where nothing differs that decides whether an image may be scored."""
    return all(getattr(one, name) == getattr(other, name) for name in SCOPE_FACTS)


def not_a_radiograph(instance: Instance, *, scores_secondary_capture: bool, scores_for_processing: bool) -> Finding | None:
    """Objects that are kept and recorded and can never be scored, whatever the site's strictness."""
    if instance.made_by_us:
        return Finding(rule="own-object", sentence="made by prioritizer itself: recorded, never scored")
    wanted = RADIOGRAPH_CLASSES | ({SECONDARY_CAPTURE_CLASS} if scores_secondary_capture else frozenset())
    if instance.sop_class_uid not in wanted:
        remedy = ""
        if instance.sop_class_uid == SECONDARY_CAPTURE_CLASS:
            remedy = " (where a peer sends its radiographs so: score_secondary_capture = true)"
        return Finding(rule="object-class", sentence=f"no radiograph by its SOP class{remedy}")
    if not instance.has_pixels:
        return Finding(rule="no-pixels", sentence="the object holds no Pixel Data")
    if instance.number_of_frames != 1:
        return Finding(rule="frames", sentence=f"{instance.number_of_frames} frames; a radiograph has one")
    if is_for_processing(instance) and not scores_for_processing:
        return Finding(
            rule="for-processing",
            sentence="FOR PROCESSING: raw values of the detector, not the image that is read"
            " (where a peer sends only such: score_for_processing = true)",
        )
    return None


def is_for_processing(instance: Instance) -> bool:
    """The pixels are the detector's, by SOP class or (0008,0068) Presentation Intent Type."""
    return instance.sop_class_uid == FOR_PROCESSING_CLASS or "PROCESSING" in instance.presentation_intent.upper()


def check_modality(instance: Instance, scope: Scope) -> Finding | None:
    """(0008,0060) Modality is one that the model was made for."""
    if instance.modality in scope.modalities:
        return None
    allowed = ", ".join(scope.modalities)
    return Finding(rule="modality", sentence=f"Modality {printable(instance.modality)} is not one of {allowed} (card scope.modalities)")


def check_image_type(instance: Instance, scope: Scope) -> Finding | None:
    """(0008,0008) Image Type value 2 is PRIMARY or not stated."""
    if len(instance.image_type) > 1 and instance.image_type[1].upper() == "SECONDARY":
        return Finding(
            rule="image_type",
            sentence="Image Type says SECONDARY, an image made from another"
            '; where a device marks its own films so, set scope.image_type = "flag"',
        )
    companion = companion_of((*image_descriptions(instance), instance.derivation_description), instance.image_type)
    if companion:
        return Finding(rule="image_type", sentence=f"made beside the radiograph ({printable(companion)}): the model was not tried on such")
    return None


def check_species(instance: Instance, scope: Scope) -> Finding | None:
    """(0010,2201) Patient Species Description, where stated, is human, and no description names an animal."""
    if instance.species and not re.match(r"\W*(?:homo|human)", instance.species, re.IGNORECASE):
        is_breed = instance.species.startswith("breed ")
        return Finding(
            rule="species", sentence="a Patient Breed is stated, as for an animal" if is_breed else "Patient Species is not human"
        )
    animal = ANIMAL_WORDS.search(descriptions(instance))
    if animal:
        return Finding(rule="species", sentence=f"the description says {printable(animal.group())}, not a human patient")
    if any(ANIMAL_DIRECTIONS.fullmatch(direction) for direction in instance.patient_orientation):
        return Finding(rule="species", sentence="Patient Orientation is written as for an animal")
    return None


def descriptions(instance: Instance) -> str:
    """Study, series, protocol and processing description in one text."""
    return " ".join((instance.study_description, *image_descriptions(instance)))


def image_descriptions(instance: Instance) -> tuple[str, str, str]:
    """What is said of this image and not of the whole study."""
    return instance.series_description, instance.protocol_name, instance.processing_description


def coded_views(instance: Instance) -> frozenset[str]:
    """The frontal views that (0054,0220) View Code Sequence names."""
    return frozenset(view for code in instance.view_codes for view in FRONTAL_CODES.get(code, ()))


def check_body_part(instance: Instance, scope: Scope) -> Finding | None:
    """(0018,0015) Body Part Examined, Anatomic Region and descriptions say chest, or nothing says otherwise; two that disagree refuse."""
    part, region = ("" if no_body_part(text) else text for text in (instance.body_part, instance.anatomic_region))
    if part and region and bool(CHEST_WORDS.search(part)) != bool(CHEST_WORDS.search(region)):
        both = f"Body Part Examined is {printable(part)}, Anatomic Region is {printable(region)}"
        if OTHER_BODY_PARTS.search(part) or OTHER_BODY_PARTS.search(region):
            return Finding(rule="body_part", sentence=f"{both}: they disagree")
    stated = part or region
    if stated and CHEST_WORDS.search(stated):
        return _chest_denied(instance, stated)
    if stated:
        return _other_part(instance, stated)
    return _described_part(instance)


def _chest_denied(instance: Instance, stated: str) -> Finding | None:
    """The chest is stated; a description of the image, or of the study where that is silent, names another part alone."""
    ours = [text for text in image_descriptions(instance) if text]
    silent = not any(CHEST_WORDS.search(text) for text in ours)
    for text in (*ours, *((instance.study_description,) if silent else ())):
        other = OTHER_BODY_WORDS.search(POSTURE.sub(" ", text))
        if other and not CHEST_WORDS.search(text):
            said = f"Body Part Examined is {printable(stated)}, the description names {printable(other.group())}"
            return Finding(rule="body_part", sentence=f"{said}: they disagree")
    return None


def _other_part(instance: Instance, stated: str) -> Finding | None:
    """Another part is stated: only a text that names no part at all is healed by a description."""
    chest = CHEST_WORDS.search(descriptions(instance))
    if chest and not OTHER_BODY_PARTS.search(stated):
        return None
    denied = f", the description names {printable(chest.group())}: they disagree" if chest else ", not the chest"
    return Finding(rule="body_part", sentence=f"Body Part Examined is {printable(stated.strip().upper())}{denied}")


def _described_part(instance: Instance) -> Finding | None:
    """No part is stated: what is said of the image decides, then what is said of the study."""
    for text in (" ".join(image_descriptions(instance)), instance.study_description):
        if CHEST_WORDS.search(text):
            return None
        other = OTHER_BODY_WORDS.search(text)
        if other:
            return Finding(rule="body_part", sentence=f"the description names {printable(other.group())}, not the chest")
    return None


def check_view(instance: Instance, scope: Scope) -> Finding | None:
    """(0018,5101) View Position, View Code, Patient Orientation and descriptions do not say lateral; tags that disagree refuse."""
    view = "" if no_view(instance.view_position) else instance.view_position.strip()
    frontal = stated_views(view) | coded_views(instance)
    other = _says_not_frontal(instance, view)
    if other:
        named = f"View Position {printable(view.upper())}, but " if stated_views(view) and not other.startswith("View Position") else ""
        return Finding(rule="view", sentence=f"{named}{other}; the model reads frontal views only (card scope.views)")
    if view and not stated_views(view):
        return Finding(
            rule="view", sentence=f"View Position {printable(view.upper())} is not {' or '.join(scope.views)} (card scope.views)"
        )
    if frontal and not frontal.intersection(scope.views):
        said = f"View Position {printable(view.upper())}" if view else f"View Code {', '.join(sorted(frontal))}"
        return Finding(rule="view", sentence=f"{said} is not {' or '.join(scope.views)} (card scope.views)")
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


def check_age(instance: Instance, scope: Scope) -> Finding | None:
    """(0010,1010) Patient's Age, and birth date and the day the image was taken, lie in the scope and do not deny each other."""
    span = f"{scope.min_age_years:g} to {int(scope.max_age_years)} years (card scope.age)"
    stated, by_dates = instance.age_stated, instance.age_by_dates
    if stated is not None and by_dates is not None and abs(stated - by_dates) > AGES_APART:
        both = f"Patient's Age says {age_words(stated) if stated else '0'}, the birth date {age_words(by_dates)}"
        return Finding(rule="age", sentence=f"{both}: they disagree")
    if instance.age_years is None and scope.every_age:
        return None
    if instance.age_years is None:
        return Finding(rule="age", sentence=f"age not stated; the model is for {span}")
    for years in (instance.age_years, instance.age_years if by_dates is None else by_dates):
        if not scope.min_age_years <= years <= scope.max_age_years:
            return Finding(rule="age", sentence=f"age {age_words(years)} is outside {span}")
    return None


CHECKS = (
    ("modality", check_modality),
    ("image_type", check_image_type),
    ("species", check_species),
    ("body_part", check_body_part),
    ("view", check_view),
    ("age", check_age),
)


OUT_OF_DISTRIBUTION = "out_of_distribution"
UNLIKE = "unlike the training data"
"""Stands in every sentence about another population or device, and is what the board counts by."""


def check_image_kind(figures: Figures) -> Finding | None:
    """The picture itself is a frontal chest radiograph, whatever its header says."""
    if figures.image_kind <= 1:
        return None
    if figures.one_measure:
        said = f"the picture is {UNLIKE} ({beyond(figures.image_kind)}, card guard)"
    else:
        said = f"the picture is not a frontal chest radiograph, upright and whole ({beyond(figures.image_kind)}, card guard.image_kind)"
    return Finding(rule="image_kind", sentence=said)


def check_population(figures: Figures, local_limit: float | None = None) -> Finding | None:
    """Population and device are like those of the training; `local_limit` is the site's own, in units of the bundle's."""
    limit = 1.0 if local_limit is None else local_limit
    if figures.out_of_distribution <= limit:
        return None
    said = f"another population or device: {UNLIKE} ({beyond(figures.out_of_distribution / limit)}, card guard.out_of_distribution)"
    return Finding(rule=OUT_OF_DISTRIBUTION, sentence=said)


def beyond(distance: float) -> str:
    """A distance in units of its limit, above 1, in words."""
    return f"{distance:.2f} times the limit" if distance < 1000 else "far beyond the limit"


def with_guard(verdict: Verdict, figures: Figures, rules: Rules, *, holds_back: bool = False, local_limit: float | None = None) -> Verdict:
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


def _with_finding(verdict: Verdict, finding: Finding | None, strictness: Strictness) -> Verdict:
    if finding is None or strictness is Strictness.OFF or verdict.reason is not None:
        return verdict
    if verdict.doubts:
        # A strange picture of our own making says nothing about the patient's image.
        doubts = "; ".join(verdict.doubts)
        finding = Finding(rule="rendering", sentence=f"the image looks unusual, and may be drawn wrongly: {doubts}"[:MAX_REASON])
    if strictness is Strictness.ENFORCE:
        return Verdict(reason=finding)
    if finding.sentence in verdict.warnings:
        return verdict
    return replace(verdict, warnings=(*verdict.warnings, finding.sentence))


def with_drawing(verdict: Verdict, warnings: tuple[str, ...]) -> Verdict:
    """The verdict on the header joined with what only the pixels showed of how the image is drawn."""
    new = tuple(warning for warning in warnings if warning not in verdict.doubts)
    return replace(verdict, warnings=(*verdict.warnings, *new), doubts=(*verdict.doubts, *new))


def unstated(instance: Instance) -> tuple[str, ...]:
    """Warnings for what the header leaves open; the image is scored all the same."""
    warnings = []
    if no_body_part(instance.body_part) and no_body_part(instance.anatomic_region) and not CHEST_WORDS.search(descriptions(instance)):
        warnings.append("body part not stated")
    if no_view(instance.view_position) and not coded_views(instance):
        warnings.append("view not stated")
    return tuple(warnings)


def judge(
    instance: Instance, scope: Scope, rules: Rules, *, scores_secondary_capture: bool = False, scores_for_processing: bool = False
) -> Verdict:
    """The first enforced rule that fails is the reason; flagged rules that fail become warnings."""
    unscorable = not_a_radiograph(instance, scores_secondary_capture=scores_secondary_capture, scores_for_processing=scores_for_processing)
    if unscorable is not None:
        return Verdict(reason=unscorable)
    warnings: list[str] = []
    for name, check in CHECKS:
        strictness: Strictness = getattr(rules, name)
        finding = check(instance, scope) if strictness is not Strictness.OFF else None
        if finding is None:
            continue
        if strictness is Strictness.ENFORCE:
            return Verdict(reason=finding)
        warnings.append(finding.sentence)
    doubts = instance.rendering_warnings
    ageless = (AGE_NOT_STATED,) if instance.age_years is None and scope.every_age else ()
    return Verdict(reason=None, warnings=(*warnings, *unstated(instance), *ageless, *doubts), doubts=doubts)
