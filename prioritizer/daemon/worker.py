"""Receive, score, publish, deliver: each claims one piece of work, does it, commits it, and says whether there may be more.

A station's `step` holds no state between calls: kill the process between any two lines and the ledger's leases and the spool's
inbox bring the work back.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from prioritizer.clock import Clock, utc_now
from prioritizer.config.policy import policy_of, rules_of
from prioritizer.config.settings import Settings
from prioritizer.daemon.receive import Receive, read_arrival
from prioritizer.db.in_force import local_calibration
from prioritizer.db.in_force.settings import holding
from prioritizer.db.instances.healing import FILE_MISSING
from prioritizer.db.processing import deliver
from prioritizer.db.processing import score as processing_score
from prioritizer.db.processing.receive import Quiet
from prioritizer.db.processing.score import NOT_MEASURED, ClaimedInstance, Measured
from prioritizer.dicom.read import attributes
from prioritizer.dicom.read.sandboxed import ModelInput
from prioritizer.dicom.result.secondary_capture import CaptureFacts, CaptureObject
from prioritizer.dicom.scu.back_off import REFUSAL_MINUTES, next_attempt_delay, next_try_after_refusal
from prioritizer.dicom.scu.sender import Destination, Sender
from prioritizer.dicom.spool.spool import Spool
from prioritizer.errors import ModelError, PermanentRefusal, PrioritizerError, Transient, Unprocessable
from prioritizer.inference.bundle import Bundle
from prioritizer.inference.engine import Outputs
from prioritizer.inference.sandbox import ChildDied
from prioritizer.ranking.deadlines import Band, Policy, Stage
from prioritizer.scope import header_rules
from prioritizer.scope.header_rules import PopulationRule, Verdict
from prioritizer.study import DeliveryState, InstanceState, Logit, Probability, Score

__all__ = ["DeliverStation", "PublishStation", "Receive", "ScoreStation", "Station", "read_arrival"]

log = logging.getLogger(__name__)

SCORE_LEASE = timedelta(seconds=60)
PUBLISH_LEASE = timedelta(seconds=120)
SEND_LEASE = timedelta(seconds=180)
MAX_DEATHS = 2
"""A file on which the sandbox dies twice, while it reads others, is FAILED: it would die again."""
MAX_ATTEMPTS = 6
"""An instance that keeps failing for an unforeseen reason is FAILED and shown, not tried for ever."""


class Darkroom(Protocol):
    """Where pixels become pictures: the sandbox in service, in-process in tests."""

    def model_input(self, path: Path) -> ModelInput:
        """The picture the network sees, float32 (S, S), 0..1, with the warnings about how it was drawn."""

    def capture(self, path: Path, saliency: NDArray[np.float32] | None, facts: CaptureFacts) -> CaptureObject:
        """The result object of a scored instance."""


class Scorer(Protocol):
    """The network: a supervised child in service."""

    name: str
    precision: str

    def score(self, picture: NDArray[np.float32]) -> Outputs:
        """What the network says of one picture."""


def mark_words(band: Band, stage: Stage) -> str:
    """The mark as the result picture states it; what is not raised carries none."""
    if band is not Band.HIGH:
        return "none - order of arrival"
    return "RAISED - placed earlier in the worklist" if stage is Stage.ACTIVE else "RAISED - pilot, the worklist is in order of arrival"


class Deaths:
    """Which files the sandbox died on, for all score workers: a file's own death is told from the machine's.

    The second death on one file while others are read is the file's. Deaths over several files, none of which was read since, are the
    machine's: no memory, a broken library. Then nothing is failed; it is tried again.
    """

    def __init__(self) -> None:
        self._deaths: dict[str, int] = {}
        self._others_read: set[str] = set()
        self._lock = threading.Lock()

    def died(self, digest: str) -> bool:
        """One more death on this file; True when it is the file's own."""
        with self._lock:
            self._deaths[digest] = self._deaths.get(digest, 0) + 1
            return self._deaths[digest] >= MAX_DEATHS and digest in self._others_read

    def read(self, digest: str) -> None:
        """This file was read: whatever died before did not die of the machine."""
        with self._lock:
            self._deaths.pop(digest, None)
            self._others_read.discard(digest)
            self._others_read.update(self._deaths)

    def alone(self, digest: str) -> bool:
        """True while no other file died: where several do, that one small image is read clears nobody."""
        with self._lock:
            return self._deaths.keys() <= {digest}

    def forget(self, digest: str) -> None:
        """This file is done with."""
        with self._lock:
            self._deaths.pop(digest, None)
            self._others_read.discard(digest)


