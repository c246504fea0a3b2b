"""The reading room's list at size: milliseconds at the server with a million studies beside ten thousand, on SQLite and Postgres.

Then what fifty open browsers cost: films ranked a second with and without them, in one run, interleaved.
"""

from __future__ import annotations

import argparse
import http.client
import os
import re
import statistics
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from benchmarks.line import Daemon, Modality, film_of_10_mb, running
from prioritizer.access import RIGHTS, May, Role
from prioritizer.config.policy import SitePolicy
from prioritizer.config.sections import Site
from prioritizer.config.settings import Settings
from prioritizer.db.accounts import people, sessions
from prioritizer.db.list_order.cursor import place_of
from prioritizer.db.list_order.order import WORKLIST
from prioritizer.db.list_order.search_terms import terms_of
from prioritizer.db.schema import connect, migrations
from prioritizer.db.schema.tables import events, studies, terms
from prioritizer.ranking.deadlines import Stage
from prioritizer.web.app import page_app
from prioritizer.web.server import WebServer
from tests.support.page_client import backend_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FEW, MANY, OPEN = 10_000, 1_000_000, 10_000
LIMIT_MS, FLAT, COST, LARGEST = 20.0, 1.2, 1.05, 150_000
ROUNDS, PASSES, BATCH, FEW_TIMES = 80, 8, 20_000, 3
BROWSERS, FILMS, TURNS = 50, 30, 10
DAY = 60_000
"""Events of a busy day."""
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
FAMILIES = ("TAN", "LIND", "ROSSI", "OKAFOR", "BERG", "ITO", "SILVA", "NOWAK", "HADDAD", "MEYER")
PATHS = {
    "first page": "/",
    "first page, by arrival": "/?order=arrival",
    "a page in the middle": "/?after={place}",
    "by patient": "/?order=patient",
    "raised only": "/?raised=1",
    "search": "/?q=acc{number}",
    "search by what begins everything": "/?q=1.2",
    "read": "/?view=read",
    "a study": "/study/{middle}",
    "what changed in a day": "/changes?since={day}",
    "what changed ever": "/changes?since=0",
}
SIZED = (
    *("/system", "/board", "/calibrations", "/rules", "/people", "/account", "/try", "/study/{middle}/why"),
    *("/audit", "/audit?actor=berg", "/audit?actor=nobody", "/audit?kind=read", "/audit?kind=arrived"),
)
"""Pages that are asked for a few times: their bytes, and that none reads the whole ledger."""
CHOSEN = Settings(site=Site(name="bench", stage=Stage.ACTIVE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How many studies the two ledgers hold, and how often each page is asked for."""

    few: int = FEW
    many: int = MANY
    rounds: int = ROUNDS

    def filled(self, path: str, count: int) -> str:
        """A path in a ledger of so many studies."""
        number = f"{count - min(OPEN, count) // 2:09d}"
        place = place_of(WORKLIST, SimpleNamespace(**study(int(number), count))).text()
        return path.format(middle=f"1.2.9.{number}", number=number, place=place, day=max(2 * count - DAY, 0))


def furnish(engine: sa.Engine, count: int) -> None:
    """`count` studies of which the last `OPEN` are open; names, terms and two events each, a third where one was read."""
    migrations.upgrade(engine)
    for start in range(0, count, BATCH):
        numbers = range(start, min(start + BATCH, count))
        rows = [study(number, count) for number in numbers]
        found = [
            {"term": term, "study_uid": row["study_uid"]}
            for row in rows
            for term in terms_of(**{key: row[key] for key in ("study_uid", "patient_id", "patient_name", "accession_number")})
        ]
        told = [
            {
                "at": at,
                "kind": kind,
                "study_uid": row["study_uid"],
                "actor": actor,
                "said": kind,
                "detail": {},
            }
            for row in rows
            for kind, actor, at in (
                ("arrived", "prioritizer", row["first_received_at"]),
                ("scored", "prioritizer", row["first_received_at"]),
                ("read", row["reader"], row["read_at"]),
            )
            if at is not None
        ]
        with connect.writing(engine) as tx:
            tx.execute(studies.insert(), rows)
            tx.execute(terms.insert(), found)
            tx.execute(events.insert(), told)
    with engine.connect() as tx:
        tx.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("ANALYZE")


def study(number: int, count: int) -> dict[str, Any]:
    """One study: raised every seventh, not scored every twentieth."""
    at = NOW - timedelta(minutes=(count - number) * 0.05)
    unread = number >= count - OPEN
    scored = number % 20 != 0
    return {
        "study_uid": f"1.2.9.{number:09d}", "patient_id": f"P{number // 3:08d}", "patient_name": f"{FAMILIES[number % 10]}^{number}",
        "patient_sex": "FM"[number % 2], "age_years": float(number % 6), "accession_number": f"ACC{number:09d}",
        "study_description": "Thorax", "modality": "DX", "calling_ae": f"DX{number % 12}", "first_received_at": at,
        "last_received_at": at, "instances": 1,
        "stat": unread and number % 997 == 0, "ai_state": "SCORED" if scored else "NOT_SCORED", "risk": (number % 100) / 100,
        "ai_reason": "" if scored else "lateral view", "band": "HIGH" if number % 7 == 0 and scored else "NEUTRAL",
        "due_at": at + timedelta(minutes=30 if number % 7 == 0 else 120), "reading_state": "OPEN" if unread else "READ",
        "reader": None if unread else "berg", "read_at": None if unread else at + timedelta(minutes=40),
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asking:
    """A reader's program at a server."""

    connection: http.client.HTTPConnection
    headers: dict[str, str]

    def ms(self, path: str, method: str = "GET") -> tuple[float, int]:
        """Milliseconds to the whole answer, and its bytes."""
        begin = time.perf_counter()
        body = {"body": "", "headers": self.headers | {"Content-Type": "application/x-www-form-urlencoded"}} if method == "POST" else {}
        self.connection.request(method, path, **{"headers": self.headers} | body)
        answer = self.connection.getresponse()
        size = len(answer.read())
        if answer.status not in (200, 303):
            raise RuntimeError(f"{path} answered {answer.status}")
        return (time.perf_counter() - begin) * 1000, size

    def after_a_step_ms(self, study: str) -> float:
        """Milliseconds of the first page right after a claim, whose figures are counted again, and after the release."""
        found = []
        for step in ("claim", "release"):
            self.ms(f"/study/{study}/{step}", "POST")
            found.append(self.ms("/")[0])
        return statistics.mean(found)


def token(engine: sa.Engine, now: datetime, name: str = "bench") -> dict[str, str]:
    """The header of a program that may do whatever an administrator may."""
    people.add(engine, name, Role.ADMIN, "bench", now)
    rights = [right for right in May if right in RIGHTS[Role.ADMIN]]
    secret, _ = sessions.make_token(engine, name, "bench", rights, "bench", now, timedelta(days=1))
    return {"Authorization": f"Bearer {secret}"}


@contextmanager
def served(engine: sa.Engine) -> Iterator[Asking]:
    """The application on loopback, and how a reader asks it."""
    headers = token(engine, NOW)
    app = page_app(backend_of(engine, now=lambda: NOW, settings=lambda: CHOSEN, policy=SitePolicy))
    server = WebServer(app, "127.0.0.1", 0)
    server.start()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
    try:
        yield Asking(connection, headers)
    finally:
        connection.close()
        server.stop()


@dataclass(frozen=True, slots=True)
class Found:
    """What one page took: medians in milliseconds with few and with many studies, the bytes of its largest answer, and the quartiles of
    the ratio of the two within each turn, where they were asked in turns."""

    few: float
    many: float
    size: int
    ratios: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @classmethod
    def of(cls, few: Sequence[float], many: Sequence[float], size: int) -> Found:
        """Of two that were asked in turns."""
        low, middle, high = statistics.quantiles([large / small for small, large in zip(few, many, strict=True)], n=4)
        return cls(statistics.median(few), statistics.median(many), size, (low, middle, high))


def beside(few: sa.Engine, many: sa.Engine, sizes: Sizes) -> dict[str, Found]:
    """Every path asked of both.

    The two are asked in turns, and every path in several passes: a busy second of the machine falls on none alone.
    """
    found = {}
    with served(few) as one, served(many) as other:
        both = ((one, sizes.few), (other, sizes.many))
        times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in PATHS}
        largest = dict.fromkeys(PATHS, 0)
        for _ in range(PASSES):
            for name, path in PATHS.items():
                for _ in range(max(sizes.rounds // PASSES, 1)):
                    for place, (asking, count) in enumerate(both):
                        took, size = asking.ms(sizes.filled(path, count))
                        times[name][place].append(took)
                        largest[name] = max(largest[name], size)
        for name, (small, large) in times.items():
            found[name] = Found.of(small, large, largest[name])
            _tell(name, found[name], sizes)
        steps = [[asking.after_a_step_ms(sizes.filled("{middle}", count)) for asking, count in both] for _ in range(sizes.rounds // 2)]
        name = "first page after a step"
        found[name] = Found.of([step[0] for step in steps], [step[1] for step in steps], 0)
        _tell(name, found[name], sizes)
        for path in SIZED:
            for asking, _ in both:
                asking.connection.close()  # it is opened again: the server ends one that says nothing while the other is asked
            small, large = ([asking.ms(sizes.filled(path, count)) for _ in range(FEW_TIMES)] for asking, count in both)
            took = [statistics.median(one[0] for one in asked) for asked in (small, large)]
            found[path] = Found(took[0], took[1], max(size for _, size in (*small, *large)))
            _tell(path, found[path], sizes)
    return found


def _tell(name: str, found: Found, sizes: Sizes) -> None:
    took = f"{found.few:.1f} ms with {sizes.few}, {found.many:.1f} ms with {sizes.many}, {found.size} bytes"
    print(f"  {name}: {took}", file=sys.stderr, flush=True)


def at_size(kind: str, url_of: Any, sizes: Sizes) -> list[dict[str, Any]]:
    """The lines of one database."""
    engines = []
    for count in (sizes.few, sizes.many):
        begin = time.perf_counter()
        engines.append(connect.open_ledger(url_of(count)))
        furnish(engines[-1], count)
        print(f"  {kind}: {count} studies in {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
    found = beside(engines[0], engines[1], sizes)
    for engine in engines:
        engine.dispose()
    first = found["first page"]
    low, ratio, high = first.ratios
    largest, whose = max((value.size, name) for name, value in found.items())
    spread = ", ".join(f"{name} {value.many:.1f}" for name, value in found.items() if name != "first page")
    return [
        {
            "what": f"first page with {sizes.many:,} studies, {min(OPEN, sizes.many):,} open, {kind}", "required": f"under {LIMIT_MS:g} ms",
            "ratio": None, "median": f"{first.many:.1f} ms", "spread": f"others: {spread} ms", "met": first.many < LIMIT_MS,
        },
        {
            "what": f"the same over {sizes.few:,} studies, {kind}", "required": f"at most {FLAT:g}", "ratio": ratio,
            "median": f"{first.few:.1f} ms", "spread": f"half of the turns {low:.2f} to {high:.2f}", "met": ratio <= FLAT,
        },
        {
            "what": f"largest page, {kind}", "required": f"at most {LARGEST // 1000} kB", "ratio": None,
            "median": f"{largest / 1000:.0f} kB", "spread": whose, "met": largest <= LARGEST,
        },
    ]  # fmt: skip


# --- fifty browsers ----------------------------------------------------------------------------------------------------


class Browser(threading.Thread):
    """Draws the list, holds the stream open and asks what changed whenever it is told, as the page does."""

    def __init__(self, port: int, headers: dict[str, str], over: threading.Event) -> None:
        super().__init__(daemon=True)
        self._port, self._headers, self._over = port, headers, over
        self.asked = 0

    def run(self) -> None:
        stream = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        other = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        with suppress(OSError, http.client.HTTPException):
            other.request("GET", "/", headers=self._headers)
            drawn = re.search(r'data-since="([^"]+)"', other.getresponse().read().decode())
            since = drawn.group(1) if drawn else "0"
            stream.request("GET", "/live", headers=self._headers)
            answer = stream.getresponse()
            while not self._over.is_set():
                if answer.readline().startswith(b"event: changed"):
                    Asking(other, self._headers).ms(f"/changes?since={since}")
                    self.asked += 1
        stream.close()
        other.close()


def processor_s(pid: int) -> float:
    """Processor seconds that a process and its children have used: a busy machine stretches them less than the clock's."""
    parents, used = {}, {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            said = file.read_text().rpartition(")")[2].split()
            parents[int(file.parent.name)], used[int(file.parent.name)] = int(said[1]), sum(int(ticks) for ticks in said[11:15])
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(used.get(one, 0) for one in family) / os.sysconf("SC_CLK_TCK")


def ranked_s(daemon: Daemon, modality: Modality, films: int) -> tuple[float, float, float]:
    """Seconds until so many films, sent as fast as they are taken, are all acknowledged, until they are all ranked; the processor's."""
    begin, used = time.perf_counter(), processor_s(daemon.process.pid)
    for _ in range(films):
        modality.send()
    taken = time.perf_counter() - begin
    daemon.await_idle()
    return taken, time.perf_counter() - begin, processor_s(daemon.process.pid) - used


def watched(films: int = FILMS, turns: int = TURNS, browsers: int = BROWSERS) -> list[dict[str, Any]]:
    """What open browsers cost intake and scoring, in turns with none."""
    with running() as daemon, tempfile.TemporaryDirectory() as folder:
        engine = connect.open_ledger(f"sqlite:///{daemon.folder}/var/ledger.sqlite3")
        # Each of a person of their own: nobody holds more than a few streams.
        headers = [token(engine, datetime.now(UTC), f"bench-{number}") for number in range(browsers)]
        modality = Modality(daemon.port, film_of_10_mb(Path(folder) / "film.dcm"))
        ranked_s(daemon, modality, films)
        without, beside_them, asked = [], [], 0
        for turn in range(turns):
            without.append(ranked_s(daemon, modality, films))
            over = threading.Event()
            pages = [Browser(daemon.web, header, over) for header in headers]
            for page in pages:
                page.start()
            time.sleep(5)
            before = sum(page.asked for page in pages)
            beside_them.append(ranked_s(daemon, modality, films))
            asked += sum(page.asked for page in pages) - before
            over.set()
            for page in pages:
                page.join(timeout=30)
            texts = [" / ".join(f"{value:.1f}" for value in one[-1]) for one in (without, beside_them)]
            print(f"  turn {turn}: {texts[0]} s without, {texts[1]} s beside {browsers} browsers", file=sys.stderr, flush=True)
        modality.close()
        engine.dispose()
    lines = []
    work = [statistics.median(one[2] for one in turns_of) for turns_of in (beside_them, without)]
    spread = f"{asked} questions; processor seconds of the daemon {work[0]:.1f} over {work[1]:.1f}, ratio {work[0] / work[1]:.2f}"
    for what, place in (("acknowledged", 0), ("ranked", 1)):
        none, open_ = statistics.median(one[place] for one in without), statistics.median(one[place] for one in beside_them)
        lines.append({
            "what": f"{films} films of 10 MB {what} with {browsers} browsers open, over none", "required": f"at most {COST:g}",
            "ratio": open_ / none, "median": f"{open_:.1f} s over {none:.1f} s", "spread": spread,
            "met": open_ / none <= COST,
        })  # fmt: skip
    return lines


def of_sqlite(sizes: Sizes) -> list[dict[str, Any]]:
    """The list on SQLite, on the disk of the checkout."""
    with tempfile.TemporaryDirectory(dir=Path(__file__).resolve().parents[1]) as folder:
        return at_size("SQLite", lambda count: f"sqlite:///{folder}/{count}.sqlite3", sizes)


def of_postgres(sizes: Sizes) -> list[dict[str, Any]]:
    """The list on Postgres."""
    from tests.support.daemons import running_postgres

    with running_postgres() as server:
        return at_size("Postgres", lambda count: server.database(f"n{count}"), sizes)


PARTS = ("sqlite", "postgres", "browsers")


def run(parts: Sequence[str] = PARTS, sizes: Sizes | None = None, films: int = FILMS, turns: int = TURNS) -> list[dict[str, Any]]:
    """Every line of the reading room, or of some parts of it."""
    sizes = sizes or Sizes()
    rows = of_sqlite(sizes) if "sqlite" in parts else []
    rows += of_postgres(sizes) if "postgres" in parts else []
    return rows + (watched(films, turns) if "browsers" in parts else [])


def main() -> None:
    """`python -m benchmarks.worklist_pages [--only sqlite] [--studies 20000]`: one line for every target, with its ratio."""
    asked = argparse.ArgumentParser(description=main.__doc__)
    asked.add_argument("--only", choices=PARTS, action="append", help="one part; may be given several times")
    asked.add_argument("--studies", type=int, default=MANY, help="in the larger ledger")
    asked.add_argument("--few", type=int, default=FEW, help="in the smaller one")
    asked.add_argument("--rounds", type=int, default=ROUNDS, help="how often each page is asked for")
    asked.add_argument("--films", type=int, default=FILMS, help="ranked in each turn beside browsers")
    asked.add_argument("--turns", type=int, default=TURNS)
    told = asked.parse_args()
    sizes = Sizes(few=told.few, many=told.studies, rounds=told.rounds)
    for row in run(told.only or PARTS, sizes, told.films, told.turns):
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
        print(f"{'met   ' if row['met'] else 'MISSED'} {row['what']}: {row['median']}, ratio {ratio} ({row['required']}; {row['spread']})")


if __name__ == "__main__":
    main()
