"""Score one claimed instance: eligibility, decoding in the sandbox, network, guard, calibration."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from prioritizer.clock import Clock, utc_now
from prioritizer.config.policy import SitePolicy, rules_of
from prioritizer.config.settings import Settings
from prioritizer.daemon.rendering import Renderer
from prioritizer.db.in_force import local_calibration
from prioritizer.db.instances.healing import FILE_MISSING
from prioritizer.db.processing import score as processing_score
from prioritizer.db.processing.score import NOT_MEASURED, ClaimedInstance, Distance
from prioritizer.dicom.read.sandboxed import ModelInput
from prioritizer.dicom.spool.spool import Spool
from prioritizer.errors import ModelError, Transient, Unprocessable
from prioritizer.inference.bundle import Bundle
from prioritizer.inference.engine import Outputs
from prioritizer.inference.sandbox import ChildDied
from prioritizer.scope import guard_rules, header_rules
from prioritizer.scope.verdict import PopulationRule, ScopeVerdict
from prioritizer.states import InstanceState
from prioritizer.study import Logit, Score

log = logging.getLogger(__name__)

SCORE_LEASE = timedelta(seconds=60)
MAX_DEATHS = 2
"""A file on which the sandbox dies twice, while it reads others, is FAILED: it would die again."""
MAX_ATTEMPTS = 6
"""An instance that keeps failing for an unforeseen reason is FAILED and shown, not tried for ever."""


class Scorer(Protocol):
    """The network: a supervised child in service."""

    name: str
    precision: str

    def score(self, picture: NDArray[np.float32]) -> Outputs:
        """What the network says of one picture."""


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
class ScoreWorker:
    """One claimed instance to a probability, or to the reason why there is none."""

    engine: sa.Engine
    spool: Spool
    bundle: Bundle
    renderer: Renderer
    scorer: Scorer
    settings: Settings
    policy: SitePolicy
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

    def _score(self, claim: ClaimedInstance, verdict: ScopeVerdict) -> None:
        uid = claim.instance.sop_instance_uid
        seen = self._model_input(uid)
        self.deaths.read(claim.instance.sha256)
        outputs = self.scorer.score(seen.picture)
        verdict = guard_rules.with_drawing(verdict, seen.warnings)
        rules, far = rules_of(self.settings), outputs.figures.distance
        if outputs.figures.out_of_distribution > 1 and rules.out_of_distribution is not PopulationRule.OFF:
            its = local_calibration.local(self.engine, self.policy)
            verdict = guard_rules.with_guard(verdict, outputs.figures, rules, holds_back=its.holds_back, local_limit=its.limit)
        else:
            verdict = guard_rules.with_guard(verdict, outputs.figures, rules)
        if verdict.reason is not None:
            measured = Distance(distance=far, bundle_digest=self.bundle.digest)
            self._unscored(claim, InstanceState.INELIGIBLE, verdict.reason.rule, verdict.reason.sentence, measured)
            return
        logit = float(outputs.logit[0])
        if not np.isfinite(logit):
            raise ModelError(f"the network answered {logit} for instance {uid}", "Run `prioritizer check`")
        score = Score(
            bundle_digest=self.bundle.digest,
            preprocessing_id=self.bundle.preprocessing.id,
            engine=self.scorer.name,
            precision=self.scorer.precision,
            logit=Logit(logit),
            saliency=outputs.saliency[0].astype("<f4").tobytes(),
            embedding=outputs.embedding[0].astype("<f2").tobytes(),
            warnings=verdict.warnings,
            out_of_distribution=far,
        )
        if processing_score.finish_scored(self.engine, claim, score, self.policy, self.clock()):
            log.info("scored", extra={"event": "scored", "study": claim.instance.study_uid, "instance": uid})
        else:
            said = "no score is kept: the claim was lost, or AI was turned off meanwhile"
            log.info(said, extra={"event": "score-not-kept", "study": claim.instance.study_uid, "instance": uid})

    def _model_input(self, uid: str) -> ModelInput:
        """What the network sees. The file may settle, that is move, between finding and opening it: then it is found again."""
        for _ in range(2):
            path = self.spool.find(uid)
            if path is None:
                break
            try:
                return self.renderer.model_input(path)
            except Unprocessable:
                if path.exists():
                    raise
        if not self.spool.objects.is_dir():
            raise Transient("the spool cannot be reached")
        raise Unprocessable(FILE_MISSING, "its file is not in the spool: send the study again")

    def _unscored(self, claim: ClaimedInstance, state: InstanceState, rule: str, sentence: str, measured: Distance = NOT_MEASURED) -> None:
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
