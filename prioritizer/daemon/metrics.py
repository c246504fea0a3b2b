"""What Prometheus scrapes, read from the ledger and the listener at the moment of the scrape. UIDs and counts, never patients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from prioritizer.clock import utc_now
from prioritizer.daemon.dashboard_period import LATEST
from prioritizer.daemon.listener_process import GAUGES
from prioritizer.db.activity import monitoring, queues
from prioritizer.db.activity.queues import TO_SCORE
from prioritizer.db.worklist import counts as worklist_counts
from prioritizer.db.worklist import rows as worklist_rows
from prioritizer.errors import Transient
from prioritizer.monitoring.dashboard import NAMES
from prioritizer.web.http.backend import SpoolState

TELLING = frozenset({"raised", "not_raised", "confirmed", "not_confirmed", "missed"})
"""Figures that tell what AI thinks. They are scraped without sign-in, and of few studies they would tell of which."""
SILENT_GROUPS = frozenset({"STAT", "all"})
"""Groups of turn-around to which a study does not belong by what AI thinks of it."""
ORDERS = {"as_read": "", "arrival": "fifo_"}
OF_A_SHARE = ("value", "low", "high", "hits", "of")
OF_THOSE_BEYOND = ("raised", "not_raised", "left_unscored")
OF_A_GROUP = ("arrived", "scored", "confirmed", "not_confirmed", "missed")


class LedgerCollector:
    """Gauges over the open list, the queues and the deliveries, the latest board, and the listener's own counters."""

    def __init__(
        self,
        engine: sa.Engine,
        listener_counters: Callable[[], Mapping[str, int]],
        ai_on: Callable[[], bool],
        marks: Callable[[], bool],
        room: Callable[[], SpoolState] | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._engine, self._listener_counters, self._ai_on, self._marks = engine, listener_counters, ai_on, marks
        self._room, self._now = room, now

    def collect(self) -> Iterator[Metric]:
        """The families of this scrape; without a database only those that need none."""
        yield GaugeMetricFamily("prioritizer_ai_on", "1 when studies are being scored", value=float(self._ai_on()))
        for name, value in self._listener_counters().items():
            kind = GaugeMetricFamily if name in GAUGES else CounterMetricFamily
            yield kind(f"prioritizer_listener_{name}", f"The listener's {name.replace('_', ' ')}", value=float(value))
        room = self._room_now()
        if room is not None:
            yield GaugeMetricFamily("prioritizer_spool_free_bytes", "Free bytes of the spool's disk", value=float(room.free_bytes))
        try:
            waiting = queues.queues(self._engine)
            counts, standing = worklist_counts.counts(self._engine), worklist_rows.standing_alarms(self._engine)
            kept = monitoring.kept(self._engine, LATEST)
        except Transient:
            yield GaugeMetricFamily("prioritizer_ledger_up", "1 when the database answers", value=0.0)
            yield self._ages({}, room)
            return
        yield GaugeMetricFamily("prioritizer_ledger_up", "1 when the database answers", value=1.0)
        yield self._ages({"scoring" if name == TO_SCORE else f"to {name}": queue.oldest for name, queue in waiting.items()}, room)
        yield from self._list_families(counts)
        yield _family("alarm", "1 for each alarm that stands", ("name",), ((name, 1) for name, *_ in standing))
        if kept is not None:
            yield from board_families(*kept, marks=self._marks())

    def _room_now(self) -> SpoolState | None:
        """The spool's disk and inbox; None where the disk does not answer, which is an alarm of its own."""
        try:
            return self._room() if self._room is not None else None
        except OSError:
            return None

    def _ages(self, since: Mapping[str, datetime | None], room: SpoolState | None) -> Metric:
        """Seconds that the oldest of each queue has waited; 0 where nothing waits."""
        now, inbox = self._now(), {} if room is None else {"inbox": room.oldest}
        ages = ((name, 0.0 if oldest is None else max((now - oldest).total_seconds(), 0.0)) for name, oldest in {**inbox, **since}.items())
        return _family("queue_oldest_seconds", "Seconds that the oldest of a queue has waited", ("queue",), ages)

    def _list_families(self, counts: worklist_counts.WorklistCounts) -> Iterator[Metric]:
        for name in ("open", "overdue", "raised", "waiting", "not_scored", "failed", "expired"):
            if name == "raised" and not self._marks():
                continue  # readers can scrape too, and a list of one study would tell which it is
            told = f"Studies on the list: {name.replace('_', ' ')}"
            yield _family(f"studies_{name}", told, (), [(getattr(counts, name),)])
        yield GaugeMetricFamily("prioritizer_deliveries_unsent", "Results waiting for a destination", value=float(counts.unsent))
        yield GaugeMetricFamily("prioritizer_deliveries_rejected", "Results refused permanently", value=float(counts.rejected))


Rows = Iterable[tuple[Any, ...]]
"""The values of a family's labels, then the figure; None where there is none."""


def _family(name: str, told: str, labels: tuple[str, ...], rows: Rows) -> Metric:
    found = GaugeMetricFamily(f"prioritizer_{name}", told, labels=labels)
    for *values, figure in rows:
        if figure is not None:
            found.add_metric([str(value) for value in values], float(figure))
    return found


def board_families(computed_at: datetime, board: dict[str, Any], *, marks: bool = True) -> Iterator[Metric]:
    """The figures of the page, under the same names. Without `marks` none that tells what AI thinks: stage shadow."""
    board = board if marks else unmarked(board)
    edges = {edge: datetime.fromisoformat(board[edge]).timestamp() for edge in ("from", "to")} | {"computed": computed_at.timestamp()}
    yield _family("board_timestamp_seconds", "Edges of the latest board, and when it was computed", ("of",), edges.items())
    yield from _wait_families(board)
    yield from _agreement_families(board)
    yield from _group_families(board)
    yield from _beyond_families(board)
    yield from _drift_families(board)
    standing = {one["name"] for one in board["alarms"]}
    yield _family("board_alarm", "1 when the figure left its range", ("name",), ((name, name in standing) for name in NAMES))


def unmarked(board: dict[str, Any]) -> dict[str, Any]:
    """The board without what tells what AI thinks. Its alarms stay: none is set by a few studies."""
    silent = {key: value for key, value in board.items() if key not in TELLING}
    silent |= {key: [one for one in board.get(key, ()) if one["group"] in SILENT_GROUPS] for key in ("waits", "unread")}
    for part in ("groups", "beyond"):
        silent[part] = [{key: value for key, value in one.items() if key not in TELLING} for one in board.get(part, ())]
    silent["passed"] = {"claims": board.get("passed", {}).get("claims")}
    return silent | {"words": {}, "spoken": {}, "label_free": {}}


def _wait_families(board: Mapping[str, Any]) -> Iterator[Metric]:
    waits, unread = board["waits"], list(board.get("unread", ()))
    if "earlier" in board:
        unread.append({"group": "from before", **board["earlier"]})
    figures = [(order, begin, figure) for order, begin in ORDERS.items() for figure in ("median", "p95", "longest")]
    rows: Rows = ((one["group"], figure, order, one[begin + figure]) for one in waits for order, begin, figure in figures)
    yield _family("board_wait_minutes", "Minutes from arrival to read", ("group", "figure", "order"), rows)
    yield _family("board_wait_studies", "Studies that were read", ("group",), ((one["group"], one["n"]) for one in waits))
    rows = ((one["group"], one["longest"]) for one in unread)
    yield _family("board_unread_minutes", "Minutes that the longest waiting of the unread has waited", ("group",), rows)
    yield _family("board_unread_studies", "Studies that nobody has read", ("group",), ((one["group"], one["n"]) for one in unread))
    passed = board.get("passed", {})
    yield _family("board_claims", "Claims in the period of the latest board", (), [(passed.get("claims"),)])
    rows = ((how, mark, count) for how in ("skipped", "passed_by") for mark, count in passed.get(how, {}).items())
    yield _family("board_left_standing", "Studies left standing on the way to those claimed", ("how", "mark"), rows)


def _agreement_families(board: Mapping[str, Any]) -> Iterator[Metric]:
    for name in ("arrived", "read", "scored", "confirmed", "not_confirmed", "missed"):
        yield _family(f"board_{name}", f"Studies of the latest board: {name.replace('_', ' ')}", (), [(board.get(name),)])
    shares = ((name, board[name]) for name in ("overdue", "raised", "not_scored", "unlike") if name in board)
    rows: Rows = ((name, figure, one[figure]) for name, one in shares for figure in OF_A_SHARE)
    yield _family("board_share", "Share of the studies of the latest board", ("of", "figure"), rows)
    said = ((words, of, one) for words, figures in board["words"].items() for of, one in figures.items())
    rows = ((of, words, figure, one[figure]) for words, of, one in said for figure in OF_A_SHARE)
    yield _family("board_agreement", "Raising against what readers found", ("of", "words", "figure"), rows)
    spoken = ((words, band, its) for words, one in board.get("spoken", {}).items() for band, its in one.items())
    rows = ((words, band, of, count) for words, band, its in spoken for of, count in its.items())
    yield _family("board_spoken", "Scored studies by band, and of how many readers spoke", ("words", "mark", "of"), rows)
    yield _family("board_asked", "Studies of which a finding is asked for, and was given", ("of",), board.get("asked", {}).items())
    rows = ((of, board["label_free"].get(of)) for of in ("sensitivity", "specificity", "ppv"))
    yield _family("board_label_free", "The same from the probabilities alone, if they are calibrated here", ("of",), rows)
    between = board["label_free"].get("intervals", {})
    rows = ((of, edge, value) for of, pair in between.items() for edge, value in zip(("low", "high"), pair, strict=True))
    yield _family("board_label_free_interval", "Edges of its 95 % interval", ("of", "edge"), rows)
    yield _family("board_not_scored", "Studies that were not scored", ("reason",), board["reasons"].items())


def _group_families(board: Mapping[str, Any]) -> Iterator[Metric]:
    """By scanner, age and sex; `board.by_group` keeps the number of groups and their names within bounds."""
    groups = board["groups"]
    rows: Rows = ((one["kind"], one["group"], of, one.get(of)) for one in groups for of in OF_A_GROUP)
    yield _family("board_group_studies", "Studies of a group", ("kind", "group", "of"), rows)
    shares = ((one["kind"], one["group"], of, one[of]) for one in groups for of in ("raised", "not_scored", "unlike") if of in one)
    rows = ((kind, group, of, figure, one[figure]) for kind, group, of, one in shares for figure in OF_A_SHARE)
    yield _family("board_group_share", "Share of the studies of a group", ("kind", "group", "of", "figure"), rows)


def _beyond_families(board: Mapping[str, Any]) -> Iterator[Metric]:
    """How many images lie beyond the limit of the training data, and what became of them: in all, by scanner and by week."""
    groups = board.get("beyond", ())
    counts: Rows = ((one["kind"], one["group"], of, one.get(of)) for one in groups for of in ("images", *OF_THOSE_BEYOND))
    yield _family("board_beyond_images", "Images that were looked at, and those beyond the limit", ("kind", "group", "of"), counts)
    shares: Rows = ((one["kind"], one["group"], figure, one["beyond"][figure]) for one in groups for figure in OF_A_SHARE)
    yield _family("board_beyond_share", "Share of the images beyond the limit", ("kind", "group", "figure"), shares)


def _drift_families(board: Mapping[str, Any]) -> Iterator[Metric]:
    names = {
        "drift": ("beyond_chance", "Population stability index beyond chance"),
        "drift_index": ("value", "Population stability index"),
        "drift_by_chance": ("by_chance", "What chance alone gives of the index"),
        "drift_images": ("n", "Images of the period"),
        "drift_reference_images": ("reference", "Images of the reference"),
    }
    for name, (key, told) in names.items():
        yield _family(f"board_{name}", told, ("of",), ((one["of"], one[key]) for one in board["drift"]))


def exposition(collector: LedgerCollector) -> bytes:
    """The text format of one scrape."""
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry)
