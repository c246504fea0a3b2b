"""The two databases of the ledger, really running: a SQLite file and a Postgres server."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from prioritizer.config.policy import QuietTime, SitePolicy
from prioritizer.db.list_order.order import Wanted
from prioritizer.db.processing import deliver as processing_deliver
from prioritizer.db.processing import receive as processing_receive
from prioritizer.db.processing import score
from prioritizer.db.processing.receive import Arrival
from prioritizer.db.processing.result_revisions import Result
from prioritizer.db.schema import connect, migrations, tables
from prioritizer.db.schema.every_table import metadata
from prioritizer.db.worklist import rows
from prioritizer.db.worklist import study as worklist_study
from prioritizer.ranking.deadlines import RankingPolicy
from prioritizer.states import DeliveryState
from prioritizer.study import Instance, Logit, Probability, Score
from tests.support.pacs import REQUIRED, free_port, wait_for_port

NOW = datetime.now(UTC) - timedelta(minutes=5)
"""The moment of most arrivals. Leases and delays are judged by the database's own clock, so it is a real one, just past."""
AT_ONCE = QuietTime(quiet=timedelta(0), ceiling=timedelta(minutes=10))
RANKING = frozenset(field.name for field in fields(RankingPolicy))


def site_policy(**values: Any) -> SitePolicy:
    """A policy that awaits nothing before a result is built, with these values for it or its ranking."""
    return policy_with(SitePolicy(quiet=AT_ONCE), **values)


def policy_with(policy: SitePolicy, **values: Any) -> SitePolicy:
    """The policy with other values for it or its ranking."""
    of_ranking = {name: values.pop(name) for name in values.keys() & RANKING}
    return replace(policy, ranking=replace(policy.ranking, **of_ranking), **values)


POLICY = site_policy(t_high=0.5, t_low=0.1)
LEASE = timedelta(minutes=5)
RUN_OUT = timedelta(seconds=-1)
"""A lease that is over when it begins: what a worker that died long ago left behind."""
BACKENDS = ("sqlite", "postgres")


