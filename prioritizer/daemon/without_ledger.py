"""The calibration and the rules that apply at this site, for verbs that may run where there is no ledger yet."""

from __future__ import annotations

from sqlalchemy.exc import SQLAlchemyError

from prioritizer.config.policy import policy_of
from prioritizer.config.settings import Settings
from prioritizer.daemon.settings_in_force import in_force_for
from prioritizer.db.decisions import calibrations
from prioritizer.db.in_force.calibration import PolicyInForce
from prioritizer.db.schema import connect, migrations
from prioritizer.errors import CalibrationChanged, PrioritizerError
from prioritizer.inference.bundle import Bundle

NO_LEDGER = "no ledger here"


def in_force_at(settings: Settings, bundle: Bundle) -> tuple[PolicyInForce, str]:
    """What applies, and why it is the bundle's own where the ledger could not be asked. Raises CalibrationChanged."""
    policy = policy_of(settings, bundle)
    own = PolicyInForce(policy=policy, calibration=bundle.calibration)
    if connect.missing_file(settings.database_url):
        return own, NO_LEDGER
    try:
        engine = connect.open_ledger(settings.database_url)
        try:
            if migrations.current(engine) != migrations.head():
                return own, "the ledger is at another revision; run `prioritizer migrate`"
            found = calibrations.applying(engine, policy)
        finally:
            engine.dispose()
    except (SQLAlchemyError, ImportError, PrioritizerError) as error:
        return own, f"the ledger cannot be read now ({type(error).__name__})"
    if found.fault:
        raise CalibrationChanged(found.fault)
    return found, ""


def settings_at(settings: Settings) -> Settings:
    """The settings with the active settings override over them; the configuration alone where there is no ledger that can be asked."""
    if connect.missing_file(settings.database_url):
        return settings
    try:
        engine = connect.open_ledger(settings.database_url)
        try:
            return in_force_for(engine, settings) if migrations.current(engine) == migrations.head() else settings
        finally:
            engine.dispose()
    except (SQLAlchemyError, ImportError, PrioritizerError):
        return settings
