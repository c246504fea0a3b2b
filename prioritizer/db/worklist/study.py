"""What the page of one study shows: its events, its images, its saliency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from prioritizer.db.instances.identity import keys_under
from prioritizer.db.schema import connect
from prioritizer.db.schema.events import who
from prioritizer.db.schema.tables import events, instances, scores, studies
from prioritizer.db.worklist.rows import study
from prioritizer.errors import NotFound
from prioritizer.study import ANOTHER_PATIENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of a study's history."""

    at: datetime
    kind: str
    actor: str
    who: str
    """The actor, with the token that a program did it with."""
    said: str
    sop_instance_uid: str | None


def why(engine: sa.Engine, study_uid: str) -> list[Event]:
    """Everything that happened to a study, and to rows that joined it, oldest first. Raises NotFound."""
    study(engine, study_uid)
    with connect.reading(engine) as tx:
        others = [] if ANOTHER_PATIENT in study_uid else keys_under(study_uid)[1:]
        joined = tx.scalars(sa.select(studies.c.study_uid).where(studies.c.study_uid.in_(others), ~studies.c.listed)).all()
        query = sa.select(events).where(events.c.study_uid.in_([study_uid, *joined])).order_by(events.c.at, events.c.id)
        return [
            Event(at=e.at, kind=e.kind, actor=e.actor, who=who(e.actor, e.detail), said=e.said, sop_instance_uid=e.sop_instance_uid)
            for e in tx.execute(query)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRow:
    """One instance of a study with its newest score."""

    sop_instance_uid: str
    state: str
    reason: str
    reason_text: str
    probability: float | None
    logit: float | None
    bundle_digest: str | None
    calibration_id: str | None
    activation: int | None
    engine: str | None
    precision: str | None
    warnings: list[str] | None
    received_at: datetime
    scored_at: datetime | None
    modality: str
    view: str
    has_film: bool
    """A single image that may be shown: not our own result, no report, its pixels still here."""
    out_of_distribution: float | None = None
    """How far it lies from the training data, in units of the limit of the bundle named in `measured_by`; None where that is not known."""
    measured_by: str = ""


OF_ATTRIBUTES = ("modality", "view", "has_film")


def study_instances(engine: sa.Engine, study_uid: str) -> list[InstanceRow]:
    """The instances of a study in order of arrival."""
    of_study = sa.select(instances.c.sop_instance_uid).where(instances.c.study_uid == study_uid)
    newest = sa.select(sa.func.max(scores.c.id)).where(scores.c.sop_instance_uid.in_(of_study)).group_by(scores.c.sop_instance_uid)
    joined = instances.outerjoin(scores, sa.and_(scores.c.sop_instance_uid == instances.c.sop_instance_uid, scores.c.id.in_(newest)))
    names = [name for name in InstanceRow.__dataclass_fields__ if name not in OF_ATTRIBUTES]
    columns = [instances.c[name] if name in instances.c else scores.c[name] for name in names]
    more = (instances.c.attributes.label("attributes"), instances.c.pixels_deleted_at.label("gone"))
    query = sa.select(*columns, *more).select_from(joined).where(instances.c.study_uid == study_uid).order_by(instances.c.received_at)
    with connect.reading(engine) as tx:
        return [_instance(row, names) for row in tx.execute(query)]


def _instance(row: Any, names: Sequence[str]) -> InstanceRow:
    said = row.attributes
    shown = said.get("has_pixels") and said.get("number_of_frames") == 1 and not said.get("made_by_us") and row.gone is None
    own = {name: row._mapping[name] for name in names}
    return InstanceRow(**own, modality=said.get("modality", ""), view=said.get("view_position", ""), has_film=bool(shown))


def saliency_of(engine: sa.Engine, sop_instance_uid: str) -> bytes:
    """The newest heat map of an image: float32 little-endian, square. Raises NotFound."""
    query = sa.select(scores.c.saliency).where(scores.c.sop_instance_uid == sop_instance_uid).order_by(scores.c.id.desc()).limit(1)
    with connect.reading(engine) as tx:
        found: bytes | None = tx.scalar(query)
    if found is None:
        raise NotFound("this image has no score")
    return found