def _server_program(name: str) -> str:
    places = os.pathsep.join(str(folder) for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
    found = shutil.which(name) or shutil.which(name, path=places)
    if found is None:
        (pytest.fail if REQUIRED else pytest.skip)(f"{name} is not installed")
    return str(found)


@cache
def postgres_url() -> str:
    """A Postgres server of this test run on a free loopback port, its data in a temporary folder; stopped at exit."""
    initdb, postgres = _server_program("initdb"), _server_program("postgres")
    folder = Path(tempfile.mkdtemp(prefix="prioritizer-postgres-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    who: dict[str, object] = {}
    if os.geteuid() == 0:  # Postgres refuses to run as root
        user = next(pwd.getpwnam(name) for name in ("postgres", "nobody") if _has_user(name))
        os.chown(folder, user.pw_uid, user.pw_gid)
        who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    data = folder / "data"
    quiet = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    create = [initdb, "-D", str(data), "-U", "prioritizer", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    subprocess.run(create, check=True, timeout=60, **quiet, **who)
    port = free_port()
    lasting = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "shared_buffers=32MB", "max_connections=40")
    options = [part for setting in lasting for part in ("-c", setting)]
    command = [postgres, "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", str(folder), *options]
    process = subprocess.Popen(command, **quiet, **who)
    atexit.register(_stop, process)
    wait_for_port(port, process)
    return f"postgresql://prioritizer@127.0.0.1:{port}/postgres"


def _has_user(name: str) -> bool:
    with suppress(KeyError):
        return bool(pwd.getpwnam(name))
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=10)


@cache
def _migrated_postgres() -> sa.Engine:
    engine = connect.open_ledger(postgres_url())
    migrations.upgrade(engine)
    atexit.register(engine.dispose)
    return engine


@cache
def _migrated_sqlite() -> bytes:
    """An empty migrated database file, so that every test starts from a copy and not from the revisions."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.sqlite3"
        engine = connect.open_ledger(f"sqlite:///{file}")
        migrations.upgrade(engine)
        with engine.connect() as connection:
            connection.commit()
        engine.dispose()
        return file.read_bytes()


MEMORY_DISK = Path("/dev/shm")
"""A file system whose fsync costs nothing: no test here cuts the power, and the commits are hundreds."""


@contextmanager
def empty_ledger(backend: str) -> Iterator[sa.Engine]:
    """An empty ledger at the newest revision on one of `BACKENDS`."""
    if backend == "sqlite":
        with tempfile.TemporaryDirectory(dir=MEMORY_DISK if MEMORY_DISK.is_dir() else None) as folder:
            file = Path(folder) / "ledger.sqlite3"
            file.write_bytes(_migrated_sqlite())
            engine = connect.open_ledger(f"sqlite:///{file}")
            yield engine
            engine.dispose()
        return
    engine = _migrated_postgres()
    with engine.begin() as connection:
        connection.exec_driver_sql("TRUNCATE " + ", ".join(metadata.tables) + " RESTART IDENTITY CASCADE")
    yield engine


def opened_again(ledger: sa.Engine) -> sa.Engine:
    """The same ledger as a process that starts again opens it."""
    return connect.open_ledger(ledger.url.render_as_string(hide_password=False))


def together(*work: Callable[[], object]) -> list[object]:
    """Run all at the same moment; their answers in order."""
    gate = threading.Barrier(len(work))

    def begin(one: Callable[[], object]) -> object:
        gate.wait(timeout=20)
        return one()

    with ThreadPoolExecutor(len(work)) as pool:
        return [future.result(timeout=60) for future in [pool.submit(begin, one) for one in work]]


# --- what happens to a study, in short words -------------------------------------------------------------------------


def film(number: int = 1, study: str = "1.2.3", at: datetime = NOW, **values: object) -> Instance:
    """Instance `number` of a study, a chest film that arrived at `at`."""
    usual: dict[str, object] = {
        "sop_instance_uid": f"{study}.{number}", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1", "study_uid": study,
        "series_uid": f"{study}.0", "transfer_syntax_uid": "1.2.840.10008.1.2.1", "calling_ae": "DX1", "called_ae": "PRIORITIZER",
        "address": "127.0.0.1", "received_at": at, "sha256": "0" * 64, "size": 1000, "modality": "CR", "age_years": 3.0,
        "image_type": ("ORIGINAL", "PRIMARY"), "patient_name": "Muster^Anna",
    }  # fmt: skip
    return Instance(**(usual | values))


def own_object(ledger: sa.Engine, number: int = 7, study: str = "1.2.3", **values: object) -> Instance:
    """A result of a study that the ledger built, as it comes back from the PACS."""
    row = {"sop_class_uid": "1", "transfer_syntax_uid": "1", "source_instance_uid": "1", "revision": 0, "sha256": "", "data": b""}
    sent = film(number, study, **({"made_by_us": True, "sop_class_uid": "1.2.840.10008.5.1.4.1.1.7", "modality": "OT"} | values))
    with ledger.begin() as tx:
        tx.execute(tables.results.insert().values(sop_instance_uid=sent.sop_instance_uid, study_uid=study, built_at=NOW, **row))
    return sent


def receive(ledger: sa.Engine, *films: Instance, policy: SitePolicy = POLICY, unreadable: str = "", now: datetime | None = None) -> int:
    """Enter films, at `now` or when the last of them arrived; returns how many were new."""
    now = now or max(NOW, *(one.received_at for one in films))
    return processing_receive.receive(ledger, [Arrival(instance=one, unreadable=unreadable) for one in films], policy, now)


def score_of(probability: float | None, **values: object) -> Score:
    """A score with its provenance; without a probability the ledger makes it, as it does for the daemon."""
    usual: dict[str, object] = {
        "bundle_digest": "d" * 64, "calibration_id": "c1", "preprocessing_id": "p1", "engine": "openvino-1", "precision": "f32",
        "logit": Logit(0.0), "probability": None if probability is None else Probability(probability),
        "saliency": b"\0" * 196, "embedding": b"\0" * 8,
    }  # fmt: skip
    return Score(**(usual | values))


def score_next(ledger: sa.Engine, probability: float, policy: SitePolicy = POLICY, now: datetime = NOW) -> score.ClaimedInstance:
    """Score the next waiting instance."""
    claim = score.claim_instance(ledger, "scorer", LEASE)
    assert claim is not None
    assert score.finish_scored(ledger, claim, score_of(probability), policy, now)
    return claim


def scored(ledger: sa.Engine, study: str = "1.2.3", probability: float = 0.2, at: datetime = NOW, **values: object) -> None:
    """A study of one scored film."""
    receive(ledger, film(1, study, at, **values))
    score_next(ledger, probability)


def result_of(uid: str = "2.25.1") -> Result:
    """A built object."""
    return Result(
        sop_instance_uid=uid, sop_class_uid="1.2.840.10008.5.1.4.1.1.7", transfer_syntax_uid="1.2.840.10008.1.2.1", data=uid.encode()
    )


def publish(ledger: sa.Engine, uid: str = "2.25.1", destinations: tuple[str, ...] = ("pacs",)) -> None:
    """Build the result of the next quiet study."""
    claim = processing_deliver.claim_study(ledger, "publisher", LEASE, NOW)
    assert claim is not None
    assert processing_deliver.finish_published(ledger, claim, result_of(uid), destinations, NOW)


def deliver(ledger: sa.Engine, state: DeliveryState = DeliveryState.SENT, destination: str = "pacs") -> None:
    """Bring the next delivery to its end."""
    claim = processing_deliver.claim_delivery(ledger, destination, "sender", LEASE)
    assert claim is not None
    assert processing_deliver.finish_delivery(ledger, claim, state, "", NOW)


def deliveries_of(ledger: sa.Engine, study: str = "1.2.3") -> dict[str, str]:
    """State of every result of a study, by UID."""
    return {row.result_uid: row.state for row in rows.unfinished_deliveries(ledger, study)}


def kinds(ledger: sa.Engine, study: str = "1.2.3") -> list[str]:
    """The kinds of a study's events, oldest first."""
    return [event.kind for event in worklist_study.why(ledger, study)]


def listed(ledger: sa.Engine, limit: int = 200, **how: Any) -> list[str]:
    """Study UIDs in the order of the list."""
    return [row.study_uid for row in rows.rows(ledger, Wanted(**how), limit=limit)]


def plans_of(ledger: sa.Engine, work: Callable[[], object]) -> list[str]:
    """How SQLite would answer every query of the work: the lines of its plans."""
    asked: list[tuple[str, Any]] = []

    def keep(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    sa.event.listen(ledger, "before_cursor_execute", keep)
    work()
    sa.event.remove(ledger, "before_cursor_execute", keep)
    queries = [one for one in asked if one[0].startswith(("SELECT", "WITH"))]
    assert queries
    with ledger.connect() as tx:
        return [row[-1] for statement, parameters in queries for row in tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
