"""Is this image in the model's scope? Tags decide what can be decided from tags, and say which tag decided.

Written against the headers of two real archives: Body Part is empty in a third of them and View Position in another, so what is
*not stated* is flagged, and what is *stated otherwise* is refused.
"""

from __future__ import annotations

import re

from prioritizer.scope.body_part_rules import check_body_part, check_view, coded_views, descriptions, image_descriptions
from prioritizer.scope.stated_view import (
    CHEST_WORDS,
    companion_of,
    no_body_part,
    no_view,
    words,
)
from prioritizer.scope.verdict import Scope, ScopeFinding, ScopeRules, ScopeVerdict, Strictness, age_words, printable
from prioritizer.study import Instance

COMPUTED_RADIOGRAPHY_CLASS = "1.2.840.10008.5.1.4.1.1.1"
FOR_PRESENTATION_CLASS = "1.2.840.10008.5.1.4.1.1.1.1"
FOR_PROCESSING_CLASS = "1.2.840.10008.5.1.4.1.1.1.1.1"
RADIOGRAPH_CLASSES = frozenset({COMPUTED_RADIOGRAPHY_CLASS, FOR_PRESENTATION_CLASS, FOR_PROCESSING_CLASS})
AGE_NOT_STATED = "age not stated"
AGES_APART = 2.0
"""Years between a stated age and that by the dates from which on they disagree: birth dates are cut to the year, ages to whole years."""
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


def not_a_radiograph(instance: Instance, *, scores_secondary_capture: bool, scores_for_processing: bool) -> ScopeFinding | None:
    """Objects that are kept and recorded and can never be scored, whatever the site's strictness."""
    if instance.made_by_us:
        return ScopeFinding(rule="own-object", sentence="made by prioritizer itself: recorded, never scored")
    wanted = RADIOGRAPH_CLASSES | ({SECONDARY_CAPTURE_CLASS} if scores_secondary_capture else frozenset())
    if instance.sop_class_uid not in wanted:
        remedy = ""
        if instance.sop_class_uid == SECONDARY_CAPTURE_CLASS:
            remedy = " (where a peer sends its radiographs so: score_secondary_capture = true)"
        return ScopeFinding(rule="object-class", sentence=f"no radiograph by its SOP class{remedy}")
    if not instance.has_pixels:
        return ScopeFinding(rule="no-pixels", sentence="the object holds no Pixel Data")
    if instance.number_of_frames != 1:
        return ScopeFinding(rule="frames", sentence=f"{instance.number_of_frames} frames; a radiograph has one")
    if is_for_processing(instance) and not scores_for_processing:
        return ScopeFinding(
            rule="for-processing",
            sentence="FOR PROCESSING: raw values of the detector, not the image that is read"
            " (where a peer sends only such: score_for_processing = true)",
        )
    return None


def is_for_processing(instance: Instance) -> bool:
    """The pixels are the detector's, by SOP class or (0008,0068) Presentation Intent Type."""
    return instance.sop_class_uid == FOR_PROCESSING_CLASS or "PROCESSING" in instance.presentation_intent.upper()


def check_modality(instance: Instance, scope: Scope) -> ScopeFinding | None:
    """(0008,0060) Modality is one that the model was made for."""
    if instance.modality in scope.modalities:
        return None
    allowed = ", ".join(scope.modalities)
    return ScopeFinding(
        rule="modality", sentence=f"Modality {printable(instance.modality)} is not one of {allowed} (card scope.modalities)"
    )


def check_image_type(instance: Instance, scope: Scope) -> ScopeFinding | None:
    """(0008,0008) Image Type value 2 is PRIMARY or not stated."""
    if len(instance.image_type) > 1 and instance.image_type[1].upper() == "SECONDARY":
        return ScopeFinding(
            rule="image_type",
            sentence="Image Type says SECONDARY, an image made from another"
            '; where a device marks its own films so, set scope.image_type = "flag"',
        )
    companion = companion_of((*image_descriptions(instance), instance.derivation_description), instance.image_type)
    if companion:
        return ScopeFinding(
            rule="image_type", sentence=f"made beside the radiograph ({printable(companion)}): the model was not tried on such"
        )
    return None


