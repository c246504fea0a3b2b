"""What a labelled cohort is: its images, its faults, and the two choices that decide what counts as negative."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from prioritizer.errors import ConfigError

NEGATIVES = ("not-pneumonia", "no-finding")
UNCERTAIN = ("ignore", "positive", "negative")
TEXT_MINED = "text-mined"
"""Source of a label that a program took from a report: such labels may train, never judge."""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom as shares of the picture's width and height."""
Role = Literal["both", "train", "judge"]
"""What films of a source are for: learning, judging (choices and figures), or both, split by patient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledImage:
    """One radiograph with its label (1 = pneumonia) and the patient it belongs to; what is not known is empty."""

    path: Path
    label: int
    patient: str
    study_uid: str = ""
    age_years: float | None = None
    sex: str = ""
    """`M`, `F`, `O` or empty."""
    view: str = ""
    """`AP`, `PA`, or as the source says, in capitals."""
    scanner: str = ""
    site: str = ""
    subtype: str = ""
    """`bacterial` or `viral` where the file name says so; a word of the label column that a sources file explains."""
    label_source: str = ""
    role: Role = "both"
    block: str = ""
    """Films of one block stay on one side of a split; empty: every patient by itself."""
    mask: Path | None = None
    """PNG of the lungs."""
    boxes: tuple[Box, ...] | None = None
    """What a radiologist boxed; None where nobody was asked to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong or left out: the file or row, a word to count by, a sentence with the mend."""

    file: str
    what: str
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """One source of a cohort of several: what run and card say of it."""

    name: str
    site: str
    role: Role
    label_source: str
    attribution: str
    images: int
    pneumonia: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Every image that can be used and every fault that was found: together they account for all rows and all files."""

    root: Path
    images: tuple[LabelledImage, ...]
    faults: tuple[Fault, ...]
    form: str
    """How the labels were found and what counts as positive and negative, in a sentence."""
    sources: tuple[SourceFacts, ...] = ()
    """Of a sources file; empty for a cohort by itself."""
    split_seed: int | None = None
    """Which patients judge, where that hangs on the data alone; None: on the seed of the recipe."""
    name: str = ""
    """What reports call it; empty: as its folder."""

    @property
    def title(self) -> str:
        """What reports call it."""
        return self.name or self.root.name

    @property
    def fault_counts(self) -> dict[str, int]:
        """Faults by their word, most frequent first."""
        return dict(Counter(fault.what for fault in self.faults).most_common())

    def for_judging(self) -> Cohort:
        """The cohort without the images that only train; each of them is a fault. Raises ConfigError where none is left."""
        judging = tuple(image for image in self.images if image.role != "train")
        if not judging:
            raise ConfigError((f"{self.title}: every source has role = train, so no image may judge",))
        faults = [
            Fault(file=str(image.path), what="only-trains", said=f"its source has role = train ({image.label_source}); judges nothing")
            for image in self.images
            if image.role == "train"
        ]
        return replace(self, images=judging, faults=(*self.faults, *faults))


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelPolicy:
    """What counts as negative in sets that label many findings, and what becomes of an uncertain label.

    `negatives`: `not-pneumonia` (default) is every film without the finding, because the worklist holds films with effusions and
    failing hearts too: a network that never saw them as negatives raises them all, and its AUC against the healthy flatters it.
    `no-finding` keeps only films with no finding at all: cleaner labels, an easier question.
    `uncertain`: `ignore` (default) leaves the film out with a fault; `positive` and `negative` count it so.
    `words`: further words of a label column, with 1 or 0. `leave_out`: rows of a table that hold all these values, by column.
    """

    negatives: str = "not-pneumonia"
    uncertain: str = "ignore"
    words: Mapping[str, int] = field(default_factory=dict)
    leave_out: tuple[Mapping[str, str], ...] = ()
    boxes: tuple[str, float] | None = None
    """The column that holds boxes as `x y width height`, several apart by `;`, and the side in pixels of the square they were drawn on."""

    def __post_init__(self) -> None:
        faults = []
        if self.negatives not in NEGATIVES:
            faults.append(f"negatives is {self.negatives!r}; choose one of {', '.join(NEGATIVES)}")
        if self.uncertain not in UNCERTAIN:
            faults.append(f"uncertain is {self.uncertain!r}; choose one of {', '.join(UNCERTAIN)}")
        if faults:
            raise ConfigError(tuple(faults))

    @property
    def for_own_table(self) -> bool:
        """It says what only a site's own label table can have."""
        return bool(self.words or self.leave_out or self.boxes)

    def label(self, pneumonia: float | None, *, no_finding: bool) -> int | None:
        """1, 0, or None for a film that is left out. `pneumonia` is 1, 0, -1 (uncertain) or None (not mentioned)."""
        if pneumonia == 1:
            return 1
        if pneumonia == -1:
            return {"ignore": None, "positive": 1, "negative": 0}[self.uncertain]
        return 0 if no_finding or self.negatives == "not-pneumonia" else None

    @property
    def sentence(self) -> str:
        """The policy as the report states it."""
        negative = "any film without pneumonia" if self.negatives == "not-pneumonia" else "only films with no finding at all"
        uncertain = "left out" if self.uncertain == "ignore" else f"counted as {self.uncertain}"
        return f"negative: {negative}; uncertain labels: {uncertain}"
