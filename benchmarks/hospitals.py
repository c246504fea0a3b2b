"""`python -m benchmarks.hospitals FOLDER [--doubted-by RUN]`: a sources file of the shared films, for the network that travels.

Two hospitals: the children's hospital of the training films, and the one of NIH ChestX-ray14 and RSNA 2018. Text-mined labels train,
less those that radiologists contradict; what radiologists read judges. Films stay where they lie: only names and labels are written.

With `--doubted-by`, text-mined films that an earlier run contradicts most are left out too: the sixth of those called positive that it
scores lowest, and the tenth of those called negative that it scores highest. No film that judges is asked about.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

import numpy as np

from prioritizer.learning.cohorts.decoded_images import load_pictures
from prioritizer.learning.cohorts.read import read_cohort
from prioritizer.learning.evaluation.subjects import open_subject

SHARED = Path(os.environ.get("PRIORITIZER_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
NIH = "NIH ChestX-ray14, free use; cite Wang et al., CVPR 2017."
RSNA = (
    "RSNA Pneumonia Detection Challenge 2018, use with attribution: RSNA; Shih et al., Radiology: AI 2019;1:e180041; "
    "Wang et al., CVPR 2017."
)
GUANGZHOU = (
    "Kermany, Zhang, Goldbaum 2018, Guangzhou Women and Children's Medical Center, CC BY 4.0; "
    "lung masks: V7 Darwin / CloudFactory, CC BY 4.0."
)
MINED = """[[source]]
name = "{name}"
site = "nih"
data = "{shared}/{data}"
role = "train"
label_source = "text-mined"
labels = "{name}-labels.csv"
{rules}attribution = "{nih}"

"""
TEMPLATE = """split_seed = 20261122

[[source]]
name = "guangzhou"
site = "guangzhou"
data = "{shared}/kermany"
masks = "{shared}/kermany-lung-masks/masks"
block = 50
age_years = 3
attribution = "{guangzhou}"

{mined}[[source]]
name = "rsna-normal"
site = "nih"
data = "{shared}/rsna-normal"
role = "train"
label_source = "radiologists"
attribution = "{rsna}"

[[source]]
name = "rsna-mixed"
site = "nih"
data = "{shared}/rsna-mixed"
role = "judge"
label_source = "radiologists"
words = {{ opacity = 1, other = 0 }}
boxes = {{ column = "boxes_1024", side = 1024 }}
attribution = "{rsna}"
"""


DOUBTED_POSITIVE, DOUBTED_NEGATIVE = 1 / 6, 1 / 10
"""Shares of the text-mined films of each class that are left out as doubted: about as many positives as radiologists contradict."""
SETS = (
    ("nih-adult-more", "nih-adult-more", ""),
    ("nih-adult", "nih-adult/cohort", "nih-adult/radiologist_class.csv"),
    ("nih-child-more", "nih-child-more", ""),
    ("nih-child", "nih-child", "nih-child/radiologist_class.csv"),
)
"""Text-mined sets: name, folder, and the table of the radiologists' classes where it is not in the labels."""
ALONE = ("guangzhou", "rsna-mixed")
"""Sources that stand in a file of their own too, to train on the one hospital and judge on the other."""


def write(folder: Path, shared: Path = SHARED, doubted_by: Path | None = None) -> Path:
    """The sources file, and label tables beside it that say which text-mined labels are contradicted. Returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    doubted = _doubted(write(folder, shared), doubted_by) if doubted_by else frozenset()
    for name, data, classes in SETS:
        _with_classes(shared / data, shared / classes if classes else None, doubted, folder / f"{name}-labels.csv")
    path = folder / "sources.toml"
    mined = "".join(
        MINED.format(shared=shared.resolve(), nih=NIH, name=name, data=data, rules=_rules(name.endswith("more"), bool(doubted)))
        for name, data, _ in SETS
    )
    text = TEMPLATE.format(shared=shared.resolve(), rsna=RSNA, guangzhou=GUANGZHOU, mined=mined)
    path.write_text(text, encoding="utf-8")
    head, *tables = text.split("[[source]]")
    for name in ALONE:
        (alone,) = (table for table in tables if f'\nname = "{name}"\n' in table)
        (folder / f"{name}.toml").write_text(f"{head}[[source]]{alone}", encoding="utf-8")
    return path


def _rules(worded: bool, doubted: bool) -> str:
    """How the labels of a set are read, and which rows are left out."""
    out = [f'{{ rsna_class = "Normal", label = "{word}" }}' for word in (("opacity", "pneumonia", "other") if worded else ("1",))]
    out += ['{ doubted = "yes" }'] if doubted else []
    words = "words = { opacity = 1, other = 0 }\n" if worded else ""
    return f"{words}leave_out = [ {', '.join(out)} ]\n"


def _doubted(sources: Path, run: Path) -> frozenset[Path]:
    """The text-mined training films whose label the run contradicts most."""
    subject = open_subject(run)
    images = [image for image in read_cohort(sources).images if image.role == "train" and image.label_source == "text-mined"]
    pictures, labels = load_pictures(images, subject.spec)
    logits = np.concatenate([subject.score(pictures[at : at + 32]).logits for at in range(0, len(pictures), 32)])
    low = np.quantile(logits[labels == 1], DOUBTED_POSITIVE)
    high = np.quantile(logits[labels == 0], 1 - DOUBTED_NEGATIVE)
    wrong = np.where(labels == 1, logits < low, logits > high)
    return frozenset(image.path for image, out in zip(images, wrong, strict=True) if out)


def _with_classes(data: Path, classes: Path | None, doubted: frozenset[Path], target: Path) -> None:
    """The label table of a set with the radiologists' class of each film, where it is known, and whether its label is doubted."""
    known = {}
    if classes is not None:
        with classes.open(encoding="utf-8", newline="") as file:
            known = {Path(row["file"]).name: row["rsna_class"] for row in csv.DictReader(file)}
    out = {path.name for path in doubted if path.is_relative_to(data.resolve())}
    with (data / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, dict.fromkeys([*rows[0], "rsna_class", "doubted"]))
        writer.writeheader()
        for row in rows:
            name = Path(row["file"]).name
            found = row.get("rsna_class") or known.get(name, "")
            writer.writerow(row | {"rsna_class": found, "doubted": "yes" if name in out else ""})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--doubted-by", type=Path, metavar="RUN", help="the folder of an earlier run")
    given = parser.parse_args()
    print(write(given.folder, doubted_by=given.doubted_by))