def check_species(instance: Instance, scope: Scope) -> ScopeFinding | None:
    """(0010,2201) Patient Species Description, where stated, is human, and no description names an animal."""
    if instance.species and not re.match(r"\W*(?:homo|human)", instance.species, re.IGNORECASE):
        is_breed = instance.species.startswith("breed ")
        return ScopeFinding(
            rule="species", sentence="a Patient Breed is stated, as for an animal" if is_breed else "Patient Species is not human"
        )
    animal = ANIMAL_WORDS.search(descriptions(instance))
    if animal:
        return ScopeFinding(rule="species", sentence=f"the description says {printable(animal.group())}, not a human patient")
    if any(ANIMAL_DIRECTIONS.fullmatch(direction) for direction in instance.patient_orientation):
        return ScopeFinding(rule="species", sentence="Patient Orientation is written as for an animal")
    return None


def check_age(instance: Instance, scope: Scope) -> ScopeFinding | None:
    """(0010,1010) Patient's Age, and birth date and the day the image was taken, lie in the scope and do not deny each other."""
    span = f"{scope.min_age_years:g} to {int(scope.max_age_years)} years (card scope.age)"
    stated, by_dates = instance.age_stated, instance.age_by_dates
    if stated is not None and by_dates is not None and abs(stated - by_dates) > AGES_APART:
        both = f"Patient's Age says {age_words(stated) if stated else '0'}, the birth date {age_words(by_dates)}"
        return ScopeFinding(rule="age", sentence=f"{both}: they disagree")
    if instance.age_years is None and scope.every_age:
        return None
    if instance.age_years is None:
        return ScopeFinding(rule="age", sentence=f"age not stated; the model is for {span}")
    for years in (instance.age_years, instance.age_years if by_dates is None else by_dates):
        if not scope.min_age_years <= years <= scope.max_age_years:
            return ScopeFinding(rule="age", sentence=f"age {age_words(years)} is outside {span}")
    return None


CHECKS = (
    ("modality", check_modality),
    ("image_type", check_image_type),
    ("species", check_species),
    ("body_part", check_body_part),
    ("view", check_view),
    ("age", check_age),
)


def unstated(instance: Instance) -> tuple[str, ...]:
    """Warnings for what the header leaves open; the image is scored all the same."""
    warnings = []
    if no_body_part(instance.body_part) and no_body_part(instance.anatomic_region) and not CHEST_WORDS.search(descriptions(instance)):
        warnings.append("body part not stated")
    if no_view(instance.view_position) and not coded_views(instance):
        warnings.append("view not stated")
    return tuple(warnings)


def judge(
    instance: Instance, scope: Scope, rules: ScopeRules, *, scores_secondary_capture: bool = False, scores_for_processing: bool = False
) -> ScopeVerdict:
    """The first enforced rule that fails is the reason; flagged rules that fail become warnings."""
    unscorable = not_a_radiograph(instance, scores_secondary_capture=scores_secondary_capture, scores_for_processing=scores_for_processing)
    if unscorable is not None:
        return ScopeVerdict(reason=unscorable)
    warnings: list[str] = []
    for name, check in CHECKS:
        strictness: Strictness = getattr(rules, name)
        finding = check(instance, scope) if strictness is not Strictness.OFF else None
        if finding is None:
            continue
        if strictness is Strictness.ENFORCE:
            return ScopeVerdict(reason=finding)
        warnings.append(finding.sentence)
    doubts = instance.rendering_warnings
    ageless = (AGE_NOT_STATED,) if instance.age_years is None and scope.every_age else ()
    return ScopeVerdict(reason=None, warnings=(*warnings, *unstated(instance), *ageless, *doubts), doubts=doubts)
