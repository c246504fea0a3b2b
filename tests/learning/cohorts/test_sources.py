"""Several hospitals in one run: what a sources file says, who judges, what is drawn how often, and what a site may not do."""

from __future__ import annotations

import shutil
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from prioritizer.calibration import local_fit
from prioritizer.errors import ConfigError
from prioritizer.inference import bundle_card
from prioritizer.inference.bundle import open_bundle
from prioritizer.learning.bundling import card_statement as bundling_statement
from prioritizer.learning.bundling import export
from prioritizer.learning.cohorts import lung_masks
from prioritizer.learning.cohorts.labelled_image import TEXT_MINED, LabelledImage
from prioritizer.learning.cohorts.read import Cohort, read_cohort
from prioritizer.learning.cohorts.sources import Source, Sources
from prioritizer.learning.cohorts.splits import LEFT_OUT, read_splits
from prioritizer.learning.description import describe
from prioritizer.learning.description import report as description_report
from prioritizer.learning.evaluation import never_seen
from prioritizer.learning.evaluation.trials import EvaluationRequest, trials_of
from prioritizer.learning.training import run_facts, train
from prioritizer.learning.training.run_folder import Journal
from prioritizer.recalibration.cohort import labelled_cohort
from tests.support.cohort_files import film, shared, table
from tests.support.hospitals import QUICK, image, mined, source, sources_file
from tests.support.phantom_training import TINY, phantom_cohort

STATEMENT = Path(__file__).parents[3] / "config" / "recipes" / "house-statement.toml"


# --- what the file says ---------------------------------------------------------------------------------------------


def test_a_sources_file_is_one_cohort_with_site_role_and_what_is_owed(hospitals: Path, cohort: Cohort):
    assert cohort.root == hospitals.parent.parent / "data"
    assert (cohort.title, cohort.split_seed) == ("two", 7)
    assert [(s.name, s.site, s.role, s.label_source) for s in cohort.sources] == [
        ("east", "east", "both", "folder"),
        ("mined", "west", "train", TEXT_MINED),
        ("read", "west", "judge", "radiologists"),
    ]
    assert sum(s.images for s in cohort.sources) == len(cohort.images)
    assert sum(s.pneumonia for s in cohort.sources) == sum(i.label for i in cohort.images)
    assert cohort.sources[0].attribution == "CC BY 4.0, cite east."
    assert cohort.form.startswith("two.toml, 3 sources of 2 sites: east (east, both): folders NORMAL/ and PNEUMONIA/; mined (west, train):")
    assert {i.patient.partition(":")[0] for i in cohort.images} == {"east", "west"}
    of_mined = [i for i in cohort.images if i.label_source == TEXT_MINED]
    assert {(i.label, i.subtype) for i in of_mined} >= {(0, "other")}
    assert cohort.fault_counts == {"excluded": 1}
    (fault,) = cohort.faults
    assert fault.file.startswith("mined: labels.csv line ")
    assert "read_as is 'Normal' and label is 'opacity'" in fault.said
    assert {i.mask is not None for i in cohort.images if i.site == "east" and i.label} == {True}
    assert all(i.mask is None for i in cohort.images if i.site == "west" or not i.label)


def test_equal_ids_are_one_patient_at_a_site_and_two_at_two_sites(tmp_path: Path):
    for name, seed in (("a", 1), ("b", 500), ("c", 900)):
        phantom_cohort(tmp_path / name, patients=1, first_seed=seed)
    file = sources_file(tmp_path / "s.toml", source("a", "one", "a"), source("b", "one", "b"), source("c", "two", "c"))
    patients = Counter(i.patient for i in read_cohort(file).images)
    assert patients == {"one:IM-0000": 2, "one:person0": 2, "two:IM-0000": 1, "two:person0": 1}


def test_blocks_hold_patients_whose_last_numbers_lie_together(tmp_path: Path):
    for name in ("NORMAL/IM-0049-0001", "NORMAL/IM-0050-0001", "PNEUMONIA/person99_virus_1", "PNEUMONIA/person100_virus_1", "NORMAL/none"):
        film(tmp_path / "a" / f"{name}.png", len(name))
    file = sources_file(tmp_path / "s.toml", source("a", "one", "a", block=50))
    assert {i.patient: i.block for i in read_cohort(file).images} == {
        "one:IM-0049": "one:IM-0",
        "one:IM-0050": "one:IM-1",
        "one:person99": "one:person1",
        "one:person100": "one:person2",
        "one:none": "",
    }


