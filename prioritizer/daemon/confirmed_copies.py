"""A copy that a person confirmed is put in its place, whatever stops on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from prioritizer.clock import Clock, utc_now
from prioritizer.config.policy import SitePolicy
from prioritizer.db.instances import differing_copies, taking_copies
from prioritizer.db.processing.receive import Arrival
from prioritizer.dicom.read import attributes
from prioritizer.dicom.spool.spool import Spool
from prioritizer.errors import NotAllowed

Read = Callable[[Path], Arrival]


def confirm(
    engine: sa.Engine,
    spool: Spool,
    read: Read,
    study_uid: str,
    *,
    take: bool,
    who: str,
    policy: SitePolicy,
    clock: Clock = utc_now,
    shown: str = "",
) -> int:
    """A person says whose study it is: what is shown stays, or the newest copy of each image takes its place; returns how many did.

    What was begun is ended, also after a crash. `shown`: the mark of what the person was shown. Raises NotAllowed where nothing waits to be
    confirmed, something else came since, or a copy is not there any more.
    """
    if not take:
        taking_copies.settle(engine, study_uid, {}, who, policy, clock(), shown=shown)
        return 0
    shown = shown or differing_copies.mark_of(engine, study_uid)  # what comes from here on is not settled with what is listed now
    newest: dict[str, str] = {}
    for copy in differing_copies.waiting(engine, study_uid):
        held = differing_copies.held(engine, copy.sop_instance_uid)
        if held is not None and held.instance.study_uid == study_uid:
            newest[copy.sop_instance_uid] = copy.file  # the oldest first: the newest stays
    if not newest and not differing_copies.taken_of(engine, study_uid):
        raise NotAllowed("no newer copy of an image of this row waits: what is shown can only be kept")
    there = {path.name for path in spool.copies()}
    for file in newest.values():
        if file not in there:
            raise NotAllowed(f"the copy {file} is not in the spool any more: send the image again")
    differing_copies.begin_taking(engine, study_uid, list(newest.values()), who, clock(), shown)
    return end_taking(engine, spool, read, study_uid, who=who, policy=policy, clock=clock)


def end_taking(engine: sa.Engine, spool: Spool, read: Read, study_uid: str, *, who: str, policy: SitePolicy, clock: Clock = utc_now) -> int:
    """Put the copies of a study that were confirmed in the place of what is held; returns how many. May be repeated."""
    files = differing_copies.taken_of(engine, study_uid)
    if not files:  # another process has ended it meanwhile
        return 0
    paths = {path.name: path for path in spool.copies() if path.name in files}
    # A crash may have come before the ledger's commit, and the copy itself be lost since: what lies in the place is the copy.
    there = differing_copies.in_place_already(engine, study_uid, files - paths.keys(), lambda uid: _read_held(spool, read, uid))
    arrivals, aside, faults = dict(there), dict[str, Path | None](), list[OSError | ValueError]()
    for name, path in paths.items():  # each alone: one that the disk does not give keeps no other waiting
        try:
            arrival = read(path)
            aside[name] = _put_confirmed_in_place(engine, spool, path, arrival)
            arrivals[name] = arrival
        except (OSError, ValueError) as error:
            faults.append(error)
    if gone := files - paths.keys() - arrivals.keys():
        differing_copies.wait_again(engine, study_uid, gone, clock())
    settled = taking_copies.settle(engine, study_uid, arrivals, who, policy, clock()) if arrivals else set()
    for name in arrivals.keys() & paths.keys():
        if name in settled:
            _put_confirmed_in_place(engine, spool, paths[name], arrivals[name])
            spool.drop_copy(paths[name])
        else:
            _take_back(engine, spool, arrivals[name].instance.sop_instance_uid, aside[name])
    if gone:
        raise NotAllowed(f"the copy {min(gone)} is not in the spool any more: send the image again")
    if faults:
        raise faults[0]
    return len(settled)


def _take_back(engine: sa.Engine, spool: Spool, uid: str, aside: Path | None) -> None:
    """Another process ended the taking while this one was stopped, and something else may be confirmed since: it comes back."""
    held, file = differing_copies.held(engine, uid), spool.find(uid)
    if held is None or file is None or aside is None:
        return
    if attributes.sha256_of(aside) == held.instance.sha256 != attributes.sha256_of(file):
        spool.put_in_place(aside, "it was put in its place too late: something else had been confirmed", held.came_first)


def _read_held(spool: Spool, read: Read, uid: str) -> Arrival | None:
    """What the file of an instance states now; None where it cannot be said."""
    file = spool.find(uid)
    try:
        return None if file is None else read(file)
    except (OSError, ValueError):
        return None


def _put_confirmed_in_place(engine: sa.Engine, spool: Spool, path: Path, arrival: Arrival) -> Path | None:
    """Returns where what was held lies now; None where nothing had to be done."""
    held = differing_copies.held(engine, arrival.instance.sop_instance_uid)
    came_first = arrival.instance.received_at if held is None else held.came_first
    return spool.put_in_place(path, "a person confirmed another copy of this image", came_first)
