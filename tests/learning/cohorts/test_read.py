"""Every form of a labelled cohort, with good rows and bad ones: what is not used is named."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from prioritizer.dicom.stand_ins.phantom_files import phantom_study_uid
from prioritizer.errors import ConfigError, NotFound
from prioritizer.learning.cohorts.read import Cohort, LabelPolicy, read_cohort
from tests.support.cohort_files import dicom, film, folders, shared, table

NO_FINDING = LabelPolicy(negatives="no-finding")


def kinds(cohort: Cohort) -> dict[str, int]:
    return dict(sorted(cohort.fault_counts.items()))


def labels(cohort: Cohort) -> dict[str, int]:
    return {image.path.name: image.label for image in cohort.images}


# --- folders ------------------------------------------------------------------------------------------------------


def test_folders_label_their_images_and_name_what_is_no_image(tmp_path: Path) -> None:
    folders(tmp_path, patients=2)
    film(tmp_path / "PNEUMONIA" / "person9_virus_41.jpeg", 9, opacity=True)
    (tmp_path / "NORMAL" / "notes.txt").write_text("x")
    (tmp_path / "NORMAL" / ".DS_Store").write_text("x")
    cohort = read_cohort(tmp_path)
    assert kinds(cohort) == {"not-an-image": 1}
    assert len(cohort.images) == 7
    assert {(i.patient, i.subtype) for i in cohort.images if i.label} >= {("person9", "viral"), ("person0", "bacterial")}


def test_the_train_val_and_test_folders_of_the_public_download_are_one_cohort(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        folders(tmp_path / part, patients=1)
    cohort = read_cohort(tmp_path)
    assert len(cohort.images) == 6
    assert "split is not used" in cohort.form


def test_a_missing_class_folder_is_named(tmp_path: Path) -> None:
    film(tmp_path / "train" / "NORMAL" / "a.png")
    with pytest.raises(ConfigError, match="PNEUMONIA"):
        read_cohort(tmp_path)


def test_dicom_in_folders_takes_patient_and_age_from_its_header(tmp_path: Path) -> None:
    dicom(tmp_path / "NORMAL" / "1.dcm", 1, age="004Y", sex="F", view="PA")
    dicom(tmp_path / "PNEUMONIA" / "1.2.840.113.7", 2, opacity=True)
    (tmp_path / "NORMAL" / "broken.dcm").write_bytes(b"no dicom")
    cohort = read_cohort(tmp_path)
    first = cohort.images[0]
    assert (first.patient, first.age_years, first.sex, first.view, first.scanner) == ("PHANTOM-0001", 4.0, "F", "PA", "prioritizer")
    assert first.study_uid == phantom_study_uid(1)
    assert kinds(cohort) == {"unreadable": 1}


def test_a_folder_without_labels_is_told_every_form(tmp_path: Path) -> None:
    film(tmp_path / "a.png")
    with pytest.raises(ConfigError, match=r"NORMAL/ and PNEUMONIA/.*labels.csv.*RSNA.*CheXpert.*MIMIC.*VinDr"):
        read_cohort(tmp_path)


def test_a_folder_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such folder"):
        read_cohort(tmp_path / "no")


# --- labels.csv ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_table_is_read_with_either_delimiter_any_case_and_a_byte_order_mark(tmp_path: Path, delimiter: str, mark: str) -> None:
    film(tmp_path / "images" / "a.png", 1)
    film(tmp_path / "images" / "b.jpg", 2)
    lines = [
        "File,LABEL,Patient_ID,Age,Sex,View,Scanner,Site,Label_Source,Radiologist",
        "images/a.png,PNEUMONIA,p1,058Y,Female,pa,CR-1,east,two readers,x",
        "images/b.jpg,0,p2,7M,m,AP,,,,y",
    ]
    table(tmp_path / "labels.csv", *(mark * (i == 0) + line.replace(",", delimiter) for i, line in enumerate(lines)))
    cohort = read_cohort(tmp_path)
    one, other = cohort.images
    assert (one.label, one.patient, one.age_years, one.sex, one.view) == (1, "p1", 58.0, "F", "PA")
    assert (one.scanner, one.site, one.label_source) == ("CR-1", "east", "two readers")
    assert (other.label, other.age_years, other.label_source) == (0, pytest.approx(7 / 12), "labels.csv")
    assert not cohort.faults
    assert "columns not used: radiologist" in cohort.form


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "latin-1"])
def test_a_table_is_read_as_spreadsheet_programs_save_it(tmp_path: Path, encoding: str) -> None:
    for number in (1, 2):
        film(tmp_path / "films" / f"a{number}.png", number)
    text = "file;label;patient_id\r\nfilms\\a1.png;yes;Jürgen\r\nfilms\\a2.png;No;Zoë\r\n"
    mark = {"utf-16-le": "\ufeff", "utf-16-be": "\ufeff"}.get(encoding, "")
    (tmp_path / "labels.csv").write_bytes((mark + text).encode(encoding))
    cohort = read_cohort(tmp_path)
    assert {(image.path.name, image.label, image.patient) for image in cohort.images} == {("a1.png", 1, "Jürgen"), ("a2.png", 0, "Zoë")}
    assert cohort.fault_counts == ({"encoding": 1} if encoding == "latin-1" else {})


def test_a_workbook_is_named_with_what_to_do(tmp_path: Path) -> None:
    film(tmp_path / "a1.png", 1)
    book = tmp_path / "labels.xlsx"
    book.write_bytes(b"PK\3\4")
    for labels in (None, book):
        with pytest.raises(ConfigError, match=r"labels\.xlsx.* is a workbook of a spreadsheet program"):
            read_cohort(tmp_path, labels)


def test_what_is_no_text_is_no_table(tmp_path: Path) -> None:
    film(tmp_path / "a1.png", 1)
    (tmp_path / "labels.csv").write_bytes(b"file,label\n\xff\0\xfe")
    with pytest.raises(ConfigError, match="cannot be read as a table"):
        read_cohort(tmp_path)


def test_every_row_and_every_file_is_used_or_named(tmp_path: Path) -> None:
    for name in "abcdefg":
        film(tmp_path / f"{name}.png", ord(name))
    table(
        tmp_path / "labels.csv",
        "file,label,age,view",
        "a.png,1,40,PA",
        "b.png,maybe,40,PA",
        "gone.png,0,40,PA",
        "../outside.png,0,40,PA",
        ",0,40,PA",
        "c.png,0,400,PA",
        "d.png,0,,LATERAL",
        "e.png,0,,",
        "e.png,1,,",
        "f.png,1,,",
        "f.png,1,,",
    )
    cohort = read_cohort(tmp_path)
    assert labels(cohort) == {"a.png": 1, "c.png": 0, "f.png": 1}
    assert kinds(cohort) == {
        "age": 1,
        "contradiction": 1,
        "label": 1,
        "lateral": 1,
        "no-file": 2,
        "no-row": 1,
        "outside": 1,
        "row-twice": 1,
    }
    assert any(fault.file == "g.png" and fault.what == "no-row" for fault in cohort.faults)
    assert any(fault.file == "labels.csv line 3" and "'maybe'" in fault.said for fault in cohort.faults)


def test_a_study_uid_labels_every_frontal_film_of_the_study(tmp_path: Path) -> None:
    dicom(tmp_path / "in" / "x1", 1, instance=1)
    dicom(tmp_path / "in" / "x2.dcm", 1, instance=2, view="LL")
    dicom(tmp_path / "in" / "x3.dcm", 2, opacity=True)
    dicom(tmp_path / "in" / "x4.dcm", 3)
    table(
        tmp_path / "labels.csv",
        "study_uid,label,age",
        f"{phantom_study_uid(1)},0,",
        f"{phantom_study_uid(2)},1,9",
        "1.2.3,1,",
        f"{phantom_study_uid(3)},?,",
    )
    cohort = read_cohort(tmp_path)
    assert labels(cohort) == {"x1": 0, "x3.dcm": 1}
    assert [image.age_years for image in cohort.images] == [4.0, 9.0]
    assert kinds(cohort) == {"label": 1, "lateral": 1, "no-file": 1}


def test_a_table_elsewhere_is_named_by_hand(tmp_path: Path) -> None:
    film(tmp_path / "pictures" / "a.png")
    labels_file = table(tmp_path / "mine.csv", "file,label", "a.png,1")
    assert labels(read_cohort(tmp_path / "pictures", labels_file)) == {"a.png": 1}


def test_a_table_is_believed_before_folders(tmp_path: Path) -> None:
    folders(tmp_path, patients=1)
    table(tmp_path / "labels.csv", "file,label", "NORMAL/IM-0000-0000.png,1")
    assert labels(read_cohort(tmp_path)) == {"IM-0000-0000.png": 1}


def test_reading_a_cohort_needs_nothing_of_the_extra() -> None:
    code = "import sys, prioritizer.learning.cohorts.read, prioritizer.learning.cohorts.duplicates, prioritizer.learning.cohorts.decoded_images; "
    code += "print([name for name in ('torch', 'timm', 'sklearn', 'scipy', 'matplotlib') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_table_without_the_needed_columns_names_both(tmp_path: Path) -> None:
    table(tmp_path / "labels.csv", "name,diagnosis", "a.png,1")
    with pytest.raises(ConfigError) as caught:
        read_cohort(tmp_path)
    assert len(caught.value.faults) == 2


def test_a_cohort_with_no_usable_image_says_why(tmp_path: Path) -> None:
    table(tmp_path / "labels.csv", "file,label", "a.png,1")
    with pytest.raises(ConfigError, match=r"a\.png is not there"):
        read_cohort(tmp_path)


# --- public sets --------------------------------------------------------------------------------------------------


@pytest.fixture
def rsna(tmp_path: Path) -> Path:
    for number, name in enumerate(("n", "o", "p", "q"), start=1):
        dicom(tmp_path / "stage_2_train_images" / f"{name}.dcm", number, age="150Y" if name == "q" else "040Y")
    dicom(tmp_path / "stage_2_train_images" / "extra.dcm", 9)
    boxes = ["n,,,,,0", "o,,,,,0", "p,1,2,3,4,1", "p,5,6,7,8,1", "q,,,,,0", "gone,,,,,0"]
    table(tmp_path / "stage_2_train_labels.csv", "patientId,x,y,width,height,Target", *boxes)
    classes = ["n,Normal", "o,No Lung Opacity / Not Normal", "p,Lung Opacity", "p,Lung Opacity", "q,Normal"]
    table(tmp_path / "stage_2_detailed_class_info.csv", "patientId,class", *classes)
    return tmp_path


def test_rsna_counts_a_film_with_two_boxes_once(rsna: Path) -> None:
    cohort = read_cohort(rsna)
    assert labels(cohort) == {"n.dcm": 0, "o.dcm": 0, "p.dcm": 1, "q.dcm": 0}
    assert kinds(cohort) == {"age": 1, "no-file": 1, "no-row": 1, "patients-unknown": 1}
    assert [image.age_years for image in cohort.images] == [40.0, 40.0, 40.0, None]


def test_rsna_negatives_may_be_the_normal_films_only(rsna: Path) -> None:
    cohort = read_cohort(rsna, policy=NO_FINDING)
    assert labels(cohort) == {"n.dcm": 0, "p.dcm": 1, "q.dcm": 0}
    assert kinds(cohort)["other-finding"] == 1
    (rsna / "stage_2_detailed_class_info.csv").unlink()
    with pytest.raises(ConfigError, match="stage_2_detailed_class_info"):
        read_cohort(rsna, policy=NO_FINDING)


def test_rsna_takes_the_person_from_the_organisers_mapping(rsna: Path) -> None:
    entries = [{"subset_img_id": name, "img_id": f"0000000{number}_000.png"} for name, number in (("n", 1), ("o", 1), ("p", 2), ("q", 3))]
    (rsna / "pneumonia-challenge-dataset-mappings_2018.json").write_text(json.dumps(entries))
    cohort = read_cohort(rsna)
    assert [image.patient for image in cohort.images] == ["NIH-00000001", "NIH-00000001", "NIH-00000002", "NIH-00000003"]
    assert "patients-unknown" not in kinds(cohort)


def test_nih_reads_joined_findings_and_both_forms_of_age(tmp_path: Path) -> None:
    for name in ("00000001_000", "00000001_001", "00000002_000", "00000003_000"):
        film(tmp_path / "images_001" / "images" / f"{name}.png")
    table(
        tmp_path / "Data_Entry_2017_v2020.csv",
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height],Spacing[x,y],",
        "00000001_000.png,Infiltration|Pneumonia,0,1,058Y,M,PA,2682,2749,0.143,0.143,",
        "00000001_001.png,Effusion,1,1,58,M,AP,2682,2749,0.143,0.143,",
        "00000002_000.png,No Finding,0,2,414,F,PA,2682,2749,0.143,0.143,",
        "00000009_000.png,No Finding,0,9,40,F,PA,2682,2749,0.143,0.143,",
    )
    cohort = read_cohort(tmp_path)
    assert labels(cohort) == {"00000001_000.png": 1, "00000001_001.png": 0, "00000002_000.png": 0}
    assert [(image.patient, image.age_years, image.view) for image in cohort.images] == [
        ("1", 58.0, "PA"),
        ("1", 58.0, "AP"),
        ("2", None, "PA"),
    ]
    assert kinds(cohort) == {"age": 1, "no-file": 1, "no-row": 1}
    assert labels(read_cohort(tmp_path, policy=NO_FINDING)) == {"00000001_000.png": 1, "00000002_000.png": 0}


@pytest.fixture
def chexpert(tmp_path: Path) -> Path:
    header = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Lung Opacity,Pneumonia"
    rows = [
        "patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,",
        "patient00001/study1/view2_lateral.jpg,Female,68,Lateral,,1.0,,",
        "patient00002/study1/view1_frontal.jpg,Male,0,Frontal,PA,,1.0,1.0",
        "patient00003/study1/view1_frontal.jpg,Unknown,50,Frontal,PA,,1.0,-1.0",
        "patient00004/study1/view1_frontal.jpg,Male,50,Frontal,PA,,1.0,",
        "patient00005/study1/view1_frontal.jpg,Male,50,Frontal,PA,,,maybe",
        "patient00006/study1/view1_frontal.jpg,Male,50,Frontal,PA,1.0,,",
    ]
    table(tmp_path / "train.csv", header, *(f"CheXpert-v1.0-small/train/{row}" for row in rows))
    for row in rows[:-1]:
        film(tmp_path / "train" / row.partition(",")[0])
    table(tmp_path / "valid.csv", header, "CheXpert-v1.0-small/valid/patient00007/study1/view1_frontal.jpg,Male,50,Frontal,PA,0.0,,1.0")
    film(tmp_path / "valid" / "patient00007" / "study1" / "view1_frontal.jpg")
    return tmp_path


def test_chexpert_leaves_out_laterals_and_uncertain_labels_with_a_fault_each(chexpert: Path) -> None:
    cohort = read_cohort(chexpert)
    assert [(image.patient, image.label) for image in cohort.images] == [
        ("patient00001", 0),
        ("patient00002", 1),
        ("patient00004", 0),
        ("patient00007", 1),
    ]
    assert kinds(cohort) == {"age": 1, "label": 1, "lateral": 1, "no-file": 1, "uncertain": 1}
    assert [image.label_source for image in cohort.images][-1] == "radiologists"


def test_chexpert_counts_uncertain_labels_as_the_policy_says(chexpert: Path) -> None:
    assert {i.patient: i.label for i in read_cohort(chexpert, policy=LabelPolicy(uncertain="positive")).images}["patient00003"] == 1
    only_healthy = read_cohort(chexpert, policy=NO_FINDING)
    assert "patient00004" not in {image.patient for image in only_healthy.images}
    assert kinds(only_healthy)["other-finding"] == 1


def test_mimic_labels_the_films_of_a_study_and_asks_for_their_view(tmp_path: Path) -> None:
    study = tmp_path / "files" / "p10" / "p10000032"
    for place in ("s1/a.jpg", "s1/b.jpg", "s2/c.jpg", "s3/d.jpg", "s4/e.jpg"):
        film(study / place)
    labelled = "subject_id,study_id,No Finding,Pneumonia\n10000032,1,,1.0\n10000032,2,1.0,\n10000032,3,,-1.0\n"
    (tmp_path / "mimic-cxr-2.0.0-chexpert.csv.gz").write_bytes(gzip.compress(labelled.encode()))
    films = "dicom_id,subject_id,study_id,ViewPosition\na,10000032,1,AP\nb,10000032,1,LL\nc,10000032,2,PA\nd,10000032,3,PA\n"
    films += "e,10000032,4,PA\nf,10000032,2,PA\ng,10000032,1,\n"
    with pytest.raises(ConfigError, match="metadata"):
        read_cohort(tmp_path)
    (tmp_path / "mimic-cxr-2.0.0-metadata.csv.gz").write_bytes(gzip.compress(films.encode()))
    cohort = read_cohort(tmp_path)
    assert labels(cohort) == {"a.jpg": 1, "c.jpg": 0}
    assert {(image.patient, image.study_uid) for image in cohort.images} == {("10000032", "1"), ("10000032", "2")}
    assert kinds(cohort) == {"lateral": 1, "no-file": 1, "no-row": 1, "uncertain": 1, "view": 1}


def test_vindr_follows_the_majority_of_its_radiologists(tmp_path: Path) -> None:
    for number, name in enumerate("abc", start=1):
        dicom(tmp_path / "train" / f"{name}.dicom", number)
    dicom(tmp_path / "test" / "d.dicom", 4)
    rows = ["a,R1,1,0", "a,R2,1,0", "a,R3,0,1", "b,R1,0,1", "b,R2,0,1", "b,R3,1,0", "c,R1,1,0", "c,R2,0,1"]
    table(tmp_path / "annotations" / "image_labels_train.csv", "image_id,rad_id,Pneumonia,No finding", *rows)
    table(tmp_path / "annotations" / "image_labels_test.csv", "image_id,Pneumonia,No finding", "d,0.0,1.0")
    cohort = read_cohort(tmp_path)
    assert labels(cohort) == {"a.dicom": 1, "b.dicom": 0, "d.dicom": 0}
    assert {image.label_source for image in cohort.images} == {"majority of 3 radiologists", "consensus"}
    assert kinds(cohort) == {"label": 1}


def test_the_childrens_set_of_vindr_counts_every_kind_of_pneumonia(tmp_path: Path) -> None:
    for number, name in enumerate("ab", start=1):
        dicom(tmp_path / "train" / f"{name}.dicom", number)
    rows = ["a,R1,0,1,0", "b,R1,1,0,0"]
    table(tmp_path / "image_labels_train.csv", "image_id,rad_id,No finding,Brocho-pneumonia,Pneumonia", *rows)
    cohort = read_cohort(tmp_path)
    assert labels(cohort) == {"a.dicom": 1, "b.dicom": 0}
    assert "brocho-pneumonia or pneumonia" in cohort.form


def test_a_policy_that_does_not_exist_names_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"not-pneumonia, no-finding[\s\S]*ignore, positive, negative"):
        LabelPolicy(negatives="healthy", uncertain="maybe")


# --- real images --------------------------------------------------------------------------------------------------


def test_the_guangzhou_set_is_read_without_fault() -> None:
    cohort = read_cohort(shared("kermany"))
    assert (len(cohort.images), sum(image.label for image in cohort.images), len(cohort.faults)) == (5216, 3875, 0)
    assert len({image.patient for image in cohort.images}) == 2846


def test_the_adults_and_the_children_of_another_hospital_are_read_without_fault() -> None:
    adults, children = read_cohort(shared("nih-adult/cohort")), read_cohort(shared("nih-child"))
    assert (len(adults.images), sum(image.label for image in adults.images), len(adults.faults)) == (200, 100, 0)
    assert (len(children.images), sum(image.label for image in children.images), len(children.faults)) == (32, 9, 0)
    assert all(image.age_years is not None and image.age_years < 18 for image in children.images)
