"""What needs somebody: each alarm that stands, how grave it is, since when, the mend, and where it is mended. It empties itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Severity(StrEnum):
    """How grave it is.

    ALARM    Studies are not received, not ranked or not sent as they should be, or somebody has waited too long.
    WARNING  Everything works; somebody should look.
    """

    ALARM = "alarm"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """One thing that needs somebody."""

    severity: Severity
    said: str
    since: datetime
    mend: str
    where: str
    """The address of the page where it is mended."""
    place: str
    """What that page is called."""


PLACES: dict[str, tuple[Severity, str, str]] = {
    "overdue": (Severity.ALARM, "/?overdue=1", "The overdue studies"),
    "expired": (Severity.WARNING, "/?view=expired", "The studies open for too long"),
    "rejected": (Severity.ALARM, "/system#deliveries", "The refused results"),
    "failed": (Severity.WARNING, "/system#failed", "The images that failed"),
    "disk": (Severity.ALARM, "/system#workers", "The spool's disk"),
    "not-ready": (Severity.ALARM, "/system#workers", "The workers"),
    "raising-suspended": (Severity.WARNING, "/rules", "The site's rules"),
    "calibration-changed": (Severity.ALARM, "/calibrations", "The calibrations"),
    "ruling-set-aside": (Severity.ALARM, "/rules", "The site's rules"),
    "files-missing": (Severity.ALARM, "/system#workers", "The spool's disk"),
    "files-damaged": (Severity.ALARM, "/system#workers", "The spool's disk"),
    "unlisted": (Severity.ALARM, "/system#workers", "The spool's disk"),
    "blind": (Severity.ALARM, "/system#workers", "The workers"),
    "inbox": (Severity.ALARM, "/system#workers", "The workers"),
    "copies": (Severity.ALARM, "/system#workers", "The workers"),
    "scoring": (Severity.ALARM, "/system#workers", "The workers"),
    "publishing": (Severity.ALARM, "/system#workers", "The workers"),
    "failing": (Severity.ALARM, "/system#workers", "The workers"),
    "listener": (Severity.WARNING, "/system#workers", "The workers"),
    "owed": (Severity.WARNING, "/system#workers", "The workers"),
    "delivery": (Severity.ALARM, "/system#deliveries", "The results that wait"),
    "destination-unknown": (Severity.ALARM, "/system#deliveries", "The results that wait"),
    "disk-forecast": (Severity.WARNING, "/system#workers", "The spool's disk"),
    "set-aside": (Severity.ALARM, "/system#refusals", "What was refused or set aside"),
    "strangers": (Severity.WARNING, "/system#refusals", "What was refused or set aside"),
    "identity": (Severity.ALARM, "/system#identity", "Whose study it is"),
    "rebuilt": (Severity.WARNING, "/system#workers", "The workers"),
    "clock": (Severity.WARNING, "/system#workers", "The workers"),
}
"""Of each alarm how grave it is, and where it is mended or its studies stand."""
BOARD = (Severity.WARNING, "/board", "The board")
UNKNOWN = (Severity.ALARM, "/system", "System")


def repairs(alarms: Sequence[tuple[str, datetime, str, str]]) -> list[Repair]:
    """The alarms that stand, the grave ones first, of these the oldest first. Each comes as name, since, what, mend."""
    found = []
    for name, since, said, mend in alarms:
        severity, where, place = PLACES.get(name, BOARD if name.startswith("board-") else UNKNOWN)
        found.append(Repair(severity=severity, said=said, since=since, mend=mend, where=where, place=place))
    return sorted(found, key=lambda repair: (repair.severity is not Severity.ALARM, repair.since))