@dataclass(slots=True, kw_only=True)
class ScoreStation:
    """One claimed instance to a probability, or to the reason why there is none."""

    engine: sa.Engine
    spool: Spool
    bundle: Bundle
    darkroom: Darkroom
    scorer: Scorer
    settings: Settings
    policy: Policy
    quiet: Quiet
    worker: str
    clock: Clock = utc_now
    deaths: Deaths = field(default_factory=Deaths)
    reads_others: Callable[[], bool] = lambda: False
    """Whether the sandbox reads a known good image now: asked where a file died twice and no other was there to be read."""

    def step(self) -> bool:
        """Score the next instance; True when there was one."""
        claim = processing_score.claim_instance(self.engine, self.worker, SCORE_LEASE)
        if claim is None:
            return False
        if claim.attempts > MAX_ATTEMPTS:
            self._unscored(claim, InstanceState.FAILED, "gave-up", f"scoring it failed {MAX_ATTEMPTS} times; the log says why")
            return True
        peer = self.settings.peer(claim.instance.calling_ae)
        verdict = header_rules.judge(
            claim.instance,
            self.bundle.scope,
            rules_of(self.settings),
            scores_secondary_capture=peer is not None and peer.score_secondary_capture,
            scores_for_processing=peer is not None and peer.score_for_processing,
        )
        if verdict.reason is not None:
            self._unscored(claim, InstanceState.INELIGIBLE, verdict.reason.rule, verdict.reason.sentence)
            return True
        try:
            self._score(claim, verdict)
        except Unprocessable as error:
            self._unscored(claim, InstanceState.FAILED, error.slug, error.reason)
        except ChildDied as error:
            self._died(claim, str(error))
        except (Transient, ModelError):
            # The claim is given back at once; otherwise the image would wait for its lease to run out. It is no try of this image.
            processing_score.put_back(self.engine, claim, timedelta(seconds=1), self.clock(), counted=False)
            raise
        return True

    def _score(self, claim: ClaimedInstance, verdict: Verdict) -> None:
        uid = claim.instance.sop_instance_uid
        seen = self._model_input(uid)
        self.deaths.read(claim.instance.sha256)
        outputs = self.scorer.score(seen.picture)
        verdict = header_rules.with_drawing(verdict, seen.warnings)
        rules, far = rules_of(self.settings), outputs.figures.distance
        if outputs.figures.out_of_distribution > 1 and rules.out_of_distribution is not PopulationRule.OFF:
            its = local_calibration.local(self.engine, self.policy)
            verdict = header_rules.with_guard(verdict, outputs.figures, rules, holds_back=its.holds_back, local_limit=its.limit)
        else:
            verdict = header_rules.with_guard(verdict, outputs.figures, rules)
        if verdict.reason is not None:
            measured = Measured(distance=far, bundle_digest=self.bundle.digest)
            self._unscored(claim, InstanceState.INELIGIBLE, verdict.reason.rule, verdict.reason.sentence, measured)
            return
        calibration = self.bundle.calibration.for_age(claim.instance.age_years)
        logit = float(outputs.logit[0])
        if not np.isfinite(logit):
            raise ModelError(f"the network answered {logit} for instance {uid}", "Run `prioritizer check`")
        score = Score(
            bundle_digest=self.bundle.digest,
            calibration_id=calibration.id,
            preprocessing_id=self.bundle.preprocessing.id,
            engine=self.scorer.name,
            precision=self.scorer.precision,
            logit=Logit(logit),
            probability=Probability(calibration.probability(logit)),
            saliency=outputs.saliency[0].astype("<f4").tobytes(),
            embedding=outputs.embedding[0].astype("<f2").tobytes(),
            warnings=verdict.warnings,
            out_of_distribution=far,
        )
        processing_score.finish_scored(self.engine, claim, score, self.policy, self.quiet, self.clock())
        log.info("scored", extra={"event": "scored", "study": claim.instance.study_uid, "instance": uid})

    def _model_input(self, uid: str) -> ModelInput:
        """What the network sees. The file may settle, that is move, between finding and opening it: then it is found again."""
        for _ in range(2):
            path = self.spool.find(uid)
            if path is None:
                break
            try:
                return self.darkroom.model_input(path)
            except Unprocessable:
                if path.exists():
                    raise
        if not self.spool.objects.is_dir():
            raise Transient("the spool cannot be reached")
        raise Unprocessable(FILE_MISSING, "its file is not in the spool: send the study again")

    def _unscored(self, claim: ClaimedInstance, state: InstanceState, rule: str, sentence: str, measured: Measured = NOT_MEASURED) -> None:
        processing_score.finish_unscored(self.engine, claim, state, rule, sentence, self.policy, self.clock(), measured)
        log.info("not scored: %s", rule, extra={"event": "not-scored", "instance": claim.instance.sop_instance_uid})

    def _died(self, claim: ClaimedInstance, how: str) -> None:
        """The sandbox died on this image: its own fault, or the machine's, which is tried again without limit."""
        digest = claim.instance.sha256
        own = self.deaths.died(digest)
        if not own and claim.attempts >= MAX_DEATHS and self.deaths.alone(digest) and self.reads_others():
            self.deaths.read("a known good image")
            own = True
        if own:
            self._unscored(claim, InstanceState.FAILED, "sandbox", f"reading its pixels {how}, {max(claim.attempts, MAX_DEATHS)} times")
            self.deaths.forget(digest)
            return
        processing_score.put_back(self.engine, claim, timedelta(seconds=1), self.clock(), counted=claim.attempts < MAX_DEATHS)
        if claim.attempts >= MAX_DEATHS:
            raise Transient(f"reading pixels {how}, over several images: the machine's fault, not theirs")


