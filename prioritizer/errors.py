"""Every error of the product, split by what happens next.

ConfigError    the operator mends a file, then starts again.
Refused        a peer is told no, with a named DIMSE status; nothing was kept or it was quarantined.
Unprocessable  this object will never work: the study stays listed with the reason.
Transient      the same work may succeed later: it is tried again with back-off.
ModelError     no score may be given at all: the list falls back to STAT and order of arrival.

Each holds fields; the text for people is built in ``__str__`` and never holds patient data.
"""

from __future__ import annotations

from dataclasses import dataclass


class PrioritizerError(Exception):
    """Root of all errors that prioritizer raises on purpose."""

    code = "PRI-0000"


@dataclass(eq=False)
class ConfigError(PrioritizerError):
    """One or several faults of the configuration, all found in one pass."""

    faults: tuple[str, ...]
    code = "PRI-1001"

    def __str__(self) -> str:
        return "\n".join(self.faults)


@dataclass(eq=False)
class Refused(PrioritizerError):
    """A peer's request is answered with a failure status."""

    status: int
    reason: str
    code = "PRI-2001"

    def __str__(self) -> str:
        return f"refused with status 0x{self.status:04X}: {self.reason}"


@dataclass(eq=False)
class Unprocessable(PrioritizerError):
    """This object can never be scored; `reason` is a sentence for people, `slug` a word for filters."""

    slug: str
    reason: str
    code = "PRI-3001"

    def __str__(self) -> str:
        return self.reason

    def __reduce__(self) -> tuple[type[Unprocessable], tuple[str, str]]:
        return type(self), (self.slug, self.reason)


@dataclass(eq=False)
class Transient(PrioritizerError):
    """The work may succeed when repeated."""

    reason: str
    code = "PRI-4001"

    def __str__(self) -> str:
        return self.reason

    def __reduce__(self) -> tuple[type[Transient], tuple[str]]:
        return type(self), (self.reason,)


class Contended(Transient):
    """Another process, or another item of the same batch, entered the same thing: each is looked at alone."""


@dataclass(eq=False)
class PermanentRefusal(PrioritizerError):
    """A destination said no to the object itself, or to us: repeating is unlikely to change that."""

    status: int
    reason: str
    code = "PRI-4002"

    def __str__(self) -> str:
        return f"refused permanently (0x{self.status:04X}): {self.reason}"


@dataclass(eq=False)
class ModelError(PrioritizerError):
    """The bundle, its self-test or its engine cannot be trusted."""

    what: str
    mend: str
    code = "PRI-5001"

    def __str__(self) -> str:
        return f"{self.what}. {self.mend}"

    def __reduce__(self) -> tuple[type[ModelError], tuple[str, str]]:
        return type(self), (self.what, self.mend)


@dataclass(eq=False)
class CalibrationChanged(ModelError):
    """The calibration in the ledger is not the one that was stored there."""

    mend: str = "Restore the ledger from its backup, or go back with `prioritizer calibration rollback`, then restart"
    code = "PRI-5002"


@dataclass(eq=False)
class CohortUnfit(PrioritizerError):
    """The cohort cannot carry a recalibration; `missing` names every thing that is wanting."""

    missing: tuple[str, ...]
    code = "PRI-7001"

    def __str__(self) -> str:
        return "this cohort cannot carry a recalibration: " + "; ".join(self.missing)


@dataclass(eq=False)
class NotFound(PrioritizerError):
    """What the person named does not exist in the ledger."""

    what: str
    code = "PRI-6001"

    def __str__(self) -> str:
        return self.what


@dataclass(eq=False)
class NotAllowed(PrioritizerError):
    """The state machine has no such step; `why` says what stands in the way."""

    why: str
    code = "PRI-6002"

    def __str__(self) -> str:
        return self.why


@dataclass(eq=False)
class SettingsOverrideUnfit(NotAllowed):
    """The override on the site's rules cannot hold: the configuration would refuse what comes of it, or it is not what was stored."""

    code = "PRI-6006"


@dataclass(eq=False)
class NotSignedIn(PrioritizerError):
    """Nobody proved who they are, or the proof is over."""

    why: str = "sign in first"
    code = "PRI-6003"

    def __str__(self) -> str:
        return self.why


@dataclass(eq=False)
class Forbidden(PrioritizerError):
    """Who asks is known and has no right to this, or the request came from another site."""

    why: str
    code = "PRI-6004"

    def __str__(self) -> str:
        return self.why


@dataclass(eq=False)
class TooManyTries(PrioritizerError):
    """Sign-in was tried too often; `seconds` until it may be tried again."""

    seconds: int
    code = "PRI-6005"

    def __str__(self) -> str:
        return f"too many failed sign-ins; try again in {self.seconds // 60 + 1} min"


class Busy(TooManyTries):
    """Many passwords are being looked at; nothing was tried."""

    def __str__(self) -> str:
        return "many people are signing in at this moment; try again in a few seconds"
