"""The reading room's list at size: milliseconds at the server with a million studies beside ten thousand, on SQLite and Postgres.

Then what fifty open browsers cost: films ranked a second with and without them, in one run, interleaved.
"""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from benchmarks.line import Daemon, Modality, film_of_10_mb, running
from prioritizer.access import May, Role
from prioritizer.config import Settings
from prioritizer.db import connect, migrations, people, signing_in
from prioritizer.db.tables import events, studies, terms
from prioritizer.ranking import Policy
from prioritizer.search import terms_of
from prioritizer.web.app import page_app
from prioritizer.web.server import WebServer
from tests.edges.rooms import page_of

if TYPE_CHECKING:
    from collections.abc import Iterator

FEW, MANY, OPEN = 10_000, 1_000_000, 10_000
LIMIT_MS, FLAT, COST, LARGEST = 20.0, 1.2, 1.05, 150_000
ROUNDS, BATCH = 40, 20_000
BROWSERS, FILMS = 50, 30
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
FAMILIES = ("TAN", "LIND", "ROSSI", "OKAFOR", "BERG", "ITO", "SILVA", "NOWAK", "HADDAD", "MEYER")
PATHS = {
    "first page": "/",
    "first page, by arrival": "/?order=arrival",
    "a page in the middle": "/?after=1.2.9.{middle}",
    "by patient": "/?order=patient",
    "raised only": "/?raised=1",
    "search": "/?q=acc00{middle}",
    "read": "/?view=read",
    "what changed": "/changes?since=0",
}


def furnish(engine: sa.Engine, count: int) -> None:
    """`count` studies of which the last `OPEN` are open; names, terms and two events each."""
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
                "at": row["first_received_at"],
                "kind": kind,
                "study_uid": row["study_uid"],
                "actor": "prioritizer",
                "said": kind,
                "detail": {},
            }
            for row in rows
            for kind in ("arrived", "scored")
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


@contextmanager
def served(engine: sa.Engine) -> Iterator[tuple[http.client.HTTPConnection, dict[str, str]]]:
    """The application on loopback, and how a reader asks it."""
    people.add(engine, "bench", Role.READER, "bench", NOW)
    secret, _ = signing_in.make_token(engine, "bench", "bench", [May.SEE], "bench", NOW, timedelta(days=1))
    server = WebServer(page_app(page_of(engine, now=lambda: NOW, settings=Settings, policy=Policy)), "127.0.0.1", 0)
    server.start()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    try:
        yield connection, {"Authorization": f"Bearer {secret}"}
    finally:
        connection.close()
        server.stop()


def asked_ms(connection: http.client.HTTPConnection, path: str, headers: dict[str, str]) -> tuple[float, int]:
    """Milliseconds to the whole answer, and its bytes."""
    begin = time.perf_counter()
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    size = len(answer.read())
    if answer.status != 200:
        raise RuntimeError(f"{path} answered {answer.status}")
    return (time.perf_counter() - begin) * 1000, size


