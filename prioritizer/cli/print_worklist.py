"""The worklist, one study's history and the operator's status, as table, JSON or CSV."""

from __future__ import annotations

import csv
import json
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from prioritizer.config.policy import policy_of
from prioritizer.config.settings import Settings
from prioritizer.daemon.settings_in_force import in_force_for
from prioritizer.db.activity import daemons, queues, senders
from prioritizer.db.decisions import calibrations
from prioritizer.db.instances import differing_copies
from prioritizer.db.instances.differing_copies import Newer
from prioritizer.db.instances.side_by_side import side_by_side
from prioritizer.db.list_order.order import Order, View, Wanted
from prioritizer.db.schema import connect
from prioritizer.db.worklist import counts as worklist_counts
from prioritizer.db.worklist import rows as worklist_rows
from prioritizer.db.worklist import study
from prioritizer.db.worklist.rows import WorklistRow
from prioritizer.errors import ModelError
from prioritizer.ranking.deadlines import Stage
from prioritizer.web.view import wording

FOOT = (
    "Triage support, never a diagnosis. No mark means order of arrival only. "
    "The last column is the end of the Study UID; claim, read, pin, requeue and --why understand it. "
    "whose? before a name: it must be confirmed whose study it is (`prioritizer identity list`)."
)
UID_END = 10
"""Digits of the Study UID that the table shows; the verbs accept any ending that only one listed study has."""
COLUMNS = ("Due", "Patient", "Study", "From", "Arrived", "AI", "Reader", "UID")
NARROW_COLUMNS = ("Due", "Patient", "AI", "Reader", "UID")
FIXED_WIDTHS = {"Due": 23, "From": 8, "Arrived": 8, "Reader": 6, "UID": 12, "AI": 10}
MAX_TOLD = 20
"""Of each list of the status."""
WIDE = 120
"""Characters from which every column is shown."""
TONES = {"alarm": "bold red", "raised": "bold yellow", "neutral": "", "read": "dim"}
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def plain(value: Any) -> Any:
    """A value for JSON and CSV: moments as ISO 8601 UTC."""
    return value.isoformat() if isinstance(value, datetime) else value


def fetch(engine: sa.Engine, *, fifo: bool, view: str, limit: int) -> list[WorklistRow]:
    """The rows that the verb shows."""
    return worklist_rows.rows(engine, Wanted(order=Order.ARRIVAL if fifo else Order.DEADLINE, view=View(view)), limit=limit)


def show(engine: sa.Engine, settings: Settings, *, fifo: bool, view: str, limit: int, form: str, out: Console) -> None:
    """The list in one form."""
    rows = fetch(engine, fifo=fifo, view=view, limit=limit)
    if form == "json":
        print(json.dumps([{key: plain(value) for key, value in asdict(row).items()} for row in rows], indent=1))
    elif form == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(worklist_rows.FIELDS)
        writer.writerows([_cell(plain(getattr(row, name))) for name in worklist_rows.FIELDS] for row in rows)
    else:
        out.print(as_table(engine, rows, settings, fifo=fifo, width=out.width))


