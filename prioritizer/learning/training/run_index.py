"""All runs of a folder beside each other: what each changed, how far it came, its figures on the split that chooses, and what it cost."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prioritizer.errors import NotFound
from prioritizer.learning.training.run_folder import LOCK, RUN, Epoch, Journal, curves_of
from prioritizer.reports import plots
from prioritizer.reports.page import Plot, Report, Section, Table

FINISHED, STOPPED, TRAINING = "finished", "stopped", "training"
HEADER = ("run", "state", "epochs", "kept", "ROC-AUC that chose", "loss", "hours", "films", "data", "differs from the first run by")
NO_EVIDENCE = (
    "Figures are of the split that chooses the epoch: they say which run to look at, and are no evidence. `prioritizer evaluate` and "
    "`compare` judge on films that no choice saw."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """One run."""

    folder: Path
    facts: Mapping[str, Any]
    epochs: tuple[Epoch, ...]
    asked: int
    """Epochs that the recipe asks for."""
    state: str
    changed: tuple[str, ...]
    """Keys of the recipe that differ from those of the first run of the same page, with their values."""

    @property
    def name(self) -> str:
        """Its folder."""
        return self.folder.name

    @property
    def best(self) -> Epoch | None:
        """The epoch with the best figure that its recipe selects by; the last where it selects none."""
        select = self.facts["recipe"].get("select", "last")
        if not self.epochs or select == "last":
            return self.epochs[-1] if self.epochs else None
        chose = {"unlinked": "select_unlinked", "looking": "select_looking"}.get(select, "select_auc")
        return max(self.epochs, key=lambda one: getattr(one, chose) or 0.0)

    @property
    def hours(self) -> float:
        """Of training and choosing, as far as epochs were written down."""
        return sum(one.seconds for one in self.epochs) / 3600


def index(root: Path) -> tuple[Indexed, ...]:
    """The runs below `root`, by name. Raises NotFound where there is none."""
    folders = sorted(path.parent for path in root.rglob(RUN)) if root.is_dir() else []
    if not folders:
        raise NotFound(f"{root} holds no run: `prioritizer train {root / 'NAME'} --data DIR` makes one")
    known = [Journal(folder).facts() for folder in folders]
    first = dict(_flat(known[0]["recipe"]))
    return tuple(_indexed(folder, facts, first) for folder, facts in zip(folders, known, strict=True))


def _indexed(folder: Path, facts: Mapping[str, Any], first: Mapping[str, Any]) -> Indexed:
    epochs = tuple(Journal(folder).epochs())
    asked = sum(int(phase["epochs"]) for phase in facts["recipe"]["phases"])
    if facts.get("smoke"):
        asked = len(facts["recipe"]["phases"])
    ended = Journal(folder).is_finished() or len(epochs) >= asked
    state = TRAINING if _is_trained(folder) else FINISHED if ended else STOPPED
    own = dict(_flat(facts["recipe"]))
    changed = [f"{key} = {own.get(key, '-')}" for key in sorted(own.keys() | first.keys()) if own.get(key) != first.get(key)]
    changed += [f"without {site}" for site in facts.get("without") or ()]
    return Indexed(folder=folder, facts=facts, epochs=epochs, asked=asked, state=state, changed=tuple(changed))


def _is_trained(folder: Path) -> bool:
    """True while another process trains here."""
    try:
        with (folder / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _flat(values: Any, begin: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a recipe, those of tables and lists with a dot between."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _flat(value, f"{begin}{key}.")
    elif isinstance(values, list) and values and isinstance(values[0], Mapping):
        for place, value in enumerate(values, start=1):
            yield from _flat(value, f"{begin}{place}.")
    else:
        yield begin.rstrip("."), values


def row_of(one: Indexed) -> tuple[object, ...]:
    """One line of the table."""
    best = one.best
    return (
        one.name,
        f"{one.state} (smoke run)" if one.facts.get("smoke") else one.state,
        f"{len(one.epochs)} of {one.asked}",
        best.epoch if best else "-",
        best.select_auc if best else None,
        best.select_loss if best else None,
        one.hours,
        one.facts["images"].get("train", 0),
        str(one.facts.get("data_sha256", ""))[:8],
        ", ".join(one.changed) or "-",
    )


def report_of(root: Path, runs: Sequence[Indexed]) -> Report:
    """The page: the table, all runs in one picture, then the curves of each."""
    known = [one for one in runs if one.epochs]
    beside = [
        plots.Curve(name=one.name, x=[epoch.epoch for epoch in one.epochs], y=[1 - epoch.select_auc for epoch in one.epochs], marker="o")
        for one in known
    ]
    drawn = (
        (
            Plot(
                caption="1 - ROC-AUC on the split that chooses, by epoch",
                svg=plots.lines(beside, x="epoch", y="1 - ROC-AUC", size=(6.4, 4.0)),
                alt="1 - ROC-AUC of every run by epoch",
            ),
        )
        if beside
        else ()
    )
    table = Table(caption="", header=HEADER, rows=tuple(row_of(one) for one in runs))
    first = Section(title="All runs", answers="R7", text=(NO_EVIDENCE,), tables=(table,), plots=drawn)
    return Report(
        title=f"Runs in {root.resolve().name}",
        made_at=datetime.now(UTC),
        verdict=None,
        sections=(first, *(_section(one) for one in runs)),
        facts={"runs": [facts_of(one) for one in runs]},
    )


def _section(one: Indexed) -> Section:
    facts = one.facts
    rows = (
        ("architecture", facts["recipe"]["architecture"]),
        ("first weights", _weights(facts.get("initial_weights"))),
        ("images", ", ".join(f"{name} {count}" for name, count in facts["images"].items())),
        ("sources", ", ".join(source["name"] for source in facts.get("sources") or ()) or "one cohort"),
        ("device, processes", f"{facts.get('device', '-')}, {facts.get('processes', 1)}"),
        ("prioritizer, torch, timm", ", ".join(str(facts.get(name, "-")) for name in ("prioritizer", "torch", "timm"))),
    )
    curves = list(curves_of(list(one.epochs))) if one.epochs else []
    shown = (
        (Plot(caption="Losses and 1 - ROC-AUC", svg=plots.lines(curves, x="epoch", y="", size=(6.0, 3.4)), alt=f"Curves of {one.name}"),)
        if curves
        else ()
    )
    return Section(title=f"{one.name}: {one.state}", tables=(Table(caption="", header=("", ""), rows=rows),), plots=shown)


def _weights(initial: Mapping[str, Any] | None) -> str:
    if not initial:
        return "random"
    return str(initial.get("package") or initial.get("file"))


def facts_of(one: Indexed) -> dict[str, Any]:
    """A run for machines."""
    best = one.best
    return {
        "name": one.name,
        "folder": str(one.folder),
        "state": one.state,
        "smoke": bool(one.facts.get("smoke")),
        "epochs": len(one.epochs),
        "epochs_asked": one.asked,
        "kept": best.epoch if best else None,
        "select_auc": best.select_auc if best else None,
        "select_loss": best.select_loss if best else None,
        "hours": one.hours,
        "images": dict(one.facts["images"]),
        "data_sha256": one.facts.get("data_sha256"),
        "changed": list(one.changed),
    }