@dataclass(slots=True, kw_only=True)
class PublishStation:
    """A quiet scored study to its Secondary Capture: bytes and deliveries in one commit."""

    engine: sa.Engine
    spool: Spool
    bundle: Bundle
    darkroom: Darkroom
    settings: Settings
    software_version: str
    worker: str
    clock: Clock = utc_now
    rng: random.Random

    def step(self) -> bool:
        """Build the next study's result; True when there was one."""
        claim = deliver.claim_study(self.engine, self.worker, PUBLISH_LEASE, self.clock())
        if claim is None:
            return False
        policy = policy_of(self.settings, self.bundle)
        stage = holding(self.engine, policy).policy.stage
        if stage is Stage.SHADOW or self.settings.publish.overlay == "off":
            # Done with, not put off: going from shadow to pilot must not send the whole past to the PACS.
            deliver.finish_published(self.engine, claim, None, (), self.clock())
            return True
        if self._is_changed(claim):
            self._not_built(claim, "the bytes of its file changed since it arrived: send the study again", may_end=False)
            return True
        try:
            result = self._build(claim, stage)
        except (Unprocessable, ChildDied) as error:
            self._not_built(claim, str(error), may_end=True)
            return True
        except Exception as error:
            log.exception("a result could not be built; it is tried again", extra={"event": "publish-fault", "study": claim.study_uid})
            self._not_built(claim, f"a fault of prioritizer itself ({type(error).__name__}); the log says where", may_end=False)
            return True
        names = [destination.name for destination in self.settings.destinations]
        deliver.finish_published(self.engine, claim, result, names, self.clock(), policy=policy)
        return True

    def _is_changed(self, claim: deliver.ClaimedStudy) -> bool:
        """True where the file is not the one that was scored: nothing is drawn over another image. Building reports a missing one."""
        path = self.spool.find(claim.source_instance_uid)
        try:
            return path is not None and attributes.sha256_of(path) != claim.source_sha256
        except FileNotFoundError:
            return False
        except OSError:
            return True

    def _not_built(self, claim: deliver.ClaimedStudy, why: str, *, may_end: bool) -> None:
        """Try the study again later, and say on its row why; where the image is at fault (`may_end`), not for ever."""
        said = f"its result object could not be built: {why}"
        if may_end and claim.attempts >= MAX_DEATHS:
            log.warning(said, extra={"event": "publish-failed", "study": claim.study_uid})
            deliver.finish_published(self.engine, claim, None, (), self.clock(), said)
            return
        delay = timedelta(seconds=next_attempt_delay(claim.attempts, self.rng))
        deliver.put_study_back(self.engine, claim, delay, said, self.clock())

    def _build(self, claim: deliver.ClaimedStudy, stage: Stage) -> deliver.Result:
        path = self.spool.find(claim.source_instance_uid)
        if path is None:
            raise Unprocessable("file-missing", "the deciding image is not in the spool")
        heatmap = self.settings.publish.overlay == "heatmap"
        cells = np.frombuffer(claim.saliency, dtype="<f4")
        side = int(len(cells) ** 0.5)
        facts = CaptureFacts(
            site=self.settings.site.name,
            study_uid=claim.study_uid,
            kind=self.settings.publish.overlay,
            band=mark_words(Band(claim.band), stage),
            bundle_id=self.bundle.name,
            bundle_digest=claim.bundle_digest,
            calibration_id=claim.calibration_id,
            activation=claim.activation,
            scale=self.bundle.saliency_scale,
            software_version=self.software_version,
            content_time=claim.source_received_at.astimezone(self.settings.zone),
            encoding=self.settings.publish.encoding,
            padded=self.bundle.preprocessing.resize == "pad",
        )
        built = self.darkroom.capture(path, cells.reshape(side, side).astype(np.float32) if heatmap else None, facts)
        return deliver.Result(
            sop_instance_uid=built.sop_instance_uid,
            sop_class_uid=built.sop_class_uid,
            transfer_syntax_uid=built.transfer_syntax_uid,
            data=built.data,
        )


