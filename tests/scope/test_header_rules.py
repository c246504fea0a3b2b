"""Only a frontal chest radiograph of the ages that the model knows is scored, and every refusal says why."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.sr._snomed_dict import mapping as SNOMED_RT_TO_CT  # noqa: N812 - a constant of pydicom
from pydicom.sr.codedict import codes

from prioritizer.dicom.read.ages import age_in_years
from prioritizer.dicom.read.attributes import instance_of_file
from prioritizer.scope.guard_rules import with_guard
from prioritizer.scope.header_rules import CHECKS, RADIOGRAPH_CLASSES, judge
from prioritizer.scope.out_of_distribution import Figures
from prioritizer.scope.stated_view import FRONTAL_CODES, LATERAL_CODES, OBLIQUE_CODES
from prioritizer.scope.verdict import Scope, ScopeRules, ScopeVerdict, Strictness, age_words, printable
from tests.support.archive_headers import SECONDARY_CAPTURE, indiana, instance, rsna, shared_data

SCOPE = Scope(max_age_years=17.999)
FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
ENFORCED = ScopeRules()
FLAG_AGE = ScopeRules(age=Strictness.FLAG)
OUTSIDE = {
    "modality": {"modality": "MG"},
    "image_type": {"image_type": ("DERIVED", "SECONDARY")},
    "species": {"species": "Canis lupus familiaris"},
    "body_part": {"body_part": "HIP"},
    "view": {"view_position": "LL"},
    "age": {"age_years": 44.0},
}


def verdict(rules: ScopeRules = ENFORCED, **values: object) -> ScopeVerdict:
    return judge(instance(**values), SCOPE, rules)


def refused_by(**values: object) -> str | None:
    reason = verdict(**values).reason
    return None if reason is None else reason.rule


def test_a_frontal_chest_film_of_a_child_is_scored_without_a_warning():
    assert verdict() == ScopeVerdict(reason=None, warnings=())


def test_every_rule_has_a_case_here():
    # Two look at the picture, not at the header: tests/scope/test_out_of_distribution.py.
    assert OUTSIDE.keys() == {name for name, _ in CHECKS} == set(ScopeRules.__dataclass_fields__) - {"image_kind", "out_of_distribution"}


@pytest.mark.parametrize("rule", OUTSIDE)
def test_an_enforced_rule_refuses_and_names_itself(rule: str):
    found = verdict(**OUTSIDE[rule])
    assert found.reason is not None
    assert found.reason.rule == rule


@pytest.mark.parametrize("rule", OUTSIDE)
def test_a_flagged_rule_scores_with_the_same_sentence_as_a_warning(rule: str):
    enforced = verdict(**OUTSIDE[rule]).reason
    flagged = verdict(ScopeRules(**{rule: Strictness.FLAG}), **OUTSIDE[rule])
    assert flagged.eligible
    assert enforced is not None
    assert enforced.sentence in flagged.warnings


@pytest.mark.parametrize("rule", OUTSIDE)
def test_a_rule_that_is_off_says_nothing(rule: str):
    assert verdict(ScopeRules(**{rule: Strictness.OFF}), **OUTSIDE[rule]) == ScopeVerdict(reason=None, warnings=())


# --- what can never be scored ------------------------------------------------------------------------------------


ALL_OFF = ScopeRules(**dict.fromkeys(OUTSIDE, Strictness.OFF))


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"made_by_us": True}, "own-object"),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.2"}, "object-class"),
        ({"sop_class_uid": SECONDARY_CAPTURE}, "object-class"),
        ({"has_pixels": False}, "no-pixels"),
        ({"number_of_frames": 34}, "frames"),
    ],
)
def test_some_objects_are_never_scored_however_lax_the_site(values: dict[str, object], rule: str):
    reason = verdict(ALL_OFF, **values).reason
    assert reason is not None
    assert reason.rule == rule


@pytest.mark.parametrize("sop_class", sorted(RADIOGRAPH_CLASSES))
def test_cr_and_both_kinds_of_dx_are_radiographs(sop_class: str):
    assert judge(instance(sop_class_uid=sop_class), SCOPE, ScopeRules(), scores_for_processing=True).eligible


@pytest.mark.parametrize(
    "values", [{"sop_class_uid": FOR_PROCESSING}, {"presentation_intent": "FOR PROCESSING"}, {"presentation_intent": "for processing "}]
)
def test_raw_values_of_the_detector_are_not_scored_unless_the_peer_is_told_so(values: dict[str, object]):
    reason = verdict(ALL_OFF, **values).reason
    assert reason is not None
    assert reason.rule == "for-processing"
    assert "score_for_processing = true" in reason.sentence
    assert judge(instance(**values), SCOPE, ScopeRules(), scores_for_processing=True).eligible


def test_a_peer_may_send_its_radiographs_as_secondary_captures():
    film = instance(sop_class_uid=SECONDARY_CAPTURE)
    assert judge(film, SCOPE, ScopeRules(), scores_secondary_capture=True).eligible


def test_the_refusal_of_a_secondary_capture_names_the_setting():
    reason = verdict(sop_class_uid=SECONDARY_CAPTURE).reason
    assert reason is not None
    assert "score_secondary_capture = true" in reason.sentence


def test_our_own_object_is_not_scored_even_from_such_a_peer():
    own = instance(sop_class_uid=SECONDARY_CAPTURE, made_by_us=True)
    assert not judge(own, SCOPE, ALL_OFF, scores_secondary_capture=True).eligible


# --- body part ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["CHEST", "chest", "THORAX", "NON GRID CHEST", "PORTABLE CHEST", "CHEST_PA", "Thorax pa", "LUNG"])
def test_a_body_part_that_says_chest_is_the_chest(part: str):
    assert refused_by(body_part=part) is None


@pytest.mark.parametrize("said", ["XR CHEST 2 VIEWS", "W033 Thorax_ap", "portable CXR", "Tórax PA", "RX torace"])
def test_a_description_that_says_chest_heals_an_empty_or_wrong_body_part(said: str):
    assert refused_by(body_part="", study_description=said) is None
    assert refused_by(body_part="EXTREMETY", series_description=said) is None


@pytest.mark.parametrize(
    "part", ["ABDOMEN", "HAND", "SKULL", "PELVIS", "TSPINE", "EXTREMITY", "RIBS", "Becken", "WHOLE SPINE", "LOWER_LEG KNEE"]
)
def test_a_known_other_part_is_never_healed_by_a_description(part: str):
    reason = verdict(body_part=part, study_description="Chest 2 views", series_description="Thorax").reason
    assert reason is not None
    assert reason.rule == "body_part"
    assert part.upper() in reason.sentence
    assert "hest" in reason.sentence
    assert "disagree" in reason.sentence


@pytest.mark.parametrize("part", ["UNKNOWN", "OTHER", "NONE", "n/a", "Unspecified", "not stated", "-", "_"])
def test_a_part_that_nobody_chose_is_not_stated(part: str):
    assert refused_by(body_part=part, series_description="Chest AP") is None
    assert refused_by(body_part=part, series_description="Hand left") == "body_part"
    assert verdict(body_part=part).warnings == ("body part not stated",)


@pytest.mark.parametrize(
    "values",
    [
        {"series_description": "Hip left"},
        {"protocol_name": "ABDOMEN supine"},
        {"study_description": "XR KNEE LEFT"},
        {"anatomic_region": "Knee"},
    ],
)
def test_a_stated_chest_is_denied_by_what_names_another_part_alone(values: dict[str, object]):
    reason = verdict(body_part="CHEST", **values).reason
    assert reason is not None
    assert reason.rule == "body_part"
    assert "CHEST" in reason.sentence
    assert "disagree" in reason.sentence


@pytest.mark.parametrize(
    "values",
    [
        {"series_description": "Chest AP", "study_description": "Trauma: pelvis"},
        {"series_description": "Chest + abdomen"},
        {"series_description": "AP arms up, head of bed"},
        {"anatomic_region": "Brustkorb"},
    ],
)
def test_a_stated_chest_is_not_denied_by_what_is_said_beside_it(values: dict[str, object]):
    assert refused_by(body_part="CHEST", **values) is None


def test_what_is_said_of_the_image_goes_before_what_is_said_of_the_study():
    assert refused_by(body_part="", series_description="Hip left", study_description="chest + hips") == "body_part"


@pytest.mark.parametrize(
    "said",
    [
        "Hip left",
        "KNEE_AP",
        "Panoramic",
        "cervical spine",
        "thoracic spine",
        "Thoracic-Spine AP",
        "T-SPINE",
        "Both hands",
        "ABDOMEN supine",
    ],
)
def test_a_description_of_another_part_refuses_an_empty_body_part(said: str):
    assert refused_by(body_part="", protocol_name=said) == "body_part"


@pytest.mark.parametrize("part", ["HIP", "EXTREMITY", "TSPINE", "ABDOMEN", "SKULL"])
def test_another_body_part_is_refused(part: str):
    assert refused_by(body_part=part) == "body_part"


def test_words_inside_words_do_not_count():
    assert refused_by(body_part="", study_description="Brustwirbel CHIPS armoured") is None


def test_what_is_not_stated_is_scored_with_a_warning():
    assert verdict(body_part="", view_position="") == ScopeVerdict(reason=None, warnings=("body part not stated", "view not stated"))


# --- view ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "view",
    [
        *("AP", "PA", " pa ", "AP ERECT", "PORTABLE AP", "POSTEROANTERIOR", "ANTEROPOSTERIOR", "Postero-anterior", "ANTERIOR POSTERIOR"),
        *("p.a.", "AP_SUPINE", "CHEST PA", "FRONTAL", "A/P"),
    ],
)
def test_frontal_views_are_scored(view: str):
    assert verdict(view_position=view).warnings == ()


@pytest.mark.parametrize(
    "view", ["LL", "RL", "LATERAL", "LLD", "LARGE LATERAL", "OBL", "lat", "RAO", "AP OBLIQUE", "AP LLD", "AP/LAT", "DECUB", "LORDOTIC"]
)
def test_other_views_are_refused(view: str):
    assert refused_by(view_position=view) == "view"


@pytest.mark.parametrize("view", ["ERECT", "PORTABLE", "UNKNOWN", "CHEST"])
def test_a_view_position_that_names_no_view_is_not_stated(view: str):
    assert verdict(view_position=view).warnings == ("view not stated",)


@pytest.mark.parametrize(
    "values",
    [
        {"series_description": "Chest LATERAL", "protocol_name": "Thorax lateral"},
        {"series_description": "Thorax seitlich", "patient_orientation": ("L", "F")},
        {"processing_description": "CHEST LAT"},
        {"series_description": "Chest AP left lateral decubitus"},
        {"series_description": "Chest oblique"},
        {"patient_orientation": ("F", "A")},
        {"patient_orientation": ("a", "f")},
        {"view_codes": ("399356000",)},
    ],
)
def test_a_stated_view_that_something_else_denies_is_out_of_scope_with_both_named(values: dict[str, object]):
    reason = verdict(view_position="AP", **values).reason
    assert reason is not None
    assert reason.rule == "view"
    assert reason.sentence.startswith("View Position AP, but ")


@pytest.mark.parametrize("said", ["Chest PA and lateral", "Chest PA/LAT", "CHEST 2V FRONTAL/LATERAL", "Thorax face et profil"])
def test_a_list_of_views_does_not_deny_the_one_that_is_stated(said: str):
    assert refused_by(view_position="PA", series_description=said) is None
    assert refused_by(view_position="", series_description=said) == "view"


@pytest.mark.parametrize(
    "values",
    [
        {"series_description": "Chest bone suppressed"},
        {"series_description": "Chest PA soft tissue"},
        {"image_type": ("DERIVED", "PRIMARY", "SOFT_TISSUE")},
        {"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")},
        {"protocol_name": "Dual-Energy chest"},
        {"series_description": "CHEST TOMO"},
        {"series_description": "Scout"},
        {"processing_description": "Tube and Line Visualization"},
        {"series_description": "Chest PICC enhanced"},
        {"derivation_description": "Rib suppression"},
    ],
)
def test_an_image_made_beside_the_radiograph_is_not_scored(values: dict[str, object]):
    assert refused_by(**values) == "image_type"


@pytest.mark.parametrize("said", ["Chest portable, line placement", "Chest tube check", "Chest PA edge enhanced", "Customer chest"])
def test_a_radiograph_of_lines_and_tubes_is_a_radiograph(said: str):
    assert refused_by(series_description=said) is None


@pytest.mark.parametrize("directions", [("V", "CD"), ("CR", "D"), ("LE", "CD")])
def test_the_directions_of_an_animal_are_out_of_scope(directions: tuple[str, ...]):
    assert refused_by(patient_orientation=directions) == "species"


def test_the_cards_views_decide():
    only_pa = Scope(views=("PA",))
    reason = judge(instance(view_position="AP"), only_pa, ScopeRules()).reason
    assert reason is not None
    assert reason.sentence == "View Position AP is not PA (card scope.views)"
    assert not judge(instance(view_position="", view_codes=("399348003",)), only_pa, ScopeRules()).eligible


@pytest.mark.parametrize("code", sorted(FRONTAL_CODES))
def test_a_frontal_view_code_is_scored(code: str):
    assert verdict(view_position="", view_codes=(code,)).warnings == ()


@pytest.mark.parametrize("code", sorted(LATERAL_CODES))
def test_a_lateral_view_code_is_refused(code: str):
    assert refused_by(view_position="", view_codes=(code,)) == "view"


def test_view_codes_are_those_of_the_standard():
    # pydicom's copy of PS3.16 CID 4010 is the oracle; it holds the SNOMED CT half.
    views = codes.cid4010
    frontal = {views.AnteroPosterior.value: ("AP",), views.PosteroAnterior.value: ("PA",), views.Frontal.value: ("AP", "PA")}
    lateral = {
        v.value for v in (views.LeftLateral, views.RightLateral, views.LateralProjection, views.LateralMedial, views.MedioLateralProjection)
    }
    oblique = {getattr(views, name).value for name in dir(views) if "Oblique" in name}
    assert {code: view for code, view in FRONTAL_CODES.items() if code.isdigit()} == frontal
    assert {code for code in LATERAL_CODES if code.isdigit()} == lateral
    assert {code for code in OBLIQUE_CODES if code.isdigit()} == oblique


@pytest.mark.parametrize("named", [set(FRONTAL_CODES), LATERAL_CODES, OBLIQUE_CODES], ids=["frontal", "lateral", "oblique"])
def test_each_view_code_is_known_in_both_snomeds(named: set[str]):
    # PS3.16 annex D; R-10214 is another name of R-40888.
    pairs = {old: new for old, new in SNOMED_RT_TO_CT["SRT"].items() if new in named}
    assert named == {*pairs, *pairs.values()} | (named & {"R-10214"})


@pytest.mark.parametrize("code", ["R-10241", "399061009", "R-102C2", "399110001", "399162004", "30730003"])
@pytest.mark.parametrize("view", ["", "AP"])
def test_a_view_code_that_is_no_frontal_one_is_refused_and_named(code: str, view: str):
    reason = verdict(view_position=view, view_codes=(code,)).reason
    assert reason is not None
    assert f"View Code {code} is not that of a frontal view" in reason.sentence


@pytest.mark.parametrize("code", sorted(OBLIQUE_CODES))
def test_an_oblique_view_code_is_refused(code: str):
    assert refused_by(view_position="", view_codes=(code,)) == "view"


@pytest.mark.parametrize("row", ["A", "P", "AF"])
def test_a_patient_orientation_that_looks_from_the_side_is_refused(row: str):
    assert refused_by(view_position="", patient_orientation=(row, "F")) == "view"


@pytest.mark.parametrize("values", [{"view_codes": ("399173006",)}, {"patient_orientation": ("A", "F")}])
def test_tags_that_disagree_about_the_view_refuse(values: dict[str, object]):
    assert refused_by(view_position="PA", **values) == "view"


def test_a_patient_orientation_that_looks_from_the_front_is_scored():
    assert refused_by(view_position="", patient_orientation=("L", "F")) is None


@pytest.mark.parametrize("said", ["CHEST LAT", "Thorax_lateral", "THORAX SEITLICH", "Lat. chest", "chest profil"])
def test_a_description_that_says_lateral_is_refused(said: str):
    assert refused_by(view_position="", series_description=said) == "view"
    assert refused_by(view_position="", processing_description=said) == "view"


def test_the_study_description_does_not_decide_the_view_of_one_image():
    assert refused_by(view_position="", study_description="Chest PA and lateral") is None


# --- age ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "years"),
    [
        ("018M", 1.5),
        ("009D", 9 / 365.25),
        ("003W", 21 / 365.25),
        ("005Y", 5.0),
        ("58", 58.0),
        ("000D", 0.0),
        ("018m", 1.5),
        ("120Y", 120.0),
        ("155", None),
        ("148Y", None),
        ("0", None),
        ("", None),
        ("abc", None),
        ("-3Y", None),
        ("005Y005M", None),
    ],
)
def test_an_age_is_read_with_its_unit(age: str, years: float | None):
    assert age_in_years(age, "", "") == (years if years is None else pytest.approx(years))


@pytest.mark.parametrize(
    ("birth", "studied", "years"),
    [
        ("20200101", "20230101", 3.0),
        ("2020.01.01", "20230101", 3.0),
        ("20230101", "20230101", 0.0),
        ("20230102", "20230101", None),
        ("18500101", "20230101", None),
        ("20201301", "20230101", None),
        ("2020", "20230101", None),
        ("20200101", "", None),
    ],
)
def test_without_an_age_the_dates_decide(birth: str, studied: str, years: float | None):
    found = age_in_years("155", birth, studied)
    assert found == (years if years is None else pytest.approx(years, abs=0.003))


@given(st.text(max_size=8), st.text(max_size=12), st.text(max_size=12))
def test_no_text_makes_an_age_outside_a_life(age: str, birth: str, studied: str):
    found = age_in_years(age, birth, studied)
    assert found is None or 0 <= found <= 120


@pytest.mark.parametrize("years", [0.0, 9 / 365.25, 17.0, 17.9])
def test_children_are_in_scope(years: float):
    assert refused_by(age_years=years) is None


@pytest.mark.parametrize(
    ("years", "sentence"),
    [
        (None, "age not stated; the model is for 0 to 17 years (card scope.age)"),
        (18.0, "age 18 years is outside 0 to 17 years (card scope.age)"),
    ],
)
def test_other_ages_are_refused_with_their_age(years: float | None, sentence: str):
    reason = verdict(age_years=years).reason
    assert reason is not None
    assert reason.sentence == sentence


@pytest.mark.parametrize(
    ("stated", "by_dates", "both"),
    [
        (0.0, 76.0, "Patient's Age says 0, the birth date 76 years: they disagree"),
        (5.0, 76.0, "Patient's Age says 5 years, the birth date 76 years: they disagree"),
        (16.0, 4.2, "Patient's Age says 16 years, the birth date 4 years: they disagree"),
    ],
)
def test_an_age_that_the_birth_date_denies_is_out_of_scope_with_both_named(stated: float, by_dates: float, both: str):
    reason = verdict(age_years=stated, age_stated=stated, age_by_dates=by_dates).reason
    assert reason is not None
    assert reason.sentence == both


def test_an_age_that_dates_cut_to_the_year_move_a_little_is_no_contradiction():
    assert refused_by(age_years=4.0, age_stated=4.0, age_by_dates=5.9) is None


def test_who_turned_eighteen_by_the_dates_is_outside():
    assert refused_by(age_years=17.0, age_stated=17.0, age_by_dates=18.2) == "age"


@pytest.mark.parametrize(("age", "years"), [("000Y", 76.0), ("000D", 76.0), (" 5Y", 5.0), ("5 Y", 5.0)])
def test_a_default_of_zero_is_no_age_where_the_dates_deny_it(age: str, years: float):
    assert age_in_years(age, "19500101", "20260101") == pytest.approx(years, abs=0.01)


@pytest.mark.parametrize(
    ("years", "said"), [(9 / 365.25, "9 days"), (1.5, "18 months"), (0.5, "6 months"), (2.0, "2 years"), (17.9, "17 years")]
)
def test_ages_are_said_as_a_clinician_says_them(years: float, said: str):
    assert age_words(years) == said


# --- words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [{"processing_description": "CANINE LATERAL THORAX 0-15cm"}, {"study_description": "dog thorax"}])
def test_an_animal_is_known_by_the_description_too(values: dict[str, object]):
    assert refused_by(**values) == "species"


@pytest.mark.parametrize("species", ["Canis lupus familiaris", "code 448771007", "breed Beagle", "Non-human primate"])
def test_any_other_species_is_out_of_scope(species: str):
    assert refused_by(species=species) == "species"


@pytest.mark.parametrize("species", ["", "Homo sapiens", "HUMAN"])
def test_a_human_is_in_scope(species: str):
    assert refused_by(species=species) is None


@given(st.text(max_size=100))
def test_a_peers_text_is_made_printable_and_short(text: str):
    said = printable(text)
    assert 0 < len(said) <= 32
    assert not set(said) & set("<>&\"'\n\x1b")


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_any_text_gets_a_verdict_with_a_reason(body_part: str, view: str, said: str):
    found = verdict(body_part=body_part, view_position=view, series_description=said)
    assert found.eligible == (found.reason is None)


def test_a_doubtful_drawing_is_the_reason_and_not_unlike_training_data():
    found = judge(instance(rendering_warnings=("the VOI LUT Function is unknown: read as LINEAR",)), SCOPE, ScopeRules())
    assert found.warnings == found.doubts == ("the VOI LUT Function is unknown: read as LINEAR",)
    refused = with_guard(found, Figures(image_kind=1.4), ScopeRules()).reason
    assert refused is not None
    assert refused.rule == "rendering"
    assert "VOI LUT Function" in refused.sentence
    assert "training data" not in refused.sentence
    flagged = with_guard(found, Figures(image_kind=1.4), ScopeRules(image_kind=Strictness.FLAG))
    assert flagged.eligible
    assert not any("training data" in warning for warning in flagged.warnings)


# --- real headers -------------------------------------------------------------------------------------------------


def outcomes(films: list, rules: ScopeRules, *, secondary_capture: bool) -> dict[str, int]:
    verdicts = [judge(film, SCOPE, rules, scores_secondary_capture=secondary_capture) for film, _ in films]
    return dict(Counter("scored" if v.reason is None else v.reason.rule for v in verdicts))


def test_the_indiana_archive_is_scored_where_its_headers_allow():
    # 2,306 of its CR films carry DERIVED\SECONDARY\\CSA RESAMPLED: the reason tells such a site of scope.image_type = "flag".
    films = indiana()
    assert outcomes(films, FLAG_AGE, secondary_capture=False) == {
        "scored": 4293, "image_type": 2306, "view": 866, "body_part": 2, "object-class": 2,
    }  # fmt: skip
    lax = ScopeRules(age=Strictness.FLAG, image_type=Strictness.FLAG)
    assert outcomes(films, lax, secondary_capture=True) == {"scored": 6601, "view": 866, "body_part": 2}


def test_adults_of_the_indiana_archive_are_refused_by_age():
    assert outcomes(indiana(), ScopeRules(), secondary_capture=False) == {
        "scored": 24, "age": 4269, "image_type": 2306, "view": 866, "body_part": 2, "object-class": 2,
    }  # fmt: skip


def test_no_lateral_of_the_indiana_archive_is_scored():
    lax = ScopeRules(age=Strictness.OFF, image_type=Strictness.OFF)
    stated_lateral = [film for film, view in indiana() if view in ("LL", "RL", "LATERAL", "LARGE LATERAL")]
    assert len(stated_lateral) == 867
    assert not any(judge(film, SCOPE, lax, scores_secondary_capture=True).eligible for film in stated_lateral)


def test_every_stated_frontal_chest_of_the_indiana_archive_is_scored():
    lax = ScopeRules(age=Strictness.OFF, image_type=Strictness.OFF)
    frontal = [film for film, view in indiana() if view in ("AP", "PA") and film.body_part != "EXTREMETY"]
    assert len(frontal) == 4015
    assert all(judge(film, SCOPE, lax, scores_secondary_capture=True).eligible for film in frontal)


def test_the_share_of_the_indiana_archive_that_is_stat_is_a_few_per_cent():
    assert sum(film.stat for film, _ in indiana()) == 427


def test_the_rsna_files_are_scored_only_from_a_peer_that_is_told_so():
    films = rsna()
    assert outcomes(films, FLAG_AGE, secondary_capture=False) == {"object-class": 26684}
    assert outcomes(films, FLAG_AGE, secondary_capture=True) == {"scored": 26684}
    assert outcomes(films, ScopeRules(), secondary_capture=True) == {"scored": 1276, "age": 25408}


def test_an_age_beyond_a_life_is_not_stated():
    assert sorted(text for film, text in rsna() if film.age_years is None) == ["148", "150", "151", "153", "155"]


EVERYDAY = {
    "fuji_CR-MONO1-10-chest_nopreamble": None,
    "fuji_pseudoPHI_AP_portable_RLE_burnedin": None,
    "konica_CR_mono1_jpegbaseline": None,
    "philips_RG1_J2K_lossy": None,
    "philips_RG1_JPEGLS_near": None,
    "nih_google_00000001_000_implicit": None,
    "nih_google_Covid0000_implicit": None,
    "rsna_16d7f894_relabelled_MONOCHROME1": None,
    "rsna_stage2_16d7f894_PA_jpegbaseline": None,
    "nonchest_RG2_UNC": "body_part",
    "nonchest_RG3_J2KR": "body_part",
    "nonchest_cr_dental_panoramic_modalityLUT": "body_part",
    "nonchest_dx_dog_thorax_mono1": "species",
    "nonchest_RG2_RLE": "image_type",
    "nonchest_mg_ge_voilut": "object-class",
    "nonchest_ct_chest_jpegll": "object-class",
    "nonchest_ct_localizer_pseudoPHI_CHEST": "object-class",
    "nonchest_us_mf34_jpeg_ybr": "object-class",
    "nonchest_xa_12frames_jpegll": "object-class",
    "nonchest_sr_comprehensive": "object-class",
    "nonchest_pr_gsps_anon": "object-class",
    "nonchest_encapsulated_pdf": "object-class",
    "nonchest_sc_rgb_rle_fracture": "modality",
    "weird_charset_chrJapMulti": "no-pixels",
}


@pytest.mark.parametrize("name", EVERYDAY)
def test_the_files_of_a_quiet_day_are_told_apart(name: str):
    film = instance_of_file(shared_data("dicom", "everyday", f"{name}.dcm"))
    reason = judge(film, SCOPE, FLAG_AGE, scores_secondary_capture=True).reason
    assert (reason.rule if reason else None) == EVERYDAY[name]


def test_no_verdict_quotes_a_name_or_number_of_the_patient():
    film = instance(patient_name="Secret^Name", patient_id="P-4711", accession_number="A-4712", patient_birth_date="20200101")
    for values in OUTSIDE.values():
        reason = judge(replace(film, **values), SCOPE, ScopeRules()).reason
        assert reason is not None
        assert not any(secret in reason.sentence for secret in ("Secret", "4711", "4712", "20200101"))


def test_where_no_age_is_outside_the_scope_a_missing_one_is_a_warning() -> None:
    ageless, every = instance(age_years=None), Scope(min_age_years=0, max_age_years=120)
    found = judge(ageless, every, ScopeRules())
    assert found.eligible
    assert "age not stated" in found.warnings
    assert "age not stated" not in judge(instance(age_years=40.0), every, ScopeRules()).warnings
    assert not judge(ageless, SCOPE, ScopeRules()).eligible
    assert not judge(ageless, Scope(min_age_years=18, max_age_years=120), ScopeRules()).eligible