def test_at_most_so_many_images_are_drawn_and_the_others_are_named(tmp_path: Path):
    phantom_cohort(tmp_path / "a", patients=10)
    kept = {}
    for seed in (1, 1, 2):
        file = sources_file(tmp_path / "s.toml", source("a", "one", "a", most=12), head=f"split_seed = {seed}\n")
        found = read_cohort(file)
        assert (len(found.images), found.fault_counts) == (12, {"not-drawn": 18})
        assert found.faults[0].said == "more than most = 12; left out by chance"
        assert kept.setdefault(seed, found.images) == found.images
    assert kept[1] != kept[2]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sight": "x"}, "unknown key 'source.0.sight'; did you mean 'site'?"),
        ({"role": "learn"}, "source.0.role: Input should be 'both', 'train' or 'judge'"),
        ({"attribution": None}, "source.0.attribution: Field required"),
        ({"attribution": ""}, "source.0.attribution: "),
        ({"words": {"opacity": 2}}, "source.0.words.opacity: "),
        ({"words": {"normal": 1}}, "source.0.words: 'normal' already means 0"),
        ({"leave_out": [{}]}, "source.0.leave_out: an empty rule would leave out every row"),
        ({"label_source": "Text mined"}, "source.0: text-mined labels may train, never judge"),
        ({"label_source": "text-mined", "role": "judge"}, 'set role = "train"'),
        ({"data": "b"}, "source a: {tmp}/b: no such folder"),
        ({"labels": "b.csv"}, "source a: {tmp}/b.csv: no such label file"),
        ({"masks": "b"}, "source a: {tmp}/b: no such folder of masks"),
        ({"masks": "."}, "source a: {tmp}: holds no mask of these images"),
        ({"words": {"opacity": 1}}, "source a: {tmp}/a: words, leave_out and boxes are of a label table"),
    ],
)
def test_a_fault_of_a_sources_file_names_file_key_and_remedy(tmp_path: Path, change: dict[str, object], said: str):
    phantom_cohort(tmp_path / "a", patients=2)
    file = sources_file(tmp_path / "s.toml", source(**{"name": "a", "site": "one", "data": "a"} | change))
    with pytest.raises(ConfigError) as caught:
        read_cohort(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert said.format(tmp=tmp_path) in str(caught.value)


def test_faults_of_all_sources_come_together_and_names_are_unique(tmp_path: Path):
    file = sources_file(tmp_path / "s.toml", source("a", "one", "a"), source("b", "one", "b"))
    with pytest.raises(ConfigError) as caught:
        read_cohort(file)
    assert len(caught.value.faults) == 2
    with pytest.raises(ConfigError, match="two sources are named a"):
        read_cohort(sources_file(tmp_path / "s.toml", source("a", "one", "a"), source("a", "two", "b")))
    with pytest.raises(ConfigError, match=r"s\.toml: source: Field required"):
        read_cohort(sources_file(tmp_path / "s.toml"))
    with pytest.raises(ConfigError, match=r"unknown key 'split_sed'; did you mean 'split_seed'\?"):
        read_cohort(sources_file(tmp_path / "s.toml", source("a", "one", "a"), head="split_sed = 1\n"))
    with pytest.raises(ConfigError, match="not valid TOML"):
        read_cohort(sources_file(tmp_path / "s.toml", head="split_seed = \n"))


def test_a_file_stands_in_one_source(tmp_path: Path):
    phantom_cohort(tmp_path / "a", patients=2)
    with pytest.raises(ConfigError, match=r"IM-0000-0000\.png stands in source a and in source b"):
        read_cohort(sources_file(tmp_path / "s.toml", source("a", "one", "a"), source("b", "two", "./a")))


def test_label_files_stand_in_the_sources_file(hospitals: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="is a sources file; a label file stands in it"):
        read_cohort(hospitals, table(tmp_path / "labels.csv", "file,label"))


@pytest.mark.parametrize(("label", "word"), [("NORMAL", "without"), ("PNEUMONIA", "with")])
def test_a_site_whose_training_images_are_of_one_class_is_refused(tmp_path: Path, label: str, word: str):
    for name, seed in (("a", 1), ("b", 400)):
        phantom_cohort(tmp_path / name, patients=2, first_seed=seed)
    shutil.rmtree(tmp_path / "b" / {"NORMAL": "PNEUMONIA", "PNEUMONIA": "NORMAL"}[label])
    rows = [f"{label}/{path.name},{label}" for path in sorted((tmp_path / "b" / label).iterdir())]
    table(tmp_path / "b" / "labels.csv", "file,label", *rows)
    with pytest.raises(ConfigError, match=rf"site two: .* are {word} pneumonia, so the site would predict the label"):
        read_cohort(sources_file(tmp_path / "s.toml", source("a", "one", "a"), source("b", "two", "b", role="train")))
    judged = read_cohort(sources_file(tmp_path / "s.toml", source("a", "one", "a"), source("b", "two", "b", role="judge")))
    assert {i.site for i in judged.images} == {"one", "two"}, "what only judges may be of one class"


def nih(root: Path) -> Path:
    for name in ("00000001_000", "00000002_000"):
        film(root / f"{name}.png", int(name[:8]))
    table(
        root / "Data_Entry_2017.csv",
        "Image Index,Finding Labels,Patient ID",
        "00000001_000.png,Pneumonia,1",
        "00000002_000.png,No Finding,2",
    )
    return root


def test_mined_labels_of_a_public_set_are_known_as_such_and_never_judge(tmp_path: Path):
    nih(tmp_path / "nih")
    assert {i.label_source for i in read_cohort(tmp_path / "nih").images} == {TEXT_MINED}
    for role in ("both", "judge"):
        with pytest.raises(ConfigError, match="source nih: text-mined labels may train, never judge"):
            read_cohort(sources_file(tmp_path / "s.toml", source("nih", "nih", "nih", role=role)))
    with pytest.raises(ConfigError, match="label_source is 'radiologists', but its labels say that they are text-mined"):
        read_cohort(sources_file(tmp_path / "s.toml", source("nih", "nih", "nih", role="judge", label_source="radiologists")))
    found = read_cohort(sources_file(tmp_path / "s.toml", source("nih", "nih", "nih", role="train")))
    assert {(i.label_source, i.site) for i in found.images} == {(TEXT_MINED, "nih")}
    with pytest.raises(ConfigError, match="words, leave_out and boxes are of a label table"):
        read_cohort(sources_file(tmp_path / "s.toml", source("nih", "nih", "nih", role="train", leave_out=[{"a": "b"}])))


def test_an_unknown_column_of_leave_out_and_an_unknown_word_are_said(tmp_path: Path):
    mined(tmp_path / "m", patients=2)
    with pytest.raises(ConfigError, match="no column reed_as, which the sources file names"):
        read_cohort(sources_file(tmp_path / "s.toml", source("m", "one", "m", leave_out=[{"reed_as": "Normal"}])))
    found = read_cohort(sources_file(tmp_path / "s.toml", source("m", "one", "m", role="judge", words={"opacity": 1})))
    assert {i.label for i in found.images} == {1}
    assert "label 'other' is none of 0, 1, NORMAL, PNEUMONIA, opacity; left out" in {fault.said for fault in found.faults}


def test_the_models_are_frozen_and_words_are_small_letters():
    one = Source(name="a", site="b", data="c", attribution="d", words={"Opacity ": 1}, leave_out=({"Column": "Normal"},))
    assert (one.words, one.leave_out) == ({"opacity": 1}, ({"column": "Normal"},))
    with pytest.raises(ValidationError):
        Sources(source=())


def test_the_example_of_the_document_is_a_sources_file():
    text = (Path(__file__).parents[3] / "docs" / "learning.md").read_text(encoding="utf-8")
    example = text.partition("## Several hospitals")[2].partition("```toml\n")[2].partition("```")[0]
    found = Sources(**tomllib.loads(example))
    assert [one.role for one in found.source] == ["both", "train", "judge"]
    assert Source.model_fields.keys() == {key for one in found.source for key in one.model_fields_set}, "every key is shown"


# --- a run ----------------------------------------------------------------------------------------------------------


def test_a_run_names_its_sources_seed_and_what_it_was_trained_without(hospitals: Path, cohort: Cohort, run: Path, run_without_west: Path):
    facts = Journal(run).facts()
    assert facts["sources"] == run_facts.source_facts(cohort)
    assert (facts["split_seed"], facts["without"], facts["masks"]) == (7, [], None)
    splits = read_splits(run / "splits.json", cohort.images, cohort.root)
    assert set(splits) == {"train", "select", "calib", "val_report"}
    other = read_splits(run_without_west / "splits.json", cohort.images, cohort.root)
    assert Journal(run_without_west).facts()["without"] == ["west"]
    assert {i.site for name, found in other.items() if name != LEFT_OUT for i in found} == {"east"}
    assert {(i.site, i.role) for i in other[LEFT_OUT]} == {("west", "judge")}
    assert len(other[LEFT_OUT]) == next(s.images for s in cohort.sources if s.name == "read")
    assert facts["images"] == {name: len(found) for name, found in splits.items()}
    assert other["val_report"] == tuple(i for i in splits["val_report"] if i.site == "east")


def test_an_unknown_site_is_named_beside_those_there_are(hospitals: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="--without north: two has no such site; its sites: east, west"):
        train.train(hospitals, tmp_path / "run", QUICK, without=["north"], say=lambda said: None)
    assert not (tmp_path / "run").exists()
    phantom_cohort(tmp_path / "alone", patients=2)
    with pytest.raises(ConfigError, match="its sites: none is named"):
        train.train(tmp_path / "alone", tmp_path / "run", TINY, without=["north"], say=lambda said: None)


def test_leaving_out_the_only_site_that_chooses_says_what_is_missing(hospitals: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"the split train, select, calib, val_report would hold one class only"):
        train.train(hospitals, tmp_path / "run", QUICK, without=["west", "east"], say=lambda said: None)


def test_a_recipe_that_draws_without_a_look_at_sites_is_said(hospitals: Path, tmp_path: Path):
    told: list[str] = []
    train.train(hospitals, tmp_path / "run", QUICK.model_copy(update={"sampler": "shuffle"}), smoke=True, say=told.append)
    assert any('set sampler = "sites"' in said for said in told)


def test_a_smoke_run_sees_every_class_of_every_site(cohort: Cohort):
    splits = train.split(cohort, 1, lambda said: None)
    material = train.gather(splits, QUICK, smoke=True, tick=lambda a, b, c: None)
    assert len(material.labels) == 16
    assert material.chances is not None
    assert material.chances.unique().numel() == 1


def test_a_run_goes_on_with_the_same_sources_and_sites_only(hospitals: Path, run: Path, run_without_west: Path, tmp_path: Path):
    train.train(hospitals, run, None, resume=True, say=lambda said: None)
    train.train(hospitals, run_without_west, None, resume=True, say=lambda said: None)
    train.train(hospitals, run_without_west, None, without=["west"], resume=True, say=lambda said: None)
    with pytest.raises(ConfigError, match="was started without other sites"):
        train.train(hospitals, run, None, without=["west"], resume=True, say=lambda said: None)
    shutil.copytree(hospitals.parent.parent, tmp_path / "again")
    file = tmp_path / "again" / "config" / "two.toml"
    file.write_text(file.read_text().replace('site = "west"', 'site = "south"'))
    with pytest.raises(ConfigError, match="its sources differ"):
        train.train(file, run, None, resume=True, say=lambda said: None)


def test_masks_stand_in_the_file_in_the_run_and_in_what_goes_on(hospitals: Path, tmp_path: Path):
    shutil.copytree(hospitals.parent.parent, tmp_path / "again")
    file, lungs = tmp_path / "again" / "config" / "two.toml", tmp_path / "again" / "data" / "lungs"
    recipe = QUICK.model_copy(update={"lung_loss": 1.0})
    told: list[str] = []
    train.train(file, tmp_path / "run", recipe, smoke=True, say=told.append)
    assert any(said.startswith("lung masks: of 4 of 16 ") for said in told)
    found = read_cohort(file)
    of_train = read_splits(tmp_path / "run" / "splits.json", found.images, found.root)["train"]
    facts = Journal(tmp_path / "run").facts()["masks"]
    assert facts == lung_masks.facts(of_train)
    assert facts["images"] == sum(i.mask is not None for i in of_train) > 0
    train.train(file, tmp_path / "run", None, smoke=True, resume=True, say=lambda said: None)
    changed = next(i.mask for i in of_train if i.mask)
    assert changed is not None
    Image.fromarray(np.zeros((64, 64), dtype=np.uint8)).save(changed)
    with pytest.raises(ConfigError, match="was started with other lung masks"):
        train.train(file, tmp_path / "run", None, smoke=True, resume=True, say=lambda said: None)
    changed.unlink()
    with pytest.raises(ConfigError, match="was started with other lung masks"):
        train.train(file, tmp_path / "run", None, smoke=True, resume=True, say=lambda said: None)
    with pytest.raises(ConfigError, match="each source names its own masks"):
        train.train(file, tmp_path / "other", recipe, masks=lungs, say=lambda said: None)
    file.write_text(file.read_text().replace('masks = "../data/lungs"\n', ""))
    with pytest.raises(ConfigError, match="needs lung masks of training images"):
        train.train(file, tmp_path / "other", recipe, say=lambda said: None)


# --- everything else that takes --data ------------------------------------------------------------------------------


def test_a_run_is_judged_on_the_site_that_it_was_trained_without(hospitals: Path, run: Path, run_without_west: Path):
    (trial,), _ = trials_of(EvaluationRequest(data=hospitals, split=LEFT_OUT), [run_without_west])
    assert trial.name == "two, split left_out"
    assert (trial.own_source, trial.seen, trial.unseen) == (False, "", "The network was trained without the site west.")
    assert {i.site for i in trial.images} == {"west"}
    own, _ = trials_of(EvaluationRequest(data=hospitals), [run])
    assert [(trial.name, trial.own_source) for trial in own] == [(f"two, split val_report, {site}", True) for site in ("east", "west")]
    with pytest.raises(ConfigError, match="has no split left_out"):
        trials_of(EvaluationRequest(data=hospitals, split=LEFT_OUT), [run])


def test_what_only_trains_judges_nothing_anywhere(hospitals: Path, cohort: Cohort, tmp_path: Path):
    trials, _ = trials_of(EvaluationRequest(data=hospitals), [])
    assert [(trial.name, {i.role for i in trial.images}) for trial in trials] == [("two, east", {"both"}), ("two, west", {"judge"})]
    assert Counter(fault.what for fault in trials[0].faults)["only-trains"] == sum(i.role == "train" for i in cohort.images)
    alone = phantom_cohort(tmp_path / "alone", patients=4, first_seed=99_000)
    _, beside = trials_of(EvaluationRequest(data=alone, on={"both": hospitals}), [])[0]
    assert beside.name == "both"
    assert TEXT_MINED not in {i.label_source for i in beside.images}
    assert TEXT_MINED not in {i.label_source for i in labelled_cohort(hospitals, None).images}
    with pytest.raises(ConfigError, match="so no image may judge"):
        Cohort(root=Path("d"), images=(image(1, role="train"),), faults=(), form="").for_judging()


def test_the_card_lists_every_source_with_whom_to_cite(hospitals: Path, run_without_west: Path, tmp_path: Path):
    statement = replace(bundling_statement.read_statement(STATEMENT), name="two")
    export.export(run_without_west, hospitals, tmp_path / "bundle", statement, {"all": hospitals}, say=lambda said: None)
    card = open_bundle(tmp_path / "bundle").card
    assert [(s["name"], s["site"], s["role"]) for s in card["data"]["sources"]] == [
        ("east", "east", "both"),
        ("mined", "west", "train"),
        ("read", "west", "judge"),
    ]
    assert card["data"]["without"] == ["west"]
    assert set(card["metrics"]) == {"val_report", LEFT_OUT, "all_east", "all_west"}
    page = (tmp_path / "bundle" / "CARD.md").read_text()
    assert "- mined (site west; only learns; labels: text-mined; " in page
    assert page.count("CC BY 4.0, cite ") == 3
    assert "- Trained without: west." in page
    assert ("source read", "CC BY 4.0, cite read.") in bundle_card.data(card["data"])


def test_a_description_shows_the_sources(hospitals: Path, cohort: Cohort):
    from datetime import UTC, datetime

    found = describe.describe(cohort)
    assert [s["name"] for s in describe.facts_of(found)["sources"]] == ["east", "mined", "read"]
    report = description_report.report_of(found, datetime(2026, 1, 2, tzinfo=UTC))
    assert report.title == "Data: two"
    assert any(shown.caption.startswith("Sources") for section in report.sections for shown in section.tables)


def test_the_card_tells_what_a_hospital_that_was_never_seen_may_expect(
    hospitals: Path, run: Path, run_without_west: Path, monkeypatch: pytest.MonkeyPatch
):
    found = never_seen.measured(run_without_west, hospitals)
    cohort = read_cohort(hospitals)
    films = read_splits(run_without_west / "splits.json", cohort.images, cohort.root)[LEFT_OUT]
    assert found["never_seen_west"].counts == {
        "trained_without": ["west"],
        "films": len(films),
        "pneumonia": sum(one.label for one in films),
        "patients": len({one.patient for one in films}),
    }
    assert 0 <= found["never_seen_west"].figures["roc_auc"].value <= 1
    assert "never_seen_west_recalibrated" not in found, "a half of so few patients carries no fit"
    monkeypatch.setattr(local_fit, "MIN_CLASS", 5)
    monkeypatch.setitem(local_fit.MIN_COUNT, local_fit.INTERCEPT, 5)
    both = never_seen.measured(run_without_west, hospitals)
    half = both["never_seen_west_recalibrated"].counts
    assert 0 < half["films"] < len(films)
    assert abs(half["patients"] - len({one.patient for one in films}) / 2) <= 1
    with pytest.raises(ConfigError, match="was trained with every site"):
        never_seen.measured(run, hospitals)


def test_a_cohort_by_itself_is_read_as_before(tmp_path: Path):
    found = read_cohort(phantom_cohort(tmp_path / "alone", patients=2))
    assert (found.sources, found.split_seed, found.title) == ((), None, "alone")
    assert {(i.role, i.block, i.mask) for i in found.images} == {("both", "", None)}
    assert found.for_judging() == found
    assert len(found.images) == 6


def test_the_sources_of_the_network_that_travels_are_read(tmp_path: Path):
    shared("kermany")
    from benchmarks import hospitals

    cohort = read_cohort(hospitals.write(tmp_path))
    assert {source.site for source in cohort.sources} == {"guangzhou", "nih"}
    judges = [image for image in cohort.images if image.role == "judge"]
    assert len(judges) == 367
    assert all(image.boxes for image in judges if image.label)
    assert TEXT_MINED not in {image.label_source for image in cohort.images if image.role != "train"}
    assert cohort.fault_counts["excluded"] == 133


def test_films_that_an_earlier_run_contradicts_most_are_left_out_of_the_network_that_travels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shared("kermany")
    from benchmarks import hospitals

    mined = [one for one in read_cohort(hospitals.write(tmp_path / "first")).images if one.label_source == TEXT_MINED]
    asked: list[Path] = []

    def load(images: Sequence[LabelledImage], spec: object) -> tuple[np.ndarray, np.ndarray]:
        asked.extend(one.path for one in images)
        return np.arange(len(images), dtype=np.float32), np.array([one.label for one in images])

    def score(pictures: np.ndarray) -> SimpleNamespace:
        return SimpleNamespace(logits=pictures)  # the later an image stands, the more suspicious it looks

    monkeypatch.setattr(hospitals, "load_pictures", load)
    monkeypatch.setattr(hospitals, "open_subject", lambda run: SimpleNamespace(spec=None, score=score))
    cohort = read_cohort(hospitals.write(tmp_path / "second", doubted_by=tmp_path))
    assert asked == [one.path for one in mined]
    positives, negatives = ([one.path for one in mined if one.label == label] for label in (1, 0))
    out = set(positives[: round(len(positives) / 6)]) | set(negatives[-round(len(negatives) / 10) :])
    left = {one.path for one in cohort.images if one.label_source == TEXT_MINED}
    assert len((set(asked) - left) ^ out) <= 2
    assert len([one for one in cohort.images if one.role == "judge"]) == 367
