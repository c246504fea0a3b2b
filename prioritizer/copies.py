"""Other bytes under a SOP Instance UID that is held: the same image differently encoded, a corrected one, or what heals a damaged file.

The listener acknowledges such a copy once it is durable in conflicts/. Here it is compared with what is held:

    another study                                    listed there, never scored, both rows marked
    other particulars                                it waits on the row until a person has confirmed one of the two
    what is held is gone, damaged or unreadable      the copy takes its place
    the same pixels                                  the same image: nothing to decide
    anything else                                    it waits on the row
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from prioritizer import identity
from prioritizer.clock import Clock, utc_now
from prioritizer.db import copies
from prioritizer.db.copies import Held
from prioritizer.db.receiving import Arrival, Quiet
from prioritizer.dicom import attributes, develop
from prioritizer.dicom.spool import Spool
from prioritizer.eligibility import may_be_a_radiograph
from prioritizer.errors import NotAllowed, Transient, Unprocessable
from prioritizer.identity import particulars_of
from prioritizer.inference.sandbox import ChildDied
from prioritizer.ranking import Policy
from prioritizer.study import names_a_study, study_instance_uid

log = logging.getLogger(__name__)
WAIT_S = 1.0
MAX_DEATHS = 3
A_TURN = 8
"""Copies looked at before the inbox is looked at again."""
Compare = Callable[[Path, Path], bool]
Read = Callable[[Path], Arrival]


@dataclass(slots=True, kw_only=True)
class Copies:
    """Looks at every differing copy once."""

    engine: sa.Engine
    spool: Spool
    read: Read
    same_pixels: Compare = develop.same_pixels
    clock: Clock = utc_now
    _looked_at: set[str] | None = field(default=None)
    _deaths: dict[str, int] = field(default_factory=dict)
    """How often the sandbox died on the pixels of a copy."""
    _later: dict[str, float] = field(default_factory=dict)
    """Copies that could not be judged, and when they are looked at again, by the monotonic clock."""

    def step(self, policy: Policy, quiet: Quiet) -> bool:
        """Judge the oldest copies that were not looked at; True when there were any."""
        if self._looked_at is None:
            self._looked_at = copies.kept_files(self.engine)
        now = time.monotonic()
        waits = {name for name, at in self._later.items() if at > now}
        present = self.spool.copies()
        # A name may be used again: what is not there any more is forgotten.
        self._looked_at &= {path.name for path in present}
        new = [path for path in present if path.name not in self._looked_at and path.name not in waits][:A_TURN]
        judged = [self._judge_alone(path, policy, quiet) for path in new]
        return any(judged)

    def _judge_alone(self, path: Path, policy: Policy, quiet: Quiet) -> bool:
        """Whatever one copy does to the disk, the ledger or a decoder: it is looked at again later, the others go on."""
        try:
            judged = self._judge(path, policy, quiet)
        except Transient:
            raise  # the ledger does not answer: no copy can be judged now
        except Exception as error:  # noqa: BLE001 - one item of many
            log.error("a differing copy cannot be judged now (%s)", type(error).__name__, extra={"event": "copy-waits"})
            judged = False
        if judged:
            self._later.pop(path.name, None)
        else:
            self._later[path.name] = time.monotonic() + WAIT_S
        return judged

    def _judge(self, path: Path, policy: Policy, quiet: Quiet) -> bool:
        """True when the copy was judged; one whose original is not in the ledger yet waits for the next turn."""
        try:
            arrival = self.read(path)
        except (ValueError, FileNotFoundError):
            self.spool.quarantine(path, "a differing copy without a receipt", acknowledged=True)
            return True
        uid = str(arrival.instance.sop_instance_uid)
        held, file = copies.held(self.engine, uid), self.spool.find(uid)
        if held is None:
            return self._admit(path, file)
        now = self.clock()
        changed = bool(identity.differing(particulars_of(held.instance), particulars_of(arrival.instance)))
        if _of_another_study(held.instance.study_uid, arrival.instance.study_uid, changed=changed):
            copies.enter_in_its_study(self.engine, path.name, arrival, policy, quiet, now)
        elif changed:
            copies.enter_waiting(self.engine, path.name, arrival, now)
        elif why := _what_is_wrong(held, file, arrival):
            self.spool.take_copy(path, why)
            copies.enter_taken(self.engine, path.name, arrival, policy, quiet, now, f"{why}: the copy that came again took its place")
            return True
        elif file is not None and self._is_the_same(held, file, arrival, path):
            copies.enter_same(self.engine, path.name, arrival, policy, now)
            self.spool.drop_copy(path)
            return True
        else:
            copies.enter_waiting(self.engine, path.name, arrival, now)
        if self._looked_at is not None:
            self._looked_at.add(path.name)
        return True

    def _admit(self, path: Path, file: Path | None) -> bool:
        """Of a copy whose original nobody holds: it is an arrival like any other."""
        if file is None:
            self.spool.admit_copy(path)
        return file is None

    def _is_the_same(self, held: Held, file: Path, arrival: Arrival, path: Path) -> bool:
        if not may_be_a_radiograph(held.instance) and not may_be_a_radiograph(arrival.instance):
            return True  # a report or presentation state: nothing of it is scored or shown
        try:
            return self.same_pixels(file, path)
        except Unprocessable:
            return False  # a person looks
        except ChildDied:
            self._deaths[path.name] = self._deaths.get(path.name, 0) + 1
            if self._deaths[path.name] < MAX_DEATHS:
                raise  # it may be the machine's fault: looked at again
            del self._deaths[path.name]
            return False


def _of_another_study(held: str, sent: str, *, changed: bool) -> bool:
    """True where a copy belongs to another study than what is held; one that names none belongs to any, of the same patient."""
    return names_a_study(sent) and study_instance_uid(held) != sent and (names_a_study(held) or changed)


def _what_is_wrong(held: Held, file: Path | None, arrival: Arrival) -> str:
    """Why a copy of the same particulars takes the place of what is held; empty where that is whole, or the copy no better."""
    if file is None:
        return "the file was deleted after reading" if held.gone else "the file was missing"
    if arrival.unreadable:
        return ""
    if held.nameless:
        return "the file could not be read"
    if names_a_study(arrival.instance.study_uid) and not names_a_study(held.instance.study_uid):
        return "the file named no study"
    if attributes.sha256_of(file) != held.instance.sha256:
        return "the file was damaged"
    return ""


def confirm(
    engine: sa.Engine,
    spool: Spool,
    read: Read,
    study_uid: str,
    *,
    take: bool,
    who: str,
    policy: Policy,
    quiet: Quiet,
    clock: Clock = utc_now,
) -> int:
    """A person says whose study it is: what is shown stays, or the newest copy of each image takes its place. Returns how many did.

    May be repeated after a crash. Raises NotAllowed where nothing waits to be confirmed.
    """
    waiting = copies.waiting(engine, study_uid)
    taken: dict[str, Arrival] = {}
    for copy in waiting if take else ():
        held = copies.held(engine, copy.sop_instance_uid)
        if held is None or held.instance.study_uid != study_uid:
            continue
        path = next((one for one in spool.copies() if one.name == copy.file), None)
        if path is not None:
            spool.take_copy(path, "a person confirmed another copy of this image")
        elif not spool.lies_in_place(copy.file, copy.sop_instance_uid):
            raise NotAllowed(f"the copy {copy.file} is not in the spool any more: send the image again")
        file = spool.find(copy.sop_instance_uid)
        if file is not None:
            taken[copy.file] = read(file)
    copies.settle(engine, study_uid, taken, who, policy, quiet, clock())
    return len(taken)
