"""Tags become an Instance in one place, whatever else the file holds."""

from __future__ import annotations

from datetime import datetime
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from prioritizer.dicom.read.attributes import instance_of_file
from prioritizer.dicom.stand_ins.phantom_files import PhantomPatient, phantom_file
from prioritizer.study import Instance

FILM = PhantomPatient(number=1, taken_at=datetime(2026, 11, 22, 9, 30), rows=16, columns=16)  # noqa: DTZ001 - DICOM times have no zone


def item(**attributes: object) -> Sequence:
    one = Dataset()
    for keyword, value in attributes.items():
        setattr(one, keyword, value)
    return Sequence([one])


def read(folder: Path, **attributes: object) -> Instance:
    """The Instance of the phantom with other attributes; None takes one away."""
    film = pydicom.dcmread(BytesIO(phantom_file(FILM, uid.ExplicitVRLittleEndian)))
    for keyword, value in attributes.items():
        if value is not None:
            setattr(film, keyword, value)
        elif keyword in film:
            delattr(film, keyword)
    film.save_as(folder / "film.dcm")
    return instance_of_file(folder / "film.dcm")


def test_the_anatomic_region_stands_in_for_a_missing_body_part(tmp_path: Path):
    region = item(CodeValue="72696002", CodingSchemeDesignator="SCT", CodeMeaning="Knee")
    assert read(tmp_path, BodyPartExamined=None, AnatomicRegionSequence=region).body_part == "Knee"


@pytest.mark.parametrize("code", ["T-D3000", "51185008", "816094009"])
def test_a_coded_chest_is_known_in_any_language(tmp_path: Path, code: str):
    region = item(CodeValue=code, CodingSchemeDesignator="SCT", CodeMeaning="Brustkorb")
    assert read(tmp_path, BodyPartExamined="", AnatomicRegionSequence=region).body_part == "CHEST"


def test_a_stated_body_part_goes_before_the_region(tmp_path: Path):
    assert read(tmp_path, BodyPartExamined="HIP", AnatomicRegionSequence=item(CodeValue="51185008")).body_part == "HIP"


@pytest.mark.parametrize(
    "attributes",
    [
        {"RequestedProcedurePriority": "STAT"},
        {"StudyPriorityID": "HIGH"},
        {"RequestAttributesSequence": item(RequestedProcedurePriority="high")},
    ],
)
def test_priority_is_found_wherever_a_device_writes_it(tmp_path: Path, attributes: dict[str, object]):
    assert read(tmp_path, **attributes).stat


@pytest.mark.parametrize("priority", ["ROUTINE", "MEDIUM", "LOW", ""])
def test_other_priorities_are_not_stat(tmp_path: Path, priority: str):
    assert not read(tmp_path, RequestedProcedurePriority=priority).stat


def test_our_own_object_is_known_by_its_contributing_equipment(tmp_path: Path):
    ours = item(Manufacturer="prioritizer")
    assert read(tmp_path, SOPClassUID=uid.SecondaryCaptureImageStorage, ContributingEquipmentSequence=ours).made_by_us
    assert not read(
        tmp_path, SOPClassUID=uid.SecondaryCaptureImageStorage, ContributingEquipmentSequence=item(Manufacturer="other")
    ).made_by_us
    assert not read(tmp_path, ContributingEquipmentSequence=ours).made_by_us, "a radiograph is none of our results"


def test_names_are_decoded_with_the_files_own_character_set(tmp_path: Path):
    assert read(tmp_path, SpecificCharacterSet="ISO_IR 192", PatientName="Yamada^Tarou=山田^太郎").patient_name == "Yamada^Tarou=山田^太郎"


@pytest.mark.filterwarnings("ignore:The value length:UserWarning")  # pydicom's writer, not ours
@pytest.mark.filterwarnings("ignore:The PN component:UserWarning")
def test_long_texts_and_control_characters_are_cut(tmp_path: Path):
    found = read(tmp_path, SeriesDescription="a\x1b[31m" + "b" * 60, PatientName="N" * 5000)
    assert found.series_description == "a\N{REPLACEMENT CHARACTER}[31m" + "b" * 60
    assert len(found.patient_name) == 400


def test_a_film_without_a_study_is_listed_alone(tmp_path: Path):
    found = read(tmp_path, StudyInstanceUID=None)
    assert found.study_uid == f"no-study-uid.{found.sop_instance_uid}"


def test_the_exposure_menu_is_read(tmp_path: Path):
    assert read(tmp_path, AcquisitionDeviceProcessingDescription="CHEST LAT").processing_description == "CHEST LAT"


@pytest.mark.parametrize(
    ("code", "scheme", "judged"),
    [
        ("399348003", "SCT", ("399348003",)),
        ("R-10241", "SRT", ("R-10241",)),
        ("R-10206", "99VENDOR", ("R-10206",)),
        ("CHEST-1", "99VENDOR", ()),
        ("4711", "L", ()),
    ],
)
def test_a_view_code_of_a_scheme_that_is_not_snomed_says_nothing(tmp_path: Path, code: str, scheme: str, judged: tuple[str, ...]):
    stated = item(CodeValue=code, CodingSchemeDesignator=scheme, CodeMeaning="x")
    assert read(tmp_path, ViewCodeSequence=stated).view_codes == judged


@pytest.mark.parametrize(
    ("attributes", "species"),
    [
        ({"PatientSpeciesCodeSequence": item(CodeValue="337915000", CodingSchemeDesignator="SCT", CodeMeaning="Mensch")}, "HUMAN"),
        ({"PatientSpeciesCodeSequence": item(CodeValue="L-85B00", CodingSchemeDesignator="SRT", CodeMeaning="Homme")}, "HUMAN"),
        ({"PatientSpeciesCodeSequence": item(CodeValue="448771007", CodingSchemeDesignator="SCT")}, "code 448771007"),
        ({"PatientSpeciesCodeSequence": item(CodeMeaning="Homo sapiens")}, "Homo sapiens"),
        ({"PatientSpeciesDescription": "Canis"}, "Canis"),
        ({"PatientBreedDescription": "Beagle"}, "breed Beagle"),
        ({"PatientBreedCodeSequence": item(CodeValue="132557002", CodingSchemeDesignator="SCT")}, "breed 132557002"),
        ({"PatientBreedDescription": "N/A"}, ""),
    ],
)
def test_the_species_is_read_by_code_before_meaning_and_a_breed_is_an_animals(tmp_path: Path, attributes: dict[str, object], species: str):
    assert read(tmp_path, **attributes).species == species