@dataclass(slots=True, kw_only=True)
class DeliverStation:
    """Stored results to one destination. Each destination has a station of its own, so a dead PACS delays no other."""

    engine: sa.Engine
    sender: Sender
    destination: Destination
    worker: str
    clock: Clock = utc_now
    rng: random.Random

    def step(self) -> bool:
        """Send the next result; True when it went through or was refused for good."""
        claim = deliver.claim_delivery(self.engine, self.destination.name, self.worker, SEND_LEASE)
        if claim is None:
            self.sender.release_idle()
            return False
        try:
            self.sender.send_result(self.destination, claim.result.data)
        except Transient as error:
            delay = timedelta(seconds=next_attempt_delay(claim.attempts, self.rng))
            deliver.put_delivery_back(self.engine, claim, delay, str(error), self.clock())
            log.warning("%s: %s", self.destination.name, error, extra={"event": "send-later", "study": claim.study_uid})
            return False
        except PermanentRefusal as error:
            self._refused(claim, error.reason)
            return True
        except Unprocessable as error:
            self._parked(claim, error.reason)
            return True
        deliver.finish_delivery(self.engine, claim, DeliveryState.SENT, "", self.clock())
        log.info("result stored by %s", self.destination.name, extra={"event": "sent", "study": claim.study_uid})
        return True

    def _refused(self, claim: deliver.ClaimedDelivery, why: str) -> None:
        """One odd answer parks no result: it is tried again for more than a day before a person must look."""
        refusals = claim.refusals + 1
        delay = next_try_after_refusal(refusals, self.rng)
        if delay is None:
            self._parked(claim, f"{why}, {refusals} times in more than a day")
            return
        said = f"{refusals} of {len(REFUSAL_MINUTES) + 1} tries: {why}"
        deliver.put_delivery_back(self.engine, claim, delay, said, self.clock(), refusals=refusals)
        log.warning("refused, and tried again: %s", why, extra={"event": "send-refused-once", "study": claim.study_uid})

    def _parked(self, claim: deliver.ClaimedDelivery, why: str) -> None:
        deliver.finish_delivery(self.engine, claim, DeliveryState.REJECTED, why, self.clock())
        log.error("%s: %s", self.destination.name, why, extra={"event": "send-refused", "study": claim.study_uid})


class Station(threading.Thread):
    """Runs `step` until told to stop: again at once while there is work, else when woken or after `idle_s`.

    `last_turn` is when a turn ended, whether or not it found something to do: a step that hangs ends no turn.
    """

    def __init__(self, name: str, step: Callable[[], bool], *, idle_s: float, on_model_error: Callable[[ModelError], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._step, self._idle_s, self._on_model_error = step, idle_s, on_model_error
        self._wake, self._stopping = threading.Event(), threading.Event()
        self.last_turn = utc_now()
        self._turned = time.monotonic()
        self.failures = 0

    @property
    def still_s(self) -> float:
        """Seconds since a turn ended, by a clock that nobody sets."""
        return time.monotonic() - self._turned

    def wake(self) -> None:
        """There may be work now."""
        self._wake.set()

    def stop(self) -> None:
        """End after the step under way."""
        self._stopping.set()
        self._wake.set()

    def run(self) -> None:
        """The station loop: one of the three places that catch everything."""
        while not self._stopping.is_set():
            self._wake.clear()
            more = self._turn()
            self.last_turn, self._turned = utc_now(), time.monotonic()
            if not more:
                self._wake.wait(self._idle_s if not self.failures else min(30.0, 0.5 * 2**self.failures))

    def _turn(self) -> bool:
        try:
            more = self._step()
            self.failures = 0
            return more
        except Transient as error:
            log.warning("%s: %s; trying again", self.name, error, extra={"event": "station-waits"})
        except ModelError as error:
            log.error("%s: %s", self.name, error, extra={"event": "model-error"})
            self._on_model_error(error)
        except PrioritizerError as error:
            log.error("%s: %s", self.name, error, extra={"event": "station-error"})
        except Exception:
            log.exception("%s: a fault of prioritizer itself; the work stays queued", self.name, extra={"event": "station-fault"})
        self.failures = min(self.failures + 1, 6)
        return False
