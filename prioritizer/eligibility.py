"""Is this image in the model's scope? Tags decide what can be decided from tags, and say which tag decided.

Written against the headers of two real archives: Body Part is empty in a third of them and View Position in another, so what is
*not stated* is flagged, and what is *stated otherwise* is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from prioritizer.study import Instance

RADIOGRAPH_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.1",  # Computed Radiography
        "1.2.840.10008.5.1.4.1.1.1.1",  # Digital X-Ray, for presentation
        "1.2.840.10008.5.1.4.1.1.1.1.1",  # Digital X-Ray, for processing
    }
)
SECONDARY_CAPTURE_CLASS = "1.2.840.10008.5.1.4.1.1.7"


def words(*alternatives: str) -> re.Pattern[str]:
    """Any of these as whole words; devices write CHEST_PA and Thorax.AP, so an underscore parts words too."""
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(alternatives)})(?![^\W_])", re.IGNORECASE)


CHEST_WORDS = words("chest", "thorax", r"thoracic(?!\W*spine)", "cxr", "lungs?", "pulmonary", "poumon", "brust", "torace", "torax", "tórax")
OTHER_BODY_WORDS = words(
    *("hips?", "knees?", "hands?", "foot", "feet", "ankles?", "wrists?", "elbows?", "shoulders?", "humerus", "femur", "tibia", "fibula"),
    *("forearms?", "fingers?", "toes?", "skull", "head", "teeth", "dental", r"panoram\w*", "abdomen", "abdominal", "pelvis"),
    *("[clt]?-?spine", "lumbar", "cervical", "breasts?", "extremity", "legs?", "arms?", "clavicles?", r"sinus\w*"),
)
LATERAL_WORDS = words("lat", "lateral", "latl", "ll", "rl", "seitlich", "lateraal", "profil")
ANIMAL_WORDS = words("canine", "dog", "feline", "equine", "bovine", "veterinary")
LATERAL_VIEWS = frozenset({"LL", "RL", "LAT", "LATERAL", "LLD", "RLD"})
# PS3.16 CID 4010 DX View, in SNOMED RT and SNOMED CT.
FRONTAL_CODES = {"R-10206": "AP", "399348003": "AP", "R-10214": "PA", "272479007": "PA"}
LATERAL_CODES = frozenset(
    {
        *("R-10236", "399173006"),  # left lateral
        *("R-10232", "399198007"),  # right lateral
        "399067008",  # lateral
        *("R-10228", "399352003"),  # lateral-medial
        *("R-10224", "399260004"),  # medial-lateral
    }
)


class Strictness(StrEnum):
    """What a site does with a rule: leave the image unscored, score it with a warning, or not look."""

    ENFORCE = "enforce"
    FLAG = "flag"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What the bundle's card says the model is for."""

    modalities: tuple[str, ...] = ("CR", "DX")
    min_age_years: float = 0.0
    max_age_years: float = 17.999
    views: tuple[str, ...] = ("AP", "PA")
    species: str = "human"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The strictness of each scope rule at this site."""

    modality: Strictness = Strictness.ENFORCE
    body_part: Strictness = Strictness.ENFORCE
    view: Strictness = Strictness.ENFORCE
    age: Strictness = Strictness.ENFORCE
    image_type: Strictness = Strictness.ENFORCE
    species: Strictness = Strictness.ENFORCE
    likeness: Strictness = Strictness.ENFORCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One rule that an image does not meet: which, and the sentence for people."""

    rule: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """May the image be scored? `reason` when not; `warnings` are shown with the score."""

    reason: Finding | None
    warnings: tuple[str, ...] = ()

    @property
    def eligible(self) -> bool:
        """True when the image may be scored."""
        return self.reason is None


SENT_AS_CAPTURE = frozenset({"CR", "DX", "DR", "RG", "XR", "PX", "RF"})
"""Modalities of radiographs that sites send in the Secondary Capture class."""


def may_be_a_radiograph(instance: Instance) -> bool:
    """May it carry a radiograph? Reports, presentation states, dose reports and documents do not, nor do pictures of other devices."""
    if instance.made_by_us or not instance.has_pixels:
        return False
    sent_as_capture = instance.sop_class_uid == SECONDARY_CAPTURE_CLASS and instance.modality.upper() in SENT_AS_CAPTURE
    return instance.sop_class_uid in RADIOGRAPH_CLASSES or sent_as_capture


def not_a_radiograph(instance: Instance, scores_secondary_capture: bool) -> Finding | None:
    """Objects that are kept and recorded and can never be scored, whatever the site's strictness."""
    if instance.made_by_us:
        return Finding(rule="own-object", sentence="made by prioritizer itself: recorded, never scored")
    wanted = RADIOGRAPH_CLASSES | ({SECONDARY_CAPTURE_CLASS} if scores_secondary_capture else frozenset())
    if instance.sop_class_uid not in wanted:
        mend = ""
        if instance.sop_class_uid == SECONDARY_CAPTURE_CLASS:
            mend = " (where a peer sends its radiographs so: score_secondary_capture = true)"
        return Finding(rule="object-class", sentence=f"no radiograph by its SOP class{mend}")
    if not instance.has_pixels:
        return Finding(rule="no-pixels", sentence="the object holds no Pixel Data")
    if instance.number_of_frames != 1:
        return Finding(rule="frames", sentence=f"{instance.number_of_frames} frames; a radiograph has one")
    return None


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
    return None


