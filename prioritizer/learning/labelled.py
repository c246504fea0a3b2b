"""What a labelled cohort is: its images, its faults, and the two choices that decide what counts as negative."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from prioritizer.errors import ConfigError

NEGATIVES = ("not-pneumonia", "no-finding")
UNCERTAIN = ("ignore", "positive", "negative")


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
    """`bacterial` or `viral` where the file name says so."""
    label_source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong or left out: the file or row, a word to count by, a sentence with the mend."""

    file: str
    what: str
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Every image that can be used and every fault that was found: together they account for all rows and all files."""

    root: Path
    images: tuple[LabelledImage, ...]
    faults: tuple[Fault, ...]
    form: str
    """How the labels were found and what counts as positive and negative, in a sentence."""

    @property
    def fault_counts(self) -> dict[str, int]:
        """Faults by their word, most frequent first."""
        return dict(Counter(fault.what for fault in self.faults).most_common())


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What counts as negative in sets that label many findings, and what becomes of an uncertain label.

    `negatives`: `not-pneumonia` (default) is every film without the finding, because the worklist holds films with effusions and
    failing hearts too: a network that never saw them as negatives raises them all, and its AUC against the healthy flatters it.
    `no-finding` keeps only films with no finding at all: cleaner labels, an easier question.
    `uncertain`: `ignore` (default) leaves the film out with a fault; `positive` and `negative` count it so.
    """

    negatives: str = "not-pneumonia"
    uncertain: str = "ignore"

    def __post_init__(self) -> None:
        faults = []
        if self.negatives not in NEGATIVES:
            faults.append(f"negatives is {self.negatives!r}; choose one of {', '.join(NEGATIVES)}")
        if self.uncertain not in UNCERTAIN:
            faults.append(f"uncertain is {self.uncertain!r}; choose one of {', '.join(UNCERTAIN)}")
        if faults:
            raise ConfigError(tuple(faults))

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
