"""What a header says in words about view, body part and kind of image; devices write CHEST_PA, Thorax.AP and PORTABLE AP ERECT.

Pure text: which rule an image does not meet is `body_part_rules`' to say.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping


def words(*alternatives: str) -> re.Pattern[str]:
    """Any of these as whole words; devices write CHEST_PA and Thorax.AP, so an underscore parts words too."""
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(alternatives)})(?![^\W_])", re.IGNORECASE)


CHEST_WORDS = words(
    "chest", "thorax", r"thoracic(?![\W_]*spine)", "cxr", "lungs?", "pulmonary", "poumons?", "brust", "torace", "torax", "tórax",
    "pulm[aã]o", "pulmones", "lunge", "borstkas", "kl[aá]tka",
)  # fmt: skip
_OTHER_PARTS = (
    "hips?", "knees?", "hands?", "foot", "feet", "ankles?", "wrists?", "elbows?", "shoulders?", "humerus", "femur", "tibia", "fibula",
    "forearms?", "fingers?", "toes?", "thumbs?", "skull", "head", "teeth", "dental", r"panoram\w*", "abdomen", "abdominal", "pelvis",
    r"[ctl]?[\W_]?spine", "lumbar", "cervical", "sacrum", "coccyx", "breasts?", r"extremit\w*", "legs?", "arms?", "clavicles?",
    r"sinus\w*", "kub", "scapula", "sternum", "ribs?", "neck", "patella", "heel", "calcaneus", r"mandib\w*", r"maxill\w*", "orbits?",
    "facial", "nasal",
)  # fmt: skip
OTHER_BODY_WORDS = words(*_OTHER_PARTS)
"""Parts that a description names when it means another examination."""
OTHER_BODY_PARTS = words(
    *_OTHER_PARTS, r"[ctls]+spine", "ctspine", "tlspine", "lsspine", r"whole\W?spine", "spines?", "thoracolumbar", "lumbosacral",
    "sacroiliac", "si", "tmj", "upperleg", "lowerleg", "upperarm", "lowerarm", "uarm", "larm", "uleg", "lleg", "thigh", "calf",
    "hindfoot", "forefoot", "acjoint", "scjoint", "joint", "bladder", "kidneys?", "liver", "pancreas", "stomach", "colon", "esophagus",
    "oesophagus", "uterus", "brain", "face", "jaw", "ear", "iac", "eye", "mouth", "tongue", "throat", "larynx", "pharynx", "thyroid",
    "aorta", "heart", "coronary", "carotid", "artery", "vein", "vessel", "bone", "carpus", "metacarpus", "metatarsus", "tarsus",
    "radius", "ulna", r"\w*wirbel\w*", "hws", "bws", "lws", r"sch[aä]del", "schaedel", "becken", "h[uü]fte", "knie", "fuss", "fuß",
    "schulter", "ellenbogen", "handgelenk", "oberschenkel", "unterschenkel", "oberarm", "unterarm", "finger", "zehe", "bauch",
    "abdomen", "genou", "pied", "main", "poignet", "coude", "épaule", "epaule", "hanche", "bassin", "crâne", "crane", "rachis", "mano",
    "pie", "rodilla", "cadera", "craneo", "cráneo", "hombro", "codo", "columna", "ginocchio", "piede", "polso", "gomito", "spalla",
    "anca", "bacino", "cranio", "colonna", "addome", "mammo", "mamma",
)  # fmt: skip
"""Known parts that (0018,0015) Body Part Examined may name; no description heals one of them."""
POSTURE = words("arms?", "head", "legs?")
"""Words for a part that also say how a patient lies: beside a stated chest they name no other examination."""
NO_BODY_PART = frozenset({
    "", "UNKNOWN", "UNK", "UNKOWN", "OTHER", "OTHERS", "NONE", "N/A", "NA", "N.A", "NOT STATED", "NOT SPECIFIED", "UNSPECIFIED",
    "UNDEFINED", "NOT DEFINED", "NULL", "NIL", "ANY", "MISC", "MISCELLANEOUS", "GENERAL", "DEFAULT", "TEST", "X", "XX", "XXX", "?",
    "-", "--", "VARIOUS", "NO BODY PART", "BODY PART", "BODYPART", "BODY", "UNBEKANNT", "INCONNU", "DESCONOCIDO", "SCONOSCIUTO",
    "ANDERE", "AUTRE", "OTRO", "ALTRO",
})  # fmt: skip
"""What devices write where nobody chose a part."""

LATERAL_WORDS = words(
    "lat", "lateral", "latl", "ll", "rl", "llat", "rlat", "seitlich", "seitl", "lateraal", "profil", "laterale", "perfil",
    "latero[\\W_]?medial", "medio[\\W_]?lateral",
)  # fmt: skip
DECUBITUS_WORDS = words(r"decub\w*", "decubitus", "lld", "rld", "lateral[\\W_]+decubitus", "dekubitus")
OBLIQUE_WORDS = words(
    "obl", r"obliq\w*", "lpo", "rpo", "lao", "rao", "llo", "rlo", "schräg", "schraeg", "schrag", r"obliqu\w*", "oblicua", "lordotic",
    "lordose", "axial", "tangential", "swimmers?",
)  # fmt: skip
FRONTAL_WORDS = words(
    "ap", "pa", "frontal", "front", r"a[.,/]\s?p\.?", r"p[.,/]\s?a\.?", "a[ -]p", "p[ -]a", r"antero[\W_]*posterior",
    r"postero[\W_]*anterior", r"anterior[\W_]*posterior", r"posterior[\W_]*anterior", r"antéro[\W_]*postérieure?",
    r"postéro[\W_]*antérieure?", "face",
)  # fmt: skip
_AP = words("ap", r"a[.,/]\s?p\.?", "a[ -]p", r"ant(?:ero|erior)[\W_]*posterior", "antpost")
_PA = words("pa", r"p[.,/]\s?a\.?", "p[ -]a", r"post(?:ero|erior)[\W_]*anterior", "postant")
_FRONTAL = words("frontal", "front")
LATERAL_VIEWS = frozenset({"LL", "RL", "LAT", "LATERAL", "LLD", "RLD"})
# PS3.16 CID 4010 DX View, in SNOMED RT and SNOMED CT (PS3.16 annex D maps one to the other).
FRONTAL_CODES: Mapping[str, tuple[str, ...]] = {
    "R-10206": ("AP",), "399348003": ("AP",),
    "R-10214": ("PA",), "R-40888": ("PA",), "272479007": ("PA",),
    "R-10202": ("AP", "PA"), "399033003": ("AP", "PA"),
}  # fmt: skip
"""Each with the frontal views it may mean."""
LATERAL_CODES = frozenset(
    {
        *("R-10236", "399173006"),  # left lateral
        *("R-10232", "399198007"),  # right lateral
        *("R-102CD", "399067008"),  # lateral
        *("R-10228", "399352003"),  # lateral-medial
        *("R-10224", "399260004"),  # medial-lateral
    }
)
OBLIQUE_CODES = frozenset(
    {
        *("R-10208", "399312000"),  # antero-posterior oblique
        *("R-10216", "399059000"),  # postero-anterior oblique
        *("R-10204", "399160007"),  # frontal oblique
        *("R-10252", "399132005"),  # frontal-oblique axial
        *("R-10246", "399004004"),  # oblique axial
        *("R-10254", "399325008"),  # sagittal-oblique axial
        *("R-102C1", "399182000"),  # oblique
        *("R-10238", "399184004"),  # left oblique
        *("R-10234", "399236003"),  # right oblique
        *("R-10220", "399135007"),  # left anterior oblique
        *("R-40985", "399356000"),  # right anterior oblique
        *("R-10212", "399006002"),  # left posterior oblique
        *("R-10210", "399038007"),  # right posterior oblique
        *("R-40783", "260427002"),  # lateral oblique
        *("R-40782", "260426006"),  # medial oblique
        *("R-10226", "399368009"),  # medio-lateral oblique
        *("R-10230", "399099002"),  # latero-medial oblique
        *("R-10248", "399288005"),  # oblique cranio-caudal
        *("R-10250", "399225005"),  # oblique caudo-cranial
    }
)
SNOMED_SCHEMES = frozenset({"SCT", "SRT", "SNM3", "99SDM"})
"""Coding Scheme Designators of SNOMED CT and RT (PS3.16 table 8-1); what a code of another scheme means is not known here."""


def judged_view_code(value: str, scheme: str) -> str:
    """The code where it says something: every SNOMED code, and of other schemes one that is SNOMED's by its value; else empty."""
    known = value in FRONTAL_CODES or value in LATERAL_CODES or value in OBLIQUE_CODES
    return value if known or scheme.upper() in SNOMED_SCHEMES else ""


