"""What is tried at the start: whether every codec decodes here."""

from __future__ import annotations

import logging

from prioritizer.dicom.read.codec_selftest import codec_selftest
from prioritizer.errors import Transient
from prioritizer.inference.sandbox import ChildDied, Sandbox

log = logging.getLogger(__name__)
CODEC_TEST_TIMEOUT_S = 60.0


def working_syntaxes(sandbox: Sandbox) -> tuple[str, ...] | None:
    """The transfer syntaxes whose codec decodes here; None where all do, or where it cannot be tried.

    One that does not work is then refused in the association, by name.
    """
    try:
        found = sandbox.run(codec_selftest, CODEC_TEST_TIMEOUT_S)
    except (ChildDied, Transient) as error:
        log.error("the codecs could not be tried (%s): every syntax is accepted", error, extra={"event": "codec-fault"})
        return None
    faults = {uid: fault for uid, fault in found.items() if fault}
    for uid, fault in faults.items():
        log.warning("transfer syntax %s is not accepted: %s", uid, fault, extra={"event": "codec-fault"})
    return tuple(uid for uid in found if uid not in faults) if faults else None


def sandbox_reads(sandbox: Sandbox) -> bool:
    """Whether the sandbox decodes now, tried on images of our own."""
    try:
        sandbox.run(codec_selftest, CODEC_TEST_TIMEOUT_S)
    except (ChildDied, Transient):
        return False
    return True
