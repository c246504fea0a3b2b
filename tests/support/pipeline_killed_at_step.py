"""The whole chain in one process that kills itself at step k; run as a program, which forks one such process for each job.

A job is a JSON line on standard input: folder, url, port (of the PACS), kill_at (or null), send. Its answer is a JSON line:
what the chain told before it ended, and how it ended. The program itself stays single-threaded, so that a fork is sound.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket

from prioritizer.config.policy import policy_of
from prioritizer.config.settings import Settings
from prioritizer.daemon import deliver, publish, score
from prioritizer.daemon.deliver import DeliverWorker
from prioritizer.daemon.publish import PublishWorker
from prioritizer.daemon.receive import ReceiveWorker
from prioritizer.daemon.scheduled_jobs import ScheduledJobs
from prioritizer.daemon.score import ScoreWorker
from prioritizer.db.schema import connect
from prioritizer.db.worklist import rows as worklist_rows
from prioritizer.dicom.read import sandboxed
from prioritizer.dicom.result.secondary_capture import CaptureFacts, CaptureObject
from prioritizer.dicom.scu.destination import Destination
from prioritizer.dicom.scu.sender import Sender
from prioritizer.dicom.spool.part10 import Receipt
from prioritizer.dicom.spool.spool import Spool
from prioritizer.inference.bundle import Bundle, open_bundle
from prioritizer.inference.engine import Outputs

PATIENCE_S = 30.0
_write = os.write


class Steps:
    """Counts what cannot be undone, and ends the process at number `kill_at`, before or after it is done."""

    def __init__(self, kill_at: int | None, tell: Callable[..., None]) -> None:
        self._numbers, self._kill_at, self._tell = itertools.count(1), kill_at, tell

    def pass_by(self, name: str) -> None:
        if next(self._numbers) == self._kill_at:
            self._tell("killed", at=name)
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: Any, name: str) -> None:
        """From now on, one step lies before and one behind every call of this function."""
        original, label = getattr(owner, name), f"{getattr(owner, '__name__', type(owner).__name__)}.{name}"

        def stepped(*args: Any, **kwargs: Any) -> Any:
            self.pass_by(f"before {label}")
            result = original(*args, **kwargs)
            self.pass_by(f"after {label}")
            return result

        setattr(owner, name, stepped)


class Darkroom:
    """The pixels read here instead of in a sandbox, so that one process holds the whole chain."""

    def __init__(self, bundle: Bundle) -> None:
        self._spec = bundle.preprocessing

    def model_input(self, path: Path) -> sandboxed.ModelInput:
        return sandboxed.model_input(path, self._spec)

    def capture(self, path: Path, saliency: NDArray[np.float32] | None, facts: CaptureFacts) -> CaptureObject:
        return sandboxed.capture(path, saliency, facts)


@dataclass
class Scorer:
    """What the real engine said of this film, before the fork."""

    outputs: Outputs
    name: str = "openvino"
    precision: str = "f32"

    def score(self, picture: NDArray[np.float32]) -> Outputs:
        return self.outputs


class Healthy:
    """The daemon as chores see it."""

    def ready(self) -> list[str]:
        return []

    def pat_watchdog(self) -> None:
        pass


@dataclass
class Film:
    """The bytes of one instance as they come over the line."""

    data: bytes
    receipt: Receipt

    @classmethod
    def read(cls, path: Path) -> Film:
        with io.BytesIO(path.read_bytes()) as file:
            pydicom.filereader.read_preamble(file, False)
            meta = pydicom.filereader._read_file_meta_info(file)
            data = file.read()
        receipt = Receipt(
            sop_class_uid=str(meta.MediaStorageSOPClassUID),
            sop_instance_uid=str(meta.MediaStorageSOPInstanceUID),
            transfer_syntax_uid=str(meta.TransferSyntaxUID),
            calling_ae="MODALITY",
            called_ae="PRIORITIZER",
            address="127.0.0.1",
            received_at=datetime.now(UTC),
        )
        return cls(data, receipt)


@dataclass
class Chain:
    """One process's worth of listener and stations over a folder and a ledger."""

    job: dict[str, Any]
    film: Film
    bundle: Bundle
    outputs: Outputs
    told: int
    sender: Sender = field(default_factory=Sender)

    def tell(self, event: str, **facts: Any) -> None:
        _write(self.told, json.dumps({"event": event, **facts}).encode() + b"\n")

    def run(self) -> None:
        # What a dead process held is free for the next: its lease has run out.
        score.SCORE_LEASE = publish.PUBLISH_LEASE = deliver.SEND_LEASE = timedelta(0)
        steps = Steps(self.job["kill_at"], self.tell)
        engine = connect.open_ledger(self.job["url"])
        for owner, name in (
            *((os, name) for name in ("write", "writev", "fsync", "link", "rename", "replace", "unlink", "mkdir")),
            (engine.dialect, "do_commit"),
            (Association, "send_c_store"),
            (AssociationSocket, "send"),
        ):
            steps.around(owner, name)
        spool = Spool(Path(self.job["folder"]) / "spool")
        spool.sweep_partials()
        if self.job["send"]:
            self._take_in(spool)
        self._work(engine, spool)
        self.tell("done")

    def _take_in(self, spool: Spool) -> None:
        partial = spool.begin(self.film.receipt)
        half = len(self.film.data) // 2
        partial.write(self.film.data[:half])
        partial.write(self.film.data[half:])
        self.tell("acknowledged", outcome=spool.store(partial).value)

    def _work(self, engine: Any, spool: Spool) -> None:
        settings = Settings(
            site={"name": "kill", "stage": "active"},
            destinations=({"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": self.job["port"]},),
            scope={"likeness": "flag"},
            publish={"quiet_seconds": 0, "ceiling_seconds": 1},
        )
        policy, renderer = policy_of(settings, self.bundle), Darkroom(self.bundle)
        worker, rng = f"chain:{os.getpid()}", random.Random(1)
        site = {"engine": engine, "spool": spool, "bundle": self.bundle, "renderer": renderer, "settings": settings, "worker": worker}
        destination = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=self.job["port"])
        ScheduledJobs(engine, spool, lambda: settings, Healthy(), lambda: policy).reconcile()
        steps = (
            ReceiveWorker(engine=engine, spool=spool, policy=policy).step,
            ScoreWorker(**site, scorer=Scorer(self.outputs), policy=policy).step,
            PublishWorker(**site, software_version="test", rng=rng).step,
            DeliverWorker(engine=engine, sender=self.sender, destination=destination, worker=worker, rng=rng).step,
        )
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if not any(step() for step in steps) and self._delivered(engine):
                return
            time.sleep(0.002)
        raise TimeoutError("the chain did not come to its end")

    def _delivered(self, engine: Any) -> bool:
        rows = worklist_rows.rows(engine)
        found = [delivery for row in rows for delivery in worklist_rows.unfinished_deliveries(engine, row.study_uid)]
        return bool(found) and all(delivery.state == "SENT" for delivery in found)


def main() -> None:
    """Answer jobs until standard input ends."""
    film, bundle = Film.read(Path(sys.argv[1])), open_bundle(None)
    with np.load(sys.argv[2], allow_pickle=False) as arrays:
        outputs = Outputs(**{name: arrays[name] for name in ("logit", "saliency", "embedding")})
    sandboxed.warm_up()
    print("{}", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        told = Path(job["folder"]) / f"told-{time.monotonic_ns()}"
        descriptor = os.open(told, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        child = os.fork()
        if child == 0:
            chain = Chain(job, film, bundle, outputs, descriptor)
            try:
                chain.run()
            except BaseException as error:
                chain.tell("fault", said=repr(error))
            with suppress(OSError):
                os._exit(0)
        os.close(descriptor)
        _, status = os.waitpid(child, 0)
        events = [json.loads(event) for event in told.read_text().splitlines()]
        print(json.dumps({"events": events, "killed": os.WIFSIGNALED(status)}), flush=True)


if __name__ == "__main__":
    main()