COMPANION_WORDS = words(
    r"bone[\W_]*(?:suppress\w*|subtract\w*|sup|removed|removal|free|less)", r"rib[\W_]*(?:suppress\w*|subtract\w*|removed|removal)",
    r"(?:suppress\w*|subtract\w*)[\W_]*(?:bones?|ribs?)", r"soft[\W_]*tissue(?:[\W_]*(?:image|only|view))?",
    r"bone[\W_]*(?:image|only)", r"dual[\W_]*energy", r"energy[\W_]*subtract\w*", r"temporal[\W_]*subtract\w*", r"subtract(?:ed|ion)",
    "desub",
    r"(?:lines?|tubes?|catheters?|picc|tip|ptx|pneumothorax)(?:[\W_]*(?:and|&|\+|/)?[\W_]*(?:lines?|tubes?))?[\W_]*(?:enhanc\w*|visuali[sz]\w*)",
    r"(?:enhanc\w*|visuali[sz]\w*)[\W_]*(?:lines?|tubes?|catheters?|picc)", r"companion(?:[\W_]*(?:image|view))?", r"tomo\w*", r"dts",
    "linogram", "scout", "topogram", r"locali[sz]er", "surview", "stitched", r"cad[\W_]*(?:result|overlay|marks?)",
)  # fmt: skip
"""Images made beside the radiograph itself, on which the model was never tried."""
COMPANION_TYPES = frozenset({
    "SOFT_TISSUE", "SOFTTISSUE", "BONE", "BONE_SUPPRESSED", "BONE_SUPPRESSION", "DUAL_ENERGY", "DUALENERGY", "ENERGY_SUBTRACTION",
    "SUBTRACTION", "SUBTRACTED", "TOMO", "TOMOSYNTHESIS", "TOMO_PROJ", "TOMO_2D", "LOCALIZER", "SCOUT", "LINE_ENHANCED", "CATHETER",
    "CATHETER_ENHANCED", "HIGH_ENERGY", "LOW_ENERGY", "COMPANION", "STITCHED", "COMPOSED", "GENERATED_2D",
})  # fmt: skip
"""Values of (0008,0008) Image Type from the third on."""


