"""What Prometheus scrapes, read from the ledger and the listener at the moment of the scrape. UIDs and counts, never patients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from prioritizer.db import monitoring, worklist
from prioritizer.errors import Transient


class LedgerCollector:
    """Gauges over the open list and the deliveries, and the listener's own counters."""

    def __init__(
        self, engine: sa.Engine, listener_counters: Callable[[], dict[str, object]], ai_on: Callable[[], bool], marks: Callable[[], bool]
    ) -> None:
        self._engine, self._listener_counters, self._ai_on, self._marks = engine, listener_counters, ai_on, marks

    def collect(self) -> Iterator[Metric]:
        """The families of this scrape; without a database only those that need none."""
        yield GaugeMetricFamily("prioritizer_ai_on", "1 when studies are being scored", value=float(self._ai_on()))
        for name, value in self._listener_counters().items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                yield GaugeMetricFamily(f"prioritizer_listener_{name}", f"The listener's {name}", value=float(value))
        try:
            counts = worklist.counts(self._engine)
        except Transient:
            yield GaugeMetricFamily("prioritizer_ledger_up", "1 when the database answers", value=0.0)
            return
        yield GaugeMetricFamily("prioritizer_ledger_up", "1 when the database answers", value=1.0)
        for name in ("open", "overdue", "raised", "waiting", "not_scored", "failed", "expired"):
            if name == "raised" and not self._marks():
                continue  # readers can scrape too, and a list of one study would tell which it is
            family = GaugeMetricFamily(f"prioritizer_studies_{name}", f"Studies on the list: {name.replace('_', ' ')}")
            family.add_metric([], float(getattr(counts, name)))
            yield family
        yield GaugeMetricFamily("prioritizer_deliveries_unsent", "Results waiting for a destination", value=float(counts.unsent))
        yield GaugeMetricFamily("prioritizer_deliveries_rejected", "Results refused for good", value=float(counts.rejected))
        kept = monitoring.kept(self._engine, "latest")
        if kept is not None:
            yield from board_families(kept[1])


def board_families(board: dict[str, Any]) -> Iterator[Metric]:
    """The latest board: the figures of the page, under the same names."""
    waits = GaugeMetricFamily("prioritizer_board_wait_minutes", "Minutes from arrival to read", labels=["group", "figure", "order"])
    for one in board["waits"]:
        for figure in ("median", "p95", "longest"):
            waits.add_metric([one["group"], figure, "as_read"], one[figure])
            waits.add_metric([one["group"], figure, "arrival"], one[f"fifo_{figure}"])
    yield waits
    shares = GaugeMetricFamily("prioritizer_board_share", "Share of the studies of the latest board", labels=["of", "figure"])
    told = {"overdue": board["overdue"], "raised": board["raised"], "not_scored": board["not_scored"], **board["words"]["all"]}
    for name, share in told.items():
        for figure in ("value", "low", "high"):
            if share[figure] is not None:
                shares.add_metric([name, figure], share[figure])
    yield shares
    for name in ("arrived", "read", "scored", "confirmed", "not_confirmed", "missed"):
        yield GaugeMetricFamily(
            f"prioritizer_board_{name}", f"Studies of the latest board: {name.replace('_', ' ')}", value=float(board[name])
        )
    drift = GaugeMetricFamily("prioritizer_board_drift", "Population stability index beyond chance", labels=["of"])
    for one in board["drift"]:
        drift.add_metric([one["of"]], one["beyond_chance"])
    yield drift


def exposition(collector: LedgerCollector) -> bytes:
    """The text format of one scrape."""
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry)
