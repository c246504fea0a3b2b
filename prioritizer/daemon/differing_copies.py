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
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from prioritizer import patient_identity
from prioritizer.clock import Clock, utc_now
from prioritizer.config.policy import SitePolicy
from prioritizer.daemon.confirmed_copies import Read, end_taking
from prioritizer.daemon.retry_schedule import Retries
from prioritizer.db.instances import differing_copies, taking_copies
from prioritizer.db.instances.differing_copies import Held
from prioritizer.db.processing import receive
from prioritizer.db.processing.receive import NOT_STORED, NOT_TAKEN, Arrival, is_of_the_values
from prioritizer.dicom.read import attributes, sandboxed
from prioritizer.dicom.spool.files import holds_the_copy
from prioritizer.dicom.spool.spool import Spool
from prioritizer.errors import Transient, Unprocessable
from prioritizer.inference.sandbox import ChildDied
from prioritizer.patient_identity import particulars_of
from prioritizer.scope.header_rules import may_be_a_radiograph, same_facts
from prioritizer.study import names_a_study, study_instance_uid

log = logging.getLogger(__name__)
WAIT_S = 1.0
"""Seconds until a copy that could not be judged is looked at again; doubled each time."""
MAX_WAIT_S = 60.0
MAX_DEATHS = 3
MAX_TRIES = 5
"""Of putting a confirmed copy in its place, until a person is asked again."""
MAX_TAKING = timedelta(seconds=30)
"""So long a person's own process is left to end what it began."""
A_TURN = 1
"""Copies looked at before the inbox is looked at again: a decoder that hangs on one takes its whole time limit."""
Compare = Callable[[Path, Path], bool]


class CannotCompareError(Exception):
    """The pixels of a copy cannot be compared now: that copy is looked at again later, the others go on."""


