"""Send stored results to one destination."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from prioritizer.clock import Clock, utc_now
from prioritizer.db.processing import deliver
from prioritizer.dicom.scu.back_off import REFUSAL_MINUTES, next_attempt_delay, next_try_after_refusal
from prioritizer.dicom.scu.destination import Destination
from prioritizer.dicom.scu.sender import Sender
from prioritizer.errors import PermanentRefusal, Transient, Unprocessable
from prioritizer.states import DeliveryState

log = logging.getLogger(__name__)
SEND_LEASE = timedelta(seconds=180)


@dataclass(slots=True, kw_only=True)
class DeliverWorker:
    """Stored results to one destination. Each destination has a worker of its own, so a dead PACS delays no other."""

    engine: sa.Engine
    sender: Sender
    destination: Destination
    worker: str
    clock: Clock = utc_now
    rng: random.Random

    def step(self) -> bool:
        """Send the next result; True when it went through or was refused permanently."""
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
