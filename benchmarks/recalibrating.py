"""How long `prioritizer recalibrate` takes on local DICOM files, from the command line to the report, and again with logits cached.

    python -m benchmarks.recalibrating --data DIR [--count 300] [--side 2048]

The films of DIR (a labelled cohort, one a patient, both classes alike often) are written as uncompressed 12 bit DX files of that side
into a temporary folder; 300 of 2048 pixels take 2.4 GB.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from prioritizer.learning.cohorts.labelled_image import LabelledImage
from prioritizer.learning.cohorts.read import read_cohort

LIMIT_S = 120
"""What the verb may take for 300 cases on two cores."""


def one_a_patient(images: Sequence[LabelledImage], count: int) -> list[LabelledImage]:
    """`count` films, both classes alike often, no patient twice."""
    order = np.random.default_rng(5).permutation(len(images))
    by_patient = {images[i].patient: images[i] for i in order}
    halves = [[image for image in by_patient.values() if image.label == label][: count // 2] for label in (0, 1)]
    return [image for half in halves for image in half]


def as_dicom(image: LabelledImage, side: int) -> Dataset:
    """The film as a modality would send it: DX, 12 bit, uncompressed."""
    with Image.open(image.path) as opened:
        grey = np.asarray(opened.convert("L").resize((side, side), Image.Resampling.BICUBIC)).astype(np.uint16) * 16
    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.SOPClassUID = film.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    film.StudyInstanceUID, film.SeriesInstanceUID = generate_uid(), generate_uid()
    film.PatientID, film.PatientAge, film.Modality, film.BodyPartExamined = image.patient, "004Y", "DX", "CHEST"
    film.ViewPosition, film.ImageType, film.PhotometricInterpretation = "AP", ["ORIGINAL", "PRIMARY"], "MONOCHROME2"
    film.Rows = film.Columns = side
    film.SamplesPerPixel, film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 1, 16, 12, 11, 0
    film.WindowCenter, film.WindowWidth, film.PixelData = 2048, 4096, grey.tobytes()
    return film


def prioritizer(*arguments: str) -> tuple[float, str]:
    """Seconds of a verb in a process of its own, and what it said."""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "prioritizer", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments[:1])} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return time.monotonic() - began, done.stdout.strip().splitlines()[0] if done.stdout.strip() else ""


def main() -> int:
    """Write the cohort, run the verb twice, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a labelled cohort of picture files")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--side", type=int, default=2048)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cohort, config = folder / "cohort", folder / "prioritizer.toml"
        cohort.mkdir()
        config.write_text('[store]\ndata = "var"\n')
        with (cohort / "labels.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["file", "label", "patient_id"])
            for number, image in enumerate(one_a_patient(read_cohort(asked.data, None).images, asked.count)):
                as_dicom(image, asked.side).save_as(cohort / f"{number}.dcm", enforce_file_format=True)
                rows.writerow([f"{number}.dcm", image.label, image.patient])
        prioritizer("migrate", "--config", str(config))
        verb = ("recalibrate", "--cohort", str(cohort), "--config", str(config), "--cache", str(folder / "cache"))
        first, said = prioritizer(*verb)
        again, _ = prioritizer(*verb)
    print(said)
    print(f"{asked.count} DICOM files of {asked.side} x {asked.side}: {first:.0f} s ({first / LIMIT_S:.2f} of the {LIMIT_S} s it may take)")
    print(f"again, logits cached: {again:.0f} s ({again / first:.2f} of the first time)")
    return 0 if first < LIMIT_S else 1


if __name__ == "__main__":
    raise SystemExit(main())