def beside(few: sa.Engine, many: sa.Engine) -> dict[str, tuple[float, float, int]]:
    """Median milliseconds with few and with many studies, and the largest answer, of every path; asked in turns."""
    found = {}
    with served(few) as one, served(many) as other:
        for name, path in PATHS.items():
            times: tuple[list[float], list[float]] = ([], [])
            largest = 0
            for _ in range(ROUNDS):
                for place, ((connection, headers), count) in enumerate(((one, FEW), (other, MANY))):
                    took, size = asked_ms(connection, path.format(middle=count - OPEN // 2), headers)
                    times[place].append(took)
                    largest = max(largest, size)
            found[name] = (statistics.median(times[0]), statistics.median(times[1]), largest)
            print(f"  {name}: {found[name][0]:.1f} ms with {FEW}, {found[name][1]:.1f} ms with {MANY}, {largest} bytes", file=sys.stderr)
    return found


def at_size(kind: str, url_of: Any) -> list[dict[str, Any]]:
    """The lines of one database."""
    engines = []
    for count in (FEW, MANY):
        begin = time.perf_counter()
        engines.append(connect.open_ledger(url_of(count)))
        furnish(engines[-1], count)
        print(f"  {kind}: {count} studies in {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    found = beside(engines[0], engines[1])
    for engine in engines:
        engine.dispose()
    few, many, _ = found["first page"]
    largest = max(size for _, _, size in found.values())
    spread = ", ".join(f"{name} {value[1]:.1f}" for name, value in found.items())
    return [
        {
            "what": f"first page with {MANY:,} studies, {OPEN:,} open, {kind}", "required": f"under {LIMIT_MS:g} ms", "ratio": None,
            "median": f"{many:.1f} ms", "spread": f"others: {spread} ms", "met": many < LIMIT_MS,
        },
        {
            "what": f"the same over {FEW:,} studies, {kind}", "required": f"at most {FLAT:g}", "ratio": many / few,
            "median": f"{few:.1f} ms", "spread": "-", "met": many / few <= FLAT,
        },
        {
            "what": f"largest page, {kind}", "required": f"at most {LARGEST // 1000} kB", "ratio": None,
            "median": f"{largest / 1000:.0f} kB", "spread": "-", "met": largest <= LARGEST,
        },
    ]  # fmt: skip


# --- fifty browsers ----------------------------------------------------------------------------------------------------


class Browser(threading.Thread):
    """Holds the stream open and asks what changed whenever it is told, as the page does."""

    def __init__(self, port: int, headers: dict[str, str], over: threading.Event) -> None:
        super().__init__(daemon=True)
        self._port, self._headers, self._over = port, headers, over
        self.asked = 0

    def run(self) -> None:
        stream = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        other = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        with suppress(OSError, http.client.HTTPException):
            stream.request("GET", "/live", headers=self._headers)
            answer = stream.getresponse()
            while not self._over.is_set():
                line = answer.readline()
                if line.startswith(b"event: changed"):
                    asked_ms(other, "/changes?since=0", self._headers)
                    self.asked += 1
        stream.close()
        other.close()


def ranked_s(daemon: Daemon, modality: Modality) -> float:
    """Seconds until so many films, sent as fast as they are taken, are all ranked."""
    begin = time.perf_counter()
    for _ in range(FILMS):
        modality.send()
    daemon.await_idle()
    return time.perf_counter() - begin


def watched() -> dict[str, Any]:
    """What open browsers cost."""
    with running() as daemon, tempfile.TemporaryDirectory() as folder:
        engine = connect.open_ledger(f"sqlite:///{daemon.folder}/var/ledger.sqlite3")
        now = datetime.now(UTC)
        people.add(engine, "bench", Role.READER, "bench", now)
        secret, _ = signing_in.make_token(engine, "bench", "bench", [May.SEE], "bench", now, timedelta(days=1))
        modality = Modality(daemon.port, film_of_10_mb(Path(folder) / "film.dcm"))
        ranked_s(daemon, modality)
        without, beside_them, asked = [], [], 0
        for _ in range(4):
            without.append(ranked_s(daemon, modality))
            over = threading.Event()
            browsers = [Browser(daemon.web, {"Authorization": f"Bearer {secret}"}, over) for _ in range(BROWSERS)]
            for browser in browsers:
                browser.start()
            time.sleep(2)
            beside_them.append(ranked_s(daemon, modality))
            over.set()
            asked += sum(browser.asked for browser in browsers)
            for browser in browsers:
                browser.join(timeout=30)
        modality.close()
        engine.dispose()
    ratio = statistics.median(beside_them) / statistics.median(without)
    return {
        "what": f"{FILMS} films of 10 MB ranked with {BROWSERS} browsers open, over none", "required": f"at most {COST:g}", "ratio": ratio,
        "median": f"{statistics.median(beside_them):.1f} s over {statistics.median(without):.1f} s",
        "spread": f"{asked} questions", "met": ratio <= COST,
    }  # fmt: skip


def run() -> list[dict[str, Any]]:
    """Every line of the reading room."""
    from tests.system.daemons import running_postgres

    rows = []
    with tempfile.TemporaryDirectory(dir=Path(__file__).resolve().parents[1]) as folder:
        rows += at_size("SQLite", lambda count: f"sqlite:///{folder}/{count}.sqlite3")
    with running_postgres() as server:
        rows += at_size("Postgres", lambda count: server.database(f"n{count}"))
    return [*rows, watched()]


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