NO_VIEW = words(
    "erect", "upright", "supine", "prone", "standing", "sitting", r"semi\W?(?:erect|upright)?", "portable", "mobile", "bedside", "bed",
    "inspiration", "expiration", "insp", "exp", "chest", "thorax", "grid", "non", "table", "wall", "stand", "bucky", "view",
    "position",
)  # fmt: skip
"""Words of a View Position that say how the image was taken and not from where."""


def no_view(text: str) -> bool:
    """True where a stated view position names no view."""
    return no_body_part(text) or not re.search(r"\w", NO_VIEW.sub(" ", text))


def no_body_part(text: str) -> bool:
    """True where a stated body part says nothing."""
    return re.sub(r"[\s_]+", " ", text).strip(" .").upper() in NO_BODY_PART


def stated_views(text: str) -> frozenset[str]:
    """The frontal views that (0018,5101) View Position or a description names: AP, PA; both where it only says frontal."""
    found = {view for view, pattern in (("AP", _AP), ("PA", _PA)) if pattern.search(text)}
    return frozenset(found or ({"AP", "PA"} if _FRONTAL.search(text) else ()))


def says_not_frontal(text: str) -> str:
    """Which word of a text says that the image is no plain frontal view: lateral, decubitus or oblique; empty where none does.

    A text that names frontal and lateral names the views of the study (`Chest PA and lateral`), not that of one image.
    """
    if DECUBITUS_WORDS.search(text):
        return "decubitus"
    frontal, lateral, oblique = FRONTAL_WORDS.search(text), LATERAL_WORDS.search(text), OBLIQUE_WORDS.search(text)
    if lateral and not frontal:
        return "lateral"
    return "oblique" if oblique and not (frontal and lateral) else ""


def companion_of(texts: Collection[str], image_type: Collection[str]) -> str:
    """The word that says that this is an image made beside the radiograph; empty where none does."""
    for value in list(image_type)[2:]:
        if re.sub(r"[\s-]+", "_", value.strip().upper()) in COMPANION_TYPES:
            return value
    return next((found.group() for text in texts if (found := COMPANION_WORDS.search(text))), "")