@dataclass(slots=True, kw_only=True)
class Copies:
    """Looks at every differing copy when it comes; again where it is sent again after another was taken."""

    engine: sa.Engine
    spool: Spool
    read: Read
    same_pixels: Compare = sandboxed.same_pixels
    clock: Clock = utc_now
    _looked_at: dict[str, int] | None = field(default=None)
    """Copies that were looked at, by file, and when each had come last."""
    _deaths: dict[str, int] = field(default_factory=dict)
    """How often the sandbox died on the pixels of a copy."""
    _retries: Retries[str] = field(default_factory=lambda: Retries(WAIT_S, MAX_WAIT_S))
    """Copies that could not be judged, by file."""
    _takings: Retries[str] = field(default_factory=lambda: Retries(WAIT_S, MAX_WAIT_S))
    """Studies of which a confirmed copy could not be put in its place."""

    def step(self, policy: SitePolicy) -> bool:
        """Judge the oldest copy that is due; True when there was one, also where it could not be judged: others may stand behind it."""
        first = self._looked_at is None
        came = self.spool.copies_came()
        if self._looked_at is None:
            self._looked_at = {name: came[name] for name in differing_copies.kept_files(self.engine) if name in came}
        self._end_what_was_begun(policy, begun_before=None if first else self.clock() - MAX_TAKING)
        present = self.spool.copies()
        names = {path.name for path in present}
        # A name may be used again: what is not there any more is forgotten, and what came again is looked at again.
        self._looked_at = {name: at for name, at in self._looked_at.items() if came.get(name, at) == at and name in names}
        new = {path.name: path for path in present if path.name not in self._looked_at}
        due = self._retries.due(new)[:A_TURN]
        for name in due:
            self._judge_alone(new[name], policy, came.get(name, 0))
        return bool(due)

    def _end_what_was_begun(self, policy: SitePolicy, begun_before: datetime | None) -> None:
        """Copies that a person took, and a crash or a fault came between their file and the ledger."""
        begun = dict(differing_copies.being_taken(self.engine, begun_before))
        for study_uid in self._takings.due(begun):
            try:
                end_taking(self.engine, self.spool, self.read, study_uid, who=begun[study_uid], policy=policy, clock=self.clock)
            except Transient:
                raise  # the ledger does not answer
            except Exception as error:  # noqa: BLE001 - one study of many
                log.error("a copy that was taken cannot be put in its place (%s)", type(error).__name__, extra={"event": "taking-waits"})
                self._takings.later(study_uid)
                if self._takings.failures(study_uid) >= MAX_TRIES:
                    self._ask_again(study_uid)

    def _ask_again(self, study_uid: str) -> None:
        """Of what was confirmed and does not lie in its place yet a person is asked again, and may keep what is shown."""
        images = differing_copies.images_of(self.engine, differing_copies.taken_of(self.engine, study_uid))
        out = {file for file, uid in images.items() if (held := self.spool.find(uid)) is None or not holds_the_copy(held, file)}
        if out:
            differing_copies.wait_again(self.engine, study_uid, out, self.clock())

    def _judge_alone(self, path: Path, policy: SitePolicy, came: int) -> None:
        """Whatever one copy does to the disk, the ledger or a decoder: it is looked at again later, the others go on."""
        try:
            judged = self._judge(path, policy, came)
        except Transient:
            raise  # the ledger does not answer: no copy can be judged now
        except Exception as error:  # noqa: BLE001 - one item of many
            log.error("a differing copy cannot be judged now (%s)", type(error).__name__, extra={"event": "copy-waits"})
            judged = False
        if not judged:
            self._retries.later(path.name)

    def _judge(self, path: Path, policy: SitePolicy, came: int) -> bool:
        """True when the copy was judged; one whose original is not in the ledger yet waits for the next turn."""
        try:
            arrival = self.read(path)
        except (ValueError, FileNotFoundError):
            self.spool.quarantine(path, "a differing copy without a receipt", acknowledged=True)
            return True
        uid = str(arrival.instance.sop_instance_uid)
        held, file = differing_copies.held(self.engine, uid), self.spool.find(uid)
        if held is None:
            return self.spool.make_way(path) and self._enter_alone(path, arrival, policy)
        stays = differing_copies.is_settled(self.engine, path.name) or not self._decide(path, arrival, held, file, policy)
        if stays and self._looked_at is not None:
            self._looked_at[path.name] = came
        return True

    def _enter_alone(self, path: Path, arrival: Arrival, policy: SitePolicy) -> bool:
        """A copy of nothing that is held: the ledger was lost, or the disk lost the first before it was entered.

        It is listed, and waits to be confirmed: a person may have decided against this copy in a ledger that is gone.
        """
        self.spool.put_in_place(path, "the first is gone", arrival.instance.received_at)
        try:
            self._list(arrival, policy)
        except NOT_TAKEN as error:
            if not is_of_the_values(error):
                raise
            log.error("a copy is entered without its header (%s)", type(error).__name__, extra={"event": "entry-fault"})
            self._list(Arrival(instance=attributes.bare_instance(path), unreadable=NOT_STORED), policy)
        self.spool.drop_copy(path)
        return True

    def _list(self, arrival: Arrival, policy: SitePolicy) -> None:
        receive.receive(self.engine, [arrival], policy, self.clock(), doubt=differing_copies.STANDS_ALONE)

    def _decide(self, path: Path, arrival: Arrival, held: Held, file: Path | None, policy: SitePolicy) -> bool:
        """True where nothing is left to decide and the copy is dropped; False where it stays in conflicts/."""
        now, taken = self.clock(), file is not None and _lies_in(file, path) and held.instance.sha256 == arrival.instance.sha256
        changed = bool(patient_identity.differing(particulars_of(held.instance), particulars_of(arrival.instance)))
        if taken:  # a crash came after the ledger's commit
            self.spool.drop_copy(path)
        elif _of_another_study(held.instance.study_uid, arrival.instance.study_uid, changed=changed):
            taking_copies.enter_in_its_study(self.engine, path.name, arrival, policy, now)
            return False
        elif not changed and (why := _what_is_wrong(held, file, arrival)):
            self._take(path, why, held, arrival, policy)
        elif changed or file is None or not self._is_the_same(held, file, arrival, path):
            taking_copies.enter_waiting(self.engine, path.name, arrival, policy, now)
            return False
        elif names_a_study(arrival.instance.study_uid) and not names_a_study(held.instance.study_uid):
            self._take(path, "the file named no study", held, arrival, policy)
        elif same_facts(held.instance, arrival.instance):
            taking_copies.enter_same(self.engine, path.name, arrival, policy, now)
            self.spool.drop_copy(path)
        elif _lost_something(held, arrival):
            taking_copies.enter_waiting(self.engine, path.name, arrival, policy, now, same_pixels=True)
            return False
        else:
            self._take(path, "what is stated of the image was corrected", held, arrival, policy)
        return True

    def _take(self, path: Path, why: str, held: Held, arrival: Arrival, policy: SitePolicy) -> None:
        self.spool.put_in_place(path, why, held.came_first)
        said = f"{why}: the copy that came again took its place"
        taking_copies.enter_taken(self.engine, path.name, arrival, policy, self.clock(), said)
        self.spool.put_in_place(path, why, held.came_first)  # a file that was marked as deleted may have been unlinked before the commit
        self.spool.drop_copy(path)

    def _is_the_same(self, held: Held, file: Path, arrival: Arrival, path: Path) -> bool:
        if not may_be_a_radiograph(held.instance) and not may_be_a_radiograph(arrival.instance):
            return True  # a report or presentation state: nothing of it is scored or shown
        try:
            return self.same_pixels(file, path)
        except Unprocessable:
            return False  # a person looks
        except Transient as error:  # no process can be started now; the ledger has no part in it
            raise CannotCompareError from error
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
    why = ""
    if file is None:
        why = "the file was deleted after reading" if held.gone else "the file was missing"
    elif arrival.unreadable:
        pass
    elif held.nameless:
        why = "the file could not be read"
    else:
        try:
            why = "the file was damaged" if attributes.sha256_of(file) != held.instance.sha256 else ""
        except OSError:
            why = "the disk does not give the file any more"
    return why


def _lies_in(file: Path, copy: Path) -> bool:
    try:
        return file.samefile(copy)
    except OSError:
        return False


def _lost_something(held: Held, arrival: Arrival) -> bool:
    """True where a copy is compressed with loss and what is held is not."""
    return arrival.instance.transfer_syntax_uid in sandboxed.LOSSY and held.instance.transfer_syntax_uid not in sandboxed.LOSSY