def check_species(instance: Instance, scope: Scope) -> Finding | None:
    """(0010,2201) Patient Species Description, where stated, is human, and no description names an animal."""
    if instance.species and not re.search(r"homo|human", instance.species, re.IGNORECASE):
        return Finding(rule="species", sentence="Patient Species is not human")
    animal = ANIMAL_WORDS.search(descriptions(instance))
    if animal:
        return Finding(rule="species", sentence=f"the description says {printable(animal.group())}, not a human patient")
    return None


def descriptions(instance: Instance) -> str:
    """Study, series, protocol and processing description in one text."""
    return f"{instance.study_description} {image_descriptions(instance)}"


def image_descriptions(instance: Instance) -> str:
    """What is said of this image and not of the whole study."""
    return f"{instance.series_description} {instance.protocol_name} {instance.processing_description}"


def coded_views(instance: Instance) -> frozenset[str]:
    """The frontal views that (0054,0220) View Code Sequence names."""
    return frozenset(FRONTAL_CODES[code] for code in instance.view_codes if code in FRONTAL_CODES)


def check_body_part(instance: Instance, scope: Scope) -> Finding | None:
    """(0018,0015) Body Part Examined or a description says chest, or nothing says otherwise."""
    said = descriptions(instance)
    if CHEST_WORDS.search(instance.body_part) or CHEST_WORDS.search(said):
        return None
    part = instance.body_part.strip().upper()
    if part:
        return Finding(rule="body_part", sentence=f"Body Part Examined is {printable(part)}, not the chest")
    other = OTHER_BODY_WORDS.search(said)
    if other:
        return Finding(rule="body_part", sentence=f"the description names {printable(other.group())}, not the chest")
    return None


def check_view(instance: Instance, scope: Scope) -> Finding | None:
    """(0018,5101) View Position, View Code, Patient Orientation and descriptions do not say lateral; tags that disagree refuse."""
    lateral = _says_lateral(instance)
    if lateral:
        return Finding(rule="view", sentence=f"{lateral}; the model reads frontal views only (card scope.views)")
    view = instance.view_position.strip().upper()
    stated = {view} if view else set(coded_views(instance))
    if stated and not stated.intersection(scope.views):
        said = f"View Position {printable(view)}" if view else f"View Code {', '.join(sorted(stated))}"
        return Finding(rule="view", sentence=f"{said} is not {' or '.join(scope.views)} (card scope.views)")
    if not stated and LATERAL_WORDS.search(image_descriptions(instance)):
        return Finding(rule="view", sentence="the description says lateral; the model reads frontal views only (card scope.views)")
    return None


def _says_lateral(instance: Instance) -> str:
    """Which tag says that the film was taken from the side; empty when none does."""
    if instance.view_position.strip().upper() in LATERAL_VIEWS:
        return "lateral view"
    if LATERAL_CODES.intersection(instance.view_codes):
        return "View Code says a lateral view"
    if instance.patient_orientation and instance.patient_orientation[0][:1] in ("A", "P"):
        return "Patient Orientation says a lateral view"
    return ""


def check_age(instance: Instance, scope: Scope) -> Finding | None:
    """(0010,1010) Patient's Age, or birth date and study date, lies in the scope."""
    span = f"{scope.min_age_years:g} to {int(scope.max_age_years)} years (card scope.age)"
    if instance.age_years is None:
        return Finding(rule="age", sentence=f"age not stated; the model is for {span}")
    if not scope.min_age_years <= instance.age_years <= scope.max_age_years:
        return Finding(rule="age", sentence=f"age {age_words(instance.age_years)} is outside {span}")
    return None


CHECKS = (
    ("modality", check_modality),
    ("image_type", check_image_type),
    ("species", check_species),
    ("body_part", check_body_part),
    ("view", check_view),
    ("age", check_age),
)


def check_likeness(distance: float) -> Finding | None:
    """The picture itself looks like the training data; `distance` is in units of the bundle's limit."""
    if distance <= 1:
        return None
    said = f"{distance:.2f} times the limit" if distance < 1000 else "far beyond the limit"
    return Finding(rule="likeness", sentence=f"the picture is unlike the training data ({said}, card guard)")


def with_likeness(verdict: Verdict, distance: float, rules: Rules) -> Verdict:
    """The verdict on the header joined with that on the picture."""
    finding = check_likeness(distance) if rules.likeness is not Strictness.OFF else None
    if finding is None or verdict.reason is not None:
        return verdict
    if rules.likeness is Strictness.ENFORCE:
        return Verdict(reason=finding)
    return Verdict(reason=None, warnings=(*verdict.warnings, finding.sentence))


def unstated(instance: Instance) -> tuple[str, ...]:
    """Warnings for what the header leaves open; the image is scored all the same."""
    said = f"{instance.body_part} {descriptions(instance)}"
    warnings = []
    if not instance.body_part.strip() and not CHEST_WORDS.search(said):
        warnings.append("body part not stated")
    if not instance.view_position.strip() and not coded_views(instance):
        warnings.append("view not stated")
    return tuple(warnings)


def judge(instance: Instance, scope: Scope, rules: Rules, *, scores_secondary_capture: bool = False) -> Verdict:
    """The first enforced rule that fails is the reason; flagged rules that fail become warnings."""
    unscorable = not_a_radiograph(instance, scores_secondary_capture)
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
    return Verdict(reason=None, warnings=(*warnings, *unstated(instance)))


def printable(text: str) -> str:
    """A peer's code string, cut and stripped of everything but letters, digits, blanks and a few signs."""
    return re.sub(r"[^\w .,+/-]", "?", text)[:32] or "(empty)"


def age_words(years: float) -> str:
    """An age as a clinician writes it: days, months or years."""
    if years < 31 / 365.25:
        return f"{round(years * 365.25)} days"
    if years < 2:
        return f"{round(years * 12)} months"
    return f"{int(years)} years"
