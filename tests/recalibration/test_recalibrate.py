"""Real radiographs: a hospital where the model does not separate is told so, a shifted calibration is repaired by 200 cases."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import sqlalchemy as sa

from prioritizer.calibration.maps import AgeGroup, Calibration
from prioritizer.calibration.operating_point import Wish
from prioritizer.clock import utc_now
from prioritizer.config.policy import policy_of
from prioritizer.config.sections import ScopeSection, Store
from prioritizer.config.settings import Settings
from prioritizer.db.decisions import activation, calibrations
from prioritizer.db.decisions.activation import Decision
from prioritizer.db.decisions.calibrations import CandidateVerdict
from prioritizer.db.schema import connect, migrations
from prioritizer.errors import ConfigError
from prioritizer.inference.bundle import open_bundle
from prioritizer.recalibration.cohort_logits import Cache, Looking
from prioritizer.recalibration.outcome import RecalibrationOutcome, RecalibrationRequest
from prioritizer.recalibration.recalibrate import run
from prioritizer.scope.verdict import Strictness
from prioritizer.statistics.calibration_error import expected_calibration_error
from tests.support.daemons import REPOSITORY, phantom

SHARED = Path(os.environ.get("PRIORITIZER_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
BUNDLE = open_bundle(None)


def shared(name: str) -> Path:
    if not (SHARED / name).is_dir():
        pytest.skip(f"{name} is not here")
    return SHARED / name


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logits seen by one test serve the next."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(store=Store(data=tmp_path / "var"))


@pytest.fixture
def ledger(settings: Settings) -> Iterator[sa.Engine]:
    engine = connect.open_ledger(settings.database_url)
    migrations.upgrade(engine)
    yield engine
    engine.dispose()


def begin_with(ledger: sa.Engine, settings: Settings, starting: Calibration) -> None:
    """Put a calibration in force, as if the site had come to it."""
    calibrations.add(ledger, BUNDLE.digest, starting, CandidateVerdict(word="fit to activate", said="", report=""), "anna", utc_now())
    policy = policy_of(settings, BUNDLE)
    activation.activate(ledger, starting.id, Decision(who="berta"), policy, utc_now())


# --- another hospital, adults --------------------------------------------------------------------------------------


def test_text_mined_labels_judge_nothing_and_what_they_may_hide_is_computed(ledger: sa.Engine, settings: Settings, cache: Path) -> None:
    with pytest.raises(ConfigError, match="never judge"):
        run(
            ledger,
            settings,
            RecalibrationRequest(cohort=tmp_sources(settings, "nih-adult/cohort", 'role = "judge"'), by="anna", cache=cache),
            utc_now(),
        )
    outcome, path = run(ledger, settings, RecalibrationRequest(cohort=shared("nih-adult/cohort"), by="anna", cache=cache), utc_now())
    assert outcome.advice.word != "fit to activate"
    assert outcome.ages is AgeGroup.ADULTS
    assert outcome.auc is not None
    assert outcome.auc.value < 0.9, "radiologists read a sixth of these positives as normal"
    told = json.loads(path.with_suffix(".json").read_text())
    assert told["counts"]["files"] == 200


def test_adults_that_radiologists_read_are_recalibrated_and_the_children_s_map_stays(
    ledger: sa.Engine, settings: Settings, cache: Path
) -> None:
    request = RecalibrationRequest(cohort=tmp_sources(settings, "rsna-mixed", "words = { opacity = 1, other = 0 }"), by="anna", cache=cache)
    outcome, path = run(ledger, settings, request, utc_now())
    assert outcome.ages is AgeGroup.ADULTS
    assert outcome.entered is not None
    own = BUNDLE.calibration
    assert outcome.entered.of_group(AgeGroup.CHILDREN).slope == own.of_group(AgeGroup.CHILDREN).slope
    assert outcome.entered.of_group(AgeGroup.ADULTS).finding == "opacity suspicious of pneumonia"
    assert outcome.auc is not None
    assert outcome.auc.low > 0.8
    assert outcome.gathered is not None
    refused = [image.file for image in outcome.gathered.images if image.scope_rule == "image_kind"]
    assert len(refused) <= 0.05 * len(outcome.gathered.images), refused
    assert "Whose map" in path.read_text()


def tmp_sources(settings: Settings, name: str, more: str) -> Path:
    """A sources file of one shared set of the second hospital."""
    folder = settings.store.data
    folder.mkdir(parents=True, exist_ok=True)
    said = 'label_source = "text-mined"' if name.startswith("nih") else 'label_source = "radiologists"'
    path = folder / f"{name.split('/', maxsplit=1)[0]}.toml"
    path.write_text(
        f'[[source]]\nname = "one"\nsite = "nih"\ndata = "{shared(name)}"\nattribution = "RSNA 2018; NIH ChestX-ray14."\n{said}\n{more}\n'
    )
    return path


# --- the model's own kind of children ------------------------------------------------------------------------------


def chosen(label: str, patients: range) -> list[Path]:
    """One image each of patients in an order that is fixed and has nothing to do with their names."""
    images: dict[str, Path] = {}
    for path in sorted((shared("kermany") / label).iterdir()):
        images.setdefault("-".join(path.stem.split("-")[:-1]) or path.stem.split("_")[0], path)
    names = sorted(images)
    order = np.random.default_rng(20261122).permutation(len(names))
    return [images[names[index]] for index in order[patients.start : patients.stop]]


def cohort(folder: Path, positives: range, negatives: range) -> Path:
    """Children of three years, in folders by class and in a label file that says their age."""
    lines = ["file,label,patient_id,age"]
    for label, patients in (("PNEUMONIA", positives), ("NORMAL", negatives)):
        (folder / label).mkdir(parents=True)
        for path in chosen(label, patients):
            shutil.copy(path, folder / label / path.name)
            lines.append(f"{label}/{path.name},{label},{path.stem.split('_')[0]},3")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


def held_out_error(settings: Settings, cache: Path, calibration: Calibration, positives: range, negatives: range) -> float:
    """Calibration error on images of patients that the cohort does not hold."""
    looking = Looking(BUNDLE, settings, Cache(cache, BUNDLE, settings.model.precision))
    files = [*chosen("PNEUMONIA", positives), *chosen("NORMAL", negatives)]
    try:
        logits = np.array([looking.look(file).logit for file in files])
    finally:
        looking.close()
    labels = np.array([1.0] * len(positives) + [0.0] * len(negatives))
    return expected_calibration_error(calibration.probabilities(logits), labels)


def repaired(ledger: sa.Engine, settings: Settings, cache: Path, folder: Path) -> tuple[RecalibrationOutcome, Calibration]:
    outcome, _ = run(ledger, settings, RecalibrationRequest(cohort=folder, ignore_scope=True, by="anna", cache=cache), utc_now())
    assert outcome.candidate is not None
    return outcome, outcome.candidate


@pytest.mark.timeout(400)
@pytest.mark.parametrize("shift", [-4.0, 3.5])
def test_a_wrong_starting_intercept_is_repaired_by_200_cases(
    ledger: sa.Engine, settings: Settings, cache: Path, tmp_path: Path, shift: float
) -> None:
    wrong = replace(BUNDLE.calibration.moved(1.0, shift, "wrong"), id="wrong-start")
    begin_with(ledger, settings, wrong)
    outcome, made = repaired(ledger, settings, cache, cohort(tmp_path / "cohort", range(80), range(120)))
    fresh = (range(100, 180), range(120, 240))
    assert outcome.before.id == "wrong-start (children)"
    assert held_out_error(settings, cache, wrong, *fresh) > 0.05
    assert held_out_error(settings, cache, made, *fresh) <= 0.05
    assert outcome.fit is not None
    assert outcome.fit.winner != "none"


@pytest.mark.timeout(400)
def test_another_share_of_pneumonia_is_repaired_by_200_cases(ledger: sa.Engine, settings: Settings, cache: Path, tmp_path: Path) -> None:
    # Right where three of four have pneumonia, as in the training data; here it is one of five.
    elsewhere = replace(BUNDLE.calibration.moved(1.0, 3.5, "of another mix"), id="another-mix")
    begin_with(ledger, settings, elsewhere)
    _, made = repaired(ledger, settings, cache, cohort(tmp_path / "cohort", range(40), range(160)))
    fresh = (range(100, 140), range(160, 320))
    assert held_out_error(settings, cache, elsewhere, *fresh) > 0.05
    assert held_out_error(settings, cache, made, *fresh) <= 0.05


def test_the_report_has_the_effect_on_the_list_and_lists_every_fault(
    ledger: sa.Engine, settings: Settings, cache: Path, tmp_path: Path
) -> None:
    folder = cohort(tmp_path / "cohort", range(30), range(30))
    twice = next((folder / "NORMAL").iterdir())
    shutil.copy(twice, folder / "NORMAL" / "copy-0001-0001.jpeg")
    shutil.copy(next((folder / "PNEUMONIA").iterdir()), folder / "NORMAL" / "wrong-0001-0001.jpeg")
    (folder / "NORMAL" / "broken-0001-0001.jpeg").write_bytes(b"not a picture")
    with (folder / "labels.csv").open("a") as labels:
        labels.write("".join(f"\nNORMAL/{name}-0001-0001.jpeg,NORMAL,{name},3" for name in ("copy", "wrong", "broken")))
    request = RecalibrationRequest(cohort=folder, ignore_scope=True, by="anna", cache=cache, report=tmp_path / "r.html")
    _, path = run(ledger, settings, request, utc_now())
    text = path.read_text()
    titles = ("Which images change their band", "Simulated effect", "Who would have moved last week", "Sign-off", "Every fault")
    assert sorted(titles, key=lambda title: text.index(f">{title}")) == list(titles)
    kinds = {finding["what"] for finding in json.loads((tmp_path / "r.json").read_text())["findings"] if finding["excludes"]}
    assert kinds == {"exact duplicate", "contradictory labels", "unreadable"}


def test_unlabelled_consecutive_images_move_to_a_stated_prevalence(
    ledger: sa.Engine, settings: Settings, cache: Path, tmp_path: Path
) -> None:
    folder = cohort(tmp_path / "cohort", range(20), range(60))
    request = RecalibrationRequest(
        cohort=folder,
        unlabelled=True,
        ages=AgeGroup.CHILDREN,
        prevalence=0.25,
        ignore_scope=True,
        by="anna",
        cache=cache,
        wish=Wish(flags_per_day=3, studies_per_day=10),
    )
    outcome, _ = run(ledger, settings, request, utc_now())
    assert (outcome.advice.word, outcome.auc) == ("activate with care", None)
    assert outcome.candidate is not None
    assert outcome.gathered is not None
    p = outcome.candidate.probabilities(outcome.gathered.sample.logits)
    assert p.mean() == pytest.approx(0.25, abs=1e-6)
    assert (p >= outcome.candidate.t_high).mean() <= 0.3


def test_dicom_files_are_read_through_the_decoder_and_the_scope_of_their_headers(
    ledger: sa.Engine, settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "dicom"
    folder.mkdir()
    lines = ["file,label,patient_id"]
    for number in range(44):
        path = phantom(folder, number + 1, opacity=number % 2 == 0, changes={"BodyPartExamined": "FOOT"} if number == 43 else None)
        lines.append(f"{path.name},{int(number % 2 == 0)},p{number}")
    (folder / "labels.csv").write_text("\n".join(lines))
    assert pydicom.dcmread(folder / "phantom-44-1.dcm", stop_before_pixels=True).BodyPartExamined == "FOOT"
    # Phantoms are unlike the training data; only the rules about headers are at stake here.
    headers_alone = settings.model_copy(update={"scope": ScopeSection(likeness=Strictness.OFF)})
    outcome, path = run(ledger, headers_alone, RecalibrationRequest(cohort=folder, by="anna"), utc_now())
    told = json.loads(path.with_suffix(".json").read_text())
    assert [f["file"] for f in told["findings"] if f["what"] == "out of scope"] == ["phantom-44-1.dcm"]
    assert outcome.gathered is not None
    assert len(outcome.gathered.images) == 44


def test_a_request_that_cannot_be_met_names_every_fault_at_once(ledger: sa.Engine, settings: Settings) -> None:
    with pytest.raises(ConfigError) as refused:
        run(ledger, settings, RecalibrationRequest(cohort=None, prevalence=3.0, unlabelled=True, wish=Wish(flags_per_day=1)), utc_now())
    assert len(refused.value.faults) == 3


def test_the_report_says_whom_the_candidate_serves_and_whether_it_is_of_use(
    ledger: sa.Engine, settings: Settings, cache: Path, tmp_path: Path
) -> None:
    folder = cohort(tmp_path / "cohort", range(40), range(40))
    files = sorted(folder.glob("*/*"))
    lines = ["file,label,patient_id,age,view,scanner"]
    for number, path in enumerate(files):
        label = int(path.parent.name == "PNEUMONIA")
        scanner = "one" if number % 2 else "two"
        lines.append(f"{path.relative_to(folder)},{label},{path.stem.split('-00')[0].rsplit('_', 1)[0]},{2 + number % 3},AP,{scanner}")
    (folder / "labels.csv").write_text("\n".join(lines))
    request = RecalibrationRequest(cohort=folder, labels=folder / "labels.csv", ignore_scope=True, by="anna", cache=cache)
    outcome, path = run(ledger, settings, request, utc_now())
    page = path.read_text()
    assert outcome.candidate is not None
    assert "Is it of use" in page
    assert "the candidate, cross-validated" in page
    assert "scanner: one" in page
    assert "1 to under 6 years" not in page  # one age band for all tells nobody apart
