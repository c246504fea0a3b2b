"""What pages and API ask of the daemon that serves them. `daemon.page_backend.PageBackend` is the one; tests have another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import sqlalchemy as sa

from prioritizer.calibration.threshold import ThresholdWish
from prioritizer.config.policy import SitePolicy
from prioritizer.config.settings import Settings
from prioritizer.file_result import Tried
from prioritizer.imaging.display import Shown


class Images(Protocol):
    """Where pages have images and heat maps from."""

    @property
    def scale(self) -> float:
        """Contribution to the logit that heat maps draw strongest."""

    def film(self, sop_instance_uid: str) -> Shown:
        """An image with all its tones."""

    def display(self, sop_instance_uid: str) -> bytes:
        """The same in the header's window, PNG."""

    def heat(self, saliency: bytes, rows: int, columns: int) -> bytes:
        """A heat map as a layer, PNG."""


class FileScorer(Protocol):
    """Where a file is scored that is no study."""

    def __call__(self, data: bytes, *, ignore_scope: bool) -> Tried:
        """What AI makes of it."""


class TestedStep(Protocol):
    """One step of the way to a peer, as a test found it."""

    @property
    def what(self) -> str:
        """What was tested."""

    @property
    def ok(self) -> bool:
        """It works."""

    @property
    def said(self) -> str:
        """What was seen."""

    @property
    def mend(self) -> str:
        """What to do where it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolState:
    """The spool's disk, and what lies in the inbox before the ledger knows it."""

    free_bytes: int
    free_share: float
    """Of the file system, 0..1."""
    inbox: int
    oldest: datetime | None
    """Since when the oldest file of the inbox lies there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """A worker thread of the daemon."""

    name: str
    last_turn: datetime
    failures: int
    """In a row."""


class Operation(Protocol):
    """How the daemon is."""

    def ai_off(self) -> tuple[str, datetime]:
        """Why AI is off, empty while it is on, and since when."""

    def listening(self) -> bool:
        """The listener answers."""

    def faults(self) -> list[str]:
        """What stands in the way of full service."""

    def workers(self) -> Sequence[WorkerState]:
        """Every worker thread."""

    def spool(self) -> SpoolState:
        """The disk and the inbox now."""

    def card(self) -> dict[str, Any]:
        """What the bundle states of itself; empty without one."""

    def metrics(self) -> bytes:
        """Prometheus text."""

    def dashboard(self, period: str) -> tuple[datetime, dict[str, Any]]:
        """The dashboard of a period, and when it was computed."""

    def conformance(self) -> str:
        """The DICOM conformance statement, Markdown."""

    def examine(self, name: str, send: bool) -> Sequence[TestedStep]:
        """Walk the way to a destination, or to our own listener; `send` stores a phantom there."""


class Decisions(Protocol):
    """What a person decides that takes more than the ledger."""

    def simulate(self, changes: Mapping[str, Any], *, again: bool) -> dict[str, Any]:
        """What a settings override would do; simulated again, or as it was shown of the same values. Raises SettingsOverrideUnfit."""

    def settings_changed(self) -> None:
        """A settings override was decided on this page: the settings are read again."""

    def propose_threshold(self, wish: ThresholdWish, by: str, activation: int) -> str:
        """Enter another threshold as a candidate, over which activation; its id. Raises NotAllowed, ModelError."""

    def settle_identity(self, study_uid: str, take: bool, who: str, shown: str) -> str:
        """Decide whose study it is; `take`: what came since is taken. Raises NotAllowed, NotFound."""


class Backend(Protocol):
    """The daemon as pages and API see it."""

    @property
    def engine(self) -> sa.Engine:
        """The ledger."""

    @property
    def operation(self) -> Operation:
        """How it is."""

    @property
    def decisions(self) -> Decisions:
        """What a person may decide."""

    def settings(self) -> Settings:
        """What is in force: the configuration with the active settings override over it."""

    def configured(self) -> Settings:
        """The configuration alone."""

    def policy(self) -> SitePolicy:
        """The site's policy now."""

    def images(self) -> Images | None:
        """None while there is no bundle."""

    def trial(self) -> FileScorer | None:
        """None while AI is off."""

    def now(self) -> datetime:
        """This moment, UTC."""
