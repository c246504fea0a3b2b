"""Build the Secondary Capture of a scored study that is quiet."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import sqlalchemy as sa

from prioritizer.clock import Clock, utc_now
from prioritizer.config.policy import policy_of
from prioritizer.config.settings import Settings
from prioritizer.daemon.rendering import Renderer
from prioritizer.daemon.score import MAX_DEATHS
from prioritizer.db.in_force.settings import holding
from prioritizer.db.processing import deliver, result_revisions
from prioritizer.dicom.read import attributes
from prioritizer.dicom.result.secondary_capture import CaptureFacts
from prioritizer.dicom.scu.back_off import next_attempt_delay
from prioritizer.dicom.spool.spool import Spool
from prioritizer.errors import Unprocessable
from prioritizer.inference.bundle import Bundle
from prioritizer.inference.sandbox import ChildDied
from prioritizer.ranking.deadlines import Band, Stage

log = logging.getLogger(__name__)
PUBLISH_LEASE = timedelta(seconds=120)


def mark_words(band: Band, stage: Stage) -> str:
    """The mark as the result picture states it; what is not raised carries none."""
    if band is not Band.HIGH:
        return "none - order of arrival"
    return "RAISED - placed earlier in the worklist" if stage is Stage.ACTIVE else "RAISED - pilot, the worklist is in order of arrival"


@dataclass(slots=True, kw_only=True)
class PublishWorker:
    """A quiet scored study to its Secondary Capture: bytes and deliveries in one commit."""

    engine: sa.Engine
    spool: Spool
    bundle: Bundle
    renderer: Renderer
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
        stage = holding(self.engine, policy).policy.ranking.stage
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

    def _is_changed(self, claim: result_revisions.ClaimedStudy) -> bool:
        """True where the file is not the one that was scored: nothing is drawn over another image. Building reports a missing one."""
        path = self.spool.find(claim.source_instance_uid)
        try:
            return path is not None and attributes.sha256_of(path) != claim.source_sha256
        except FileNotFoundError:
            return False
        except OSError:
            return True

    def _not_built(self, claim: result_revisions.ClaimedStudy, why: str, *, may_end: bool) -> None:
        """Try the study again later, and say on its row why; where the image is at fault (`may_end`), not for ever."""
        said = f"its result object could not be built: {why}"
        if may_end and claim.attempts >= MAX_DEATHS:
            log.warning(said, extra={"event": "publish-failed", "study": claim.study_uid})
            deliver.finish_published(self.engine, claim, None, (), self.clock(), said)
            return
        delay = timedelta(seconds=next_attempt_delay(claim.attempts, self.rng))
        deliver.put_study_back(self.engine, claim, delay, said, self.clock())

    def _build(self, claim: result_revisions.ClaimedStudy, stage: Stage) -> result_revisions.Result:
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
        built = self.renderer.capture(path, cells.reshape(side, side).astype(np.float32) if heatmap else None, facts)
        return result_revisions.Result(
            sop_instance_uid=built.sop_instance_uid,
            sop_class_uid=built.sop_class_uid,
            transfer_syntax_uid=built.transfer_syntax_uid,
            data=built.data,
        )
