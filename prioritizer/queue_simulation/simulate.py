"""Studies through a reading room under one way of ordering the list.

Places and keys are `prioritizer.ranking.deadlines`'s own: what is simulated is what runs. Nobody is interrupted: a free reader takes the
head of the list and finishes it.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from prioritizer.queue_simulation.scenario import Float64, Studies
from prioritizer.ranking import deadlines
from prioritizer.ranking.deadlines import Band, RankingPolicy, Stage, Standing
from prioritizer.study import AIState

START = datetime(2000, 1, 1, tzinfo=UTC)
"""Midnight of the first simulated day; only differences matter."""
MINUTE = timedelta(minutes=1)
NEVER = timedelta(days=365_000)
"""A window that no simulation outlives."""
Key = tuple[bool, datetime, datetime, str]
Moments = deque[tuple[int, float]]
"""(study, minute) in the order in which they come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedRun:
    """What became of each study, every array (N,), in order of arrival."""

    begun: Float64
    finished: Float64
    turn: NDArray[np.int64]
    """The place in the order in which studies were taken, from 0."""
    due: Float64
    """The deadline in force when it was taken, in minutes."""
    raised: NDArray[np.bool_]
    """It stood before its place by arrival when it was taken, by its risk."""
    suspended: NDArray[np.bool_]
    """Its risk would have raised it, but too many had been raised before it."""


def in_order_of_arrival(policy: RankingPolicy) -> RankingPolicy:
    """The same site in shadow: STAT, then arrival."""
    return replace(policy, stage=Stage.SHADOW)


def strictly_by_ai(policy: RankingPolicy) -> RankingPolicy:
    """Flagged studies before all others, whatever waits: deadlines whose neutral window never ends. Nothing suspends it."""
    return replace(policy, high=timedelta(0), neutral=NEVER, low=NEVER, demote_low=False, stage=Stage.ACTIVE, max_high_share=1.0)


def with_windows(policy: RankingPolicy, high: float, neutral: float) -> RankingPolicy:
    """The same rules with other windows, in minutes; the low window stays as far behind the neutral one."""
    behind = max(policy.low - policy.neutral, timedelta(0))
    later = timedelta(minutes=neutral)
    return replace(policy, high=timedelta(minutes=high), neutral=later, low=later + behind, stage=Stage.ACTIVE)


class _Worklist:
    """The open list as a heap of ranking's sort keys. A study that is placed again leaves a stale entry, dropped when it comes up."""

    def __init__(self, studies: Studies, policy: RankingPolicy) -> None:
        moments = [START + MINUTE * minutes for minutes in studies.arrived.tolist()]
        waiting = [
            Standing(study_uid=f"{number:09d}", first_received_at=moment, stat=stat)
            for number, (moment, stat) in enumerate(zip(moments, studies.stat.tolist(), strict=True))
        ]
        self.standings = waiting
        self.risks = studies.risk.tolist()
        self.policy = policy
        self.heap: list[tuple[Key, int]] = []
        self.keys: dict[int, Key] = {}
        """The present key of each study that waits."""
        self.due = np.zeros(len(studies))
        self.raised = np.zeros(len(studies), dtype=np.bool_)
        self.suspended = np.zeros(len(studies), dtype=np.bool_)
        # The ledger looks at the last N scored studies by arrival; every study is scored equally fast here, so the order is the same.
        self.recent: deque[Band] = deque(maxlen=policy.last_n)

    def arrive(self, number: int) -> None:
        """A study comes onto the list, not scored yet."""
        self._put(number, suspended=False)

    def score(self, number: int) -> None:
        """A study gets its risk; if it waits still, it is placed again."""
        standing = replace(self.standings[number], ai_state=AIState.SCORED, risk=self.risks[number])
        self.standings[number] = standing
        band = deadlines.band_of(standing, self.policy)
        self.recent.append(Band.NEUTRAL)  # as the ledger does: a study is counted with the band it had before this score
        suspended = band is Band.HIGH and deadlines.high_is_suspended(self.recent, self.policy)
        self.recent[-1] = band
        self.suspended[number] = suspended and not standing.stat and self.policy.stage is Stage.ACTIVE
        if number in self.keys:
            self._put(number, suspended=suspended)

    def _put(self, number: int, *, suspended: bool) -> None:
        standing = self.standings[number]
        place = deadlines.place(standing, self.policy, high_suspended=suspended)
        key = deadlines.sort_key(standing, place.due_at)
        if self.keys.get(number) == key:
            return
        self.keys[number] = key
        heapq.heappush(self.heap, (key, number))
        self.due[number] = (place.due_at - START) / MINUTE
        early = place.due_at < standing.first_received_at + self.policy.neutral
        self.raised[number] = early and not standing.stat

    def take(self) -> int | None:
        """The head of the list, off it; None when nobody waits."""
        while self.heap:
            key, number = heapq.heappop(self.heap)
            if self.keys.get(number) == key:
                del self.keys[number]
                return number
        return None


def simulate(studies: Studies, readers: tuple[int, ...], policy: RankingPolicy) -> SimulatedRun:
    """Every study read once. `readers` at work: one number, or 24 by hour from midnight, not all of them 0."""
    worklist = _Worklist(studies, policy)
    begun, turn = np.zeros(len(studies)), np.zeros(len(studies), dtype=np.int64)
    reading = studies.reading.tolist()
    arrivals = deque(enumerate(studies.arrived.tolist()))
    scored = np.flatnonzero(~np.isnan(studies.scored_at))
    scores = deque((int(i), float(studies.scored_at[i])) for i in scored[np.argsort(studies.scored_at[scored], kind="stable")])
    busy: list[float] = []
    taken, now = 0, 0.0
    while taken < len(studies):
        now = _next_moment(now, arrivals, scores, busy, shifts=len(readers) > 1 and bool(worklist.keys))
        while arrivals and arrivals[0][1] <= now:
            worklist.arrive(arrivals.popleft()[0])
        while scores and scores[0][1] <= now:
            worklist.score(scores.popleft()[0])
        while busy and busy[0] <= now:
            heapq.heappop(busy)
        while len(busy) < readers_at(readers, now) and (number := worklist.take()) is not None:
            begun[number], turn[number] = now, taken
            heapq.heappush(busy, now + reading[number])
            taken += 1
    finished = begun + studies.reading
    return SimulatedRun(begun=begun, finished=finished, turn=turn, due=worklist.due, raised=worklist.raised, suspended=worklist.suspended)


def readers_at(readers: tuple[int, ...], minute: float) -> int:
    """How many readers are at work."""
    return readers[0] if len(readers) == 1 else readers[int(minute // 60) % len(readers)]


def _next_moment(now: float, arrivals: Moments, scores: Moments, busy: list[float], *, shifts: bool) -> float:
    """The next moment at which anything can change; with shifts and a list that waits, the next full hour is one."""
    found = [queue[0][1] for queue in (arrivals, scores) if queue]
    found += busy[:1]
    if shifts:
        found.append(60 * (math.floor(now / 60) + 1))
    return min(found)


def overtaken_by(studies: Studies, run: SimulatedRun) -> Float64:
    """For each study that is not STAT, the most minutes by which a later arrival that is not STAT was taken before it; else 0."""
    order = np.argsort(run.turn)
    order = order[~studies.stat[order]]
    arrived = studies.arrived[order]
    found = np.zeros(len(studies))
    found[order] = np.maximum(np.maximum.accumulate(arrived) - arrived, 0.0) if len(order) else 0.0
    return found
