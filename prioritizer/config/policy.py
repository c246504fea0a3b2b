"""The configuration in the terms of each room: how it ranks, what is in scope, when a study is ready."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

from prioritizer.calibration.maps import Calibration
from prioritizer.config.quiet import Quiet
from prioritizer.config.settings import Settings
from prioritizer.ranking.deadlines import Policy
from prioritizer.scope.header_rules import Rules


class Serving(Protocol):
    """What the ranking needs of the bundle that serves."""

    @property
    def digest(self) -> str:
        """Of everything in it."""

    @property
    def calibration(self) -> Calibration:
        """The one it came with."""


def policy_of(settings: Settings, bundle: Serving | None) -> Policy:
    """The configured ranking rules; the ledger puts the active ruling over them, and the active calibration for the bundle's own."""
    ranking = settings.ranking
    policy = Policy(
        high=timedelta(minutes=ranking.high_minutes),
        neutral=timedelta(minutes=ranking.neutral_minutes),
        low=timedelta(minutes=ranking.low_minutes),
        t_high=2.0,
        demote_low=ranking.demote_low,
        stage=settings.site.stage,
        max_high_share=ranking.max_high_share,
        last_n=ranking.last_n,
        bundle_digest=bundle.digest if bundle else "",
        own=bundle.calibration if bundle else None,
        out_of_distribution=settings.scope.out_of_distribution,
    )
    return policy.with_thresholds_of(bundle.calibration) if bundle else policy


def rules_of(settings: Settings) -> Rules:
    """The site's strictness per scope rule."""
    return Rules(**settings.scope.model_dump(exclude={"likeness"}))


def quiet_of(settings: Settings) -> Quiet:
    """When a study is ready to publish."""
    publish = settings.publish
    return Quiet(quiet=timedelta(seconds=publish.quiet_seconds), ceiling=timedelta(seconds=publish.ceiling_seconds))
