"""The policy that a site runs by, made of the configuration and the bundle in one place: `policy_of`.

What is in force is this with the active settings override and the active calibration over it, which every transaction that ranks reads
from the ledger (`db.in_force`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Protocol

from prioritizer.calibration.maps import Calibration
from prioritizer.config.settings import Settings
from prioritizer.ranking.deadlines import RankingPolicy
from prioritizer.scope.verdict import PopulationRule, ScopeRules


class ServingBundle(Protocol):
    """What the policy needs of the bundle that serves."""

    @property
    def digest(self) -> str:
        """Of everything in it."""

    @property
    def calibration(self) -> Calibration:
        """The one it came with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietTime:
    """When a study is ready to publish: the time without a new instance, and the ceiling of that wait."""

    quiet: timedelta
    ceiling: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePolicy:
    """How studies are ranked, what is done with images unlike the training data, and when a result is built.

    Where `bundle_digest` and `own` are set, every transaction of the ledger that places a study puts the calibration that is active
    for this bundle in their place: the thresholds of `ranking` then hold only while none is active.
    """

    ranking: RankingPolicy = field(default_factory=RankingPolicy)
    bundle_digest: str = ""
    """Of the bundle that serves; empty while there is none, or AI is off."""
    own: Calibration | None = None
    """The calibration that came with it."""
    out_of_distribution: PopulationRule = PopulationRule.UNTIL_CALIBRATED
    """What the site does with images of another population or device than in training."""
    quiet: QuietTime = QuietTime(quiet=timedelta(seconds=60), ceiling=timedelta(minutes=10))

    def with_thresholds(self, t_high: float, t_low: float) -> SitePolicy:
        """The same policy with other thresholds, the same for every age."""
        return replace(self, ranking=self.ranking.with_thresholds(t_high, t_low))

    def with_thresholds_of(self, calibration: Calibration) -> SitePolicy:
        """The same policy with the thresholds of a calibration."""
        return replace(self, ranking=self.ranking.with_thresholds_of(calibration))


def policy_of(settings: Settings, bundle: ServingBundle | None) -> SitePolicy:
    """The configured policy with the bundle's own calibration; without a bundle nothing is moved up."""
    ranking, publish = settings.ranking, settings.publish
    policy = SitePolicy(
        ranking=RankingPolicy(
            high=timedelta(minutes=ranking.high_minutes),
            neutral=timedelta(minutes=ranking.neutral_minutes),
            low=timedelta(minutes=ranking.low_minutes),
            t_high=2.0,
            demote_low=ranking.demote_low,
            stage=settings.site.stage,
            max_high_share=ranking.max_high_share,
            last_n=ranking.last_n,
        ),
        bundle_digest=bundle.digest if bundle else "",
        own=bundle.calibration if bundle else None,
        out_of_distribution=settings.scope.out_of_distribution,
        quiet=QuietTime(quiet=timedelta(seconds=publish.quiet_seconds), ceiling=timedelta(seconds=publish.ceiling_seconds)),
    )
    return policy.with_thresholds_of(bundle.calibration) if bundle else policy


def rules_of(settings: Settings) -> ScopeRules:
    """The site's strictness per scope rule."""
    return ScopeRules(**settings.scope.model_dump(exclude={"likeness"}))
