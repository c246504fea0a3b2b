"""The step that settles whose study it is: by the verb `identity` and on the study page, over the same spool and ledger."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from prioritizer.clock import utc_now
from prioritizer.config.policy import SitePolicy
from prioritizer.daemon import confirmed_copies
from prioritizer.daemon.receive import read_any
from prioritizer.db.instances import differing_copies as kept_copies
from prioritizer.db.instances import joining
from prioritizer.db.instances.differing_copies import Newer
from prioritizer.db.worklist import rows
from prioritizer.dicom.spool.spool import Spool


def settle(engine: sa.Engine, spool: Spool, study_uid: str, *, take: bool, who: str, policy: SitePolicy, shown: str = "") -> str:
    """Keep what a row shows, or take what came since: the copies that wait, or the row that is the same patient's. What was done, in words.

    `shown`: the mark (`copies.mark_of`) of what the person was shown; where something else came since, nothing is done. Raises NotAllowed
    then, and where nothing waits to be confirmed; NotFound.
    """
    rows.study(engine, study_uid)
    if take and kept_copies.newer_for(engine, study_uid) is Newer.FIRST_ROW:
        first = joining.join(engine, study_uid, who, policy, utc_now(), shown)
        row = rows.study(engine, first)
        return f"the two rows are one study now, {first}, shown as {row.patient_name or 'no name'} ({row.patient_id or 'no Patient ID'})"
    taken = confirmed_copies.confirm(engine, spool, read_any, study_uid, take=take, who=who, policy=policy, shown=shown)
    if taken:
        return f"{taken} image{'s' if taken > 1 else ''} and the particulars of the row were replaced by what came since"
    return "what the row shows was kept"


Settle = Callable[[str, bool, str, str], str]
"""What a page is given: study, whether the newer is taken, who, and the mark of what was shown."""
