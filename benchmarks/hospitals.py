"""`python -m benchmarks.hospitals FOLDER`: a sources file of the shared films, for the training of the network that travels.

Two hospitals: the children's hospital of the training films, and the one of NIH ChestX-ray14 and RSNA 2018. Text-mined labels train,
less those that radiologists contradict; what radiologists read judges. Films stay where they lie: only names and labels are written.
"""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

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
READ_AS_NORMAL = "[ " + ", ".join(f'{{ rsna_class = "Normal", label = "{word}" }}' for word in ("opacity", "pneumonia", "other")) + " ]"
MINED = """[[source]]
name = "{name}"
site = "nih"
data = "{shared}/{data}"
role = "train"
label_source = "text-mined"
{labels}attribution = "{nih}"

"""
TEMPLATE = """split_seed = 20261122

[[source]]
name = "guangzhou"
site = "guangzhou"
data = "{shared}/kermany"
masks = "{shared}/kermany-lung-masks/masks"
block = 50
attribution = "{guangzhou}"

{mined}[[source]]
name = "rsna-normal"
site = "nih"
data = "{shared}/rsna-normal"
role = "train"
label_source = "radiologists"
most = 900
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


def write(folder: Path, shared: Path = SHARED) -> Path:
    """The sources file, and two label tables beside it that say which text-mined labels radiologists contradict. Returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, labels in (("nih-adult", "cohort/labels.csv"), ("nih-child", "labels.csv")):
        _with_classes(shared / name / labels, shared / name / "radiologist_class.csv", folder / f"{name}-labels.csv")
    path = folder / "sources.toml"
    more = f"words = {{ opacity = 1, other = 0 }}\nleave_out = {READ_AS_NORMAL}\n"
    known = 'labels = "{name}-labels.csv"\nleave_out = [ {{ rsna_class = "Normal", label = "1" }} ]\n'
    mined = "".join(
        MINED.format(
            shared=shared.resolve(), nih=NIH, name=name, data=data, labels=more if name.endswith("more") else known.format(name=name)
        )
        for name, data in (
            ("nih-adult-more", "nih-adult-more"),
            ("nih-adult", "nih-adult/cohort"),
            ("nih-child-more", "nih-child-more"),
            ("nih-child", "nih-child"),
        )
    )
    text = TEMPLATE.format(shared=shared.resolve(), rsna=RSNA, guangzhou=GUANGZHOU, mined=mined)
    path.write_text(text, encoding="utf-8")
    return path


def _with_classes(labels: Path, classes: Path, target: Path) -> None:
    """The label table with the radiologists' class of each film, where it is known."""
    with classes.open(encoding="utf-8", newline="") as file:
        known = {Path(row["file"]).name: row["rsna_class"] for row in csv.DictReader(file)}
    with labels.open(encoding="utf-8", newline="") as file:
        rows = [row | {"rsna_class": known.get(Path(row["file"]).name, "")} for row in csv.DictReader(file)]
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