def _cell(value: Any) -> Any:
    """A peer's text that a spreadsheet would run as a formula is made text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def as_table(engine: sa.Engine, rows: list[WorklistRow], settings: Settings, *, fifo: bool, width: int) -> Group:
    """The list for people, with the stage above and the caution below."""
    now = datetime.now(UTC)
    stage = settings.site.stage
    counts = worklist_counts.counts(engine)
    order = "order of arrival (FIFO)" if fifo or stage is not Stage.ACTIVE else "deadline"
    head = Text(f"{settings.site.name} · stage {stage} · by {order} · open {counts.open}, overdue {counts.overdue}", style="bold")
    table = Table(expand=True)
    names = COLUMNS if width >= WIDE else NARROW_COLUMNS
    for name in names:
        # The AI column takes what is left; the others keep their words, long names and descriptions end in an ellipsis.
        table.add_column(
            name,
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if name == "AI" else None,
            min_width=FIXED_WIDTHS.get(name),
            max_width=28 if name in ("Patient", "Study") else None,
        )
    for row in rows:
        line = wording.line(row, now, wording.Manner(marks=stage is not Stage.SHADOW))
        cells = {
            "Due": f"{line.mark} {line.due}".strip(),
            "Patient": f"{'whose? ' if row.identity else ''}{line.patient}  {line.person}",
            "Study": f"{line.study} {line.images}",
            "From": line.sender,
            "Arrived": f"{line.arrived.astimezone():%H:%M:%S}",
            "AI": line.ai,
            "Reader": line.reader,
            "UID": f"..{line.study_uid[-UID_END:]}",
        }
        table.add_row(*(Text(cells[name]) for name in names), style=TONES[line.tone])
    alarms = [Text(f"!! {said}. {mend}.", style="bold red") for _, _, said, mend in worklist_rows.standing_alarms(engine)]
    return Group(head, *alarms, table if rows else Text("No studies here."), Text(FOOT, style="dim"))


def watch(engine: sa.Engine, settings: Settings, *, fifo: bool, view: str, limit: int) -> None:
    """The list, drawn again every two seconds, until Ctrl-C; `settings` as they are configured."""
    with Live(screen=True, auto_refresh=False) as live:
        while True:
            rows = fetch(engine, fifo=fifo, view=view, limit=limit)
            live.update(as_table(engine, rows, in_force_for(engine, settings), fifo=fifo, width=live.console.width), refresh=True)
            time.sleep(2)


def show_why(engine: sa.Engine, study_uid: str, *, as_json: bool, out: Console) -> None:
    """Everything that happened to one study, and where it stands."""
    row = worklist_rows.find(engine, study_uid)
    study_uid = row.study_uid
    events = study.why(engine, study_uid)
    if as_json:
        told = {
            "study": {key: plain(value) for key, value in asdict(row).items()},
            "events": [{key: plain(value) for key, value in asdict(event).items()} for event in events],
            "instances": [{key: plain(value) for key, value in asdict(i).items()} for i in study.study_instances(engine, study_uid)],
            "deliveries": [
                {key: plain(value) for key, value in asdict(d).items()} for d in worklist_rows.unfinished_deliveries(engine, study_uid)
            ],
            "no_result": queues.why_unpublished(engine, study_uid),
        }
        print(json.dumps(told, indent=1))
        return
    out.print(Text(f"due {row.due_at.astimezone():%H:%M}: {row.place_reason}", style="bold"))
    if reason := queues.why_unpublished(engine, study_uid):
        out.print(Text(f"no result: {reason}"), soft_wrap=True)
    for event in events:
        instance = f"  [{event.sop_instance_uid}]" if event.sop_instance_uid else ""
        out.print(Text(f"{event.at.astimezone():%Y-%m-%d %H:%M:%S}  {event.who}: {event.said}{instance}"), soft_wrap=True)


def calibration_now(engine: sa.Engine, settings: Settings) -> dict[str, Any]:
    """The calibration that applies, or why none can be trusted; `status` works without a bundle too."""
    from prioritizer.inference.bundle import open_bundle

    try:
        bundle = open_bundle(settings.model.bundle)
    except ModelError as error:
        return {"id": None, "fault": str(error)}
    applies = calibrations.applying(engine, policy_of(settings, bundle))
    if applies.calibration is None:
        return {"id": None, "fault": applies.fault}
    found = applies.calibration
    return {
        "id": found.id,
        "activation": applies.activation,
        "own": found == bundle.calibration,
        "t_high": found.t_high,
        "t_low": found.t_low,
        **({"adults": {"t_high": found.adults.t_high, "t_low": found.adults.t_low}} if found.adults else {}),
    }


def as_listed(engine: sa.Engine) -> list[dict[str, Any]]:
    """Every row of which it must be confirmed whose it is, with what differs and the copies that wait; holds patient data."""
    with connect.one_look(engine):
        return [_doubt(engine, row) for row in worklist_rows.unconfirmed(engine)]


def _doubt(engine: sa.Engine, row: WorklistRow) -> dict[str, Any]:
    newer = differing_copies.newer_for(engine, row.study_uid)
    return {
        "study_uid": row.study_uid,
        "patient_id": row.patient_id,
        "patient_name": row.patient_name,
        "identity": row.identity.split("\n"),
        "stated": [{key: plain(value) for key, value in asdict(one).items()} for one in side_by_side(engine, row.study_uid)],
        "can_take": newer is not Newer.NOTHING,
        "joins": newer is Newer.FIRST_ROW,
        "shown": differing_copies.mark_of(engine, row.study_uid),
        "images": [one.sop_instance_uid for one in differing_copies.waiting(engine, row.study_uid)],
    }


def daemon_words(engine: sa.Engine) -> str:
    """Why what stands here may be old: the daemon does not run, or was not heard; empty while it is heard."""
    heard = daemons.serving(engine)
    if any(not one.silent for one in heard):
        return ""
    if not heard:
        return "no daemon runs: what stands here is from when it ran last. Start it: `systemctl start prioritizer`"
    last = heard[0].seen_at.astimezone()
    return f"the daemon was not heard since {last:%Y-%m-%d %H:%M:%S}: look at its log, and restart it"


def show_status(engine: sa.Engine, settings: Settings, *, as_json: bool, out: Console) -> None:
    """Alarms, failed images, unsent results, refusals; of a list that is cut, which part it is."""
    failed_images, refusals = queues.failed_instances(engine, MAX_TOLD), senders.newest_notices(engine, MAX_TOLD)
    told: dict[str, Any] = {
        "site": settings.site.name,
        "stage": str(settings.site.stage),
        "calibration": calibration_now(engine, settings),
        "counts": {key: plain(value) for key, value in asdict(worklist_counts.counts(engine)).items()},
        "alarms": [{"name": n, "since": plain(s), "said": t, "mend": m} for n, s, t, m in worklist_rows.standing_alarms(engine)],
        "failed": [{key: plain(value) for key, value in asdict(f).items()} for f in failed_images.rows],
        "deliveries": [{key: plain(value) for key, value in asdict(d).items()} for d in worklist_rows.unfinished_deliveries(engine)],
        "unpublished": [asdict(one) for one in queues.unpublished(engine, datetime.now(UTC), MAX_TOLD)],
        "refusals": [{**{key: plain(v) for key, v in asdict(n).items()}, "toml": n.admitting_toml} for n in refusals.rows],
        "cut": {"failed": failed_images.cut, "refusals": refusals.cut},
        "identity": as_listed(engine),
        "daemon": daemon_words(engine),
    }
    if as_json:
        print(json.dumps(told, indent=1))
        return
    counts = worklist_counts.counts(engine)
    by = told["calibration"]["id"] or f"none ({told['calibration']['fault']})"
    head = f"{settings.site.name} · stage {settings.site.stage} · open {counts.open} · overdue {counts.overdue} · calibration {by}"
    out.print(Text(head, style="bold"), soft_wrap=True)
    for alarm in told["alarms"]:
        out.print(Text(f"!! {alarm['said']} (since {alarm['since'][:16]}). {alarm['mend']}.", style="bold red"), soft_wrap=True)
    if told["daemon"]:
        out.print(Text(f"!! {told['daemon']}", style="bold red"), soft_wrap=True)
    for unsure in told["identity"]:
        for text in unsure["identity"]:
            uids = f"study {unsure['study_uid']}" + "".join(f", image {uid}" for uid in unsure["images"])
            step = "`prioritizer identity keep STUDY` or `identity take STUDY` settles it"
            out.print(Text(f"conflict    {uids}: {text}; {step}"), soft_wrap=True)
    for failed in told["failed"]:
        out.print(Text(f"not scored  {failed['study_uid']}: {failed['reason_text']}"), soft_wrap=True)
    if failed_images.cut:
        out.print(Text(f"{failed_images.cut} images that could not be scored", style="dim"), soft_wrap=True)
    _print_results(told, out)
    _print_refusals(refusals, out)
    if not any(told[key] for key in ("alarms", "failed", "unpublished", "deliveries", "refusals", "identity", "daemon")):
        out.print("Nothing needs you.")


def _print_results(told: dict[str, Any], out: Console) -> None:
    """Results that wait, were refused or could not be built."""
    for delivery in told["deliveries"]:
        said = f"{delivery['state'].lower()}  {delivery['destination']}  study {delivery['study_uid']}, {delivery['attempts']} tries"
        out.print(Text(f"{said}: {delivery['reason_text'] or 'waiting'}"), soft_wrap=True)
    for one in told["unpublished"]:
        again = "; it is tried again" if one["again"] else ""
        out.print(Text(f"no result   {one['study_uid']}: {one['reason_text']}{again}"), soft_wrap=True)


def _print_refusals(refusals: queues.Some[senders.NoticeRow], out: Console) -> None:
    """What the listener refused, with the lines that would admit it."""
    for notice in refusals.rows:
        head = f"{notice.at.astimezone():%Y-%m-%d %H:%M:%S} {notice.kind} {notice.address} {notice.calling_ae} -> {notice.called_ae}"
        out.print(Text(f"{head}: {notice.reason}"), soft_wrap=True)
        if notice.admitting_toml:
            out.print(Text("  to admit it, add to the configuration and reload:\n" + notice.admitting_toml, style="dim"), soft_wrap=True)
    if refusals.cut:
        out.print(Text(f"{refusals.cut} refusals", style="dim"), soft_wrap=True)
