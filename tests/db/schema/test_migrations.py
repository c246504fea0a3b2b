"""The revisions build exactly the tables that the code uses, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from prioritizer.db.schema import connect, migrations
from prioritizer.db.schema.every_table import metadata
from prioritizer.db.worklist import feedback, rows
from prioritizer.study import ReaderFinding
from tests.support.ledgers import BACKENDS, NOW, postgres_url, score_next, scored


@pytest.fixture(params=BACKENDS)
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """A database without a table."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'empty.sqlite3'}"
    else:
        server = sa.create_engine(sa.make_url(postgres_url()).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
        with server.connect() as connection:
            connection.exec_driver_sql("DROP DATABASE IF EXISTS empty WITH (FORCE)")
            connection.exec_driver_sql("CREATE DATABASE empty")
        server.dispose()
        url = sa.make_url(postgres_url()).set(database="empty").render_as_string(hide_password=False)
    engine = connect.open_ledger(url)
    yield engine
    engine.dispose()


def tables(engine: sa.Engine) -> set[str]:
    return set(sa.inspect(engine).get_table_names())


def test_all_revisions_together_are_the_tables(empty: sa.Engine):
    migrations.upgrade(empty)
    with empty.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata)
    # Alembic cannot compare `stat DESC` on SQLite; the next test compares every index by its definition.
    assert [one for one in found if one[0] not in ("add_index", "remove_index")] == []


def _shape(engine: sa.Engine) -> dict[str, object]:
    """What a database holds, in its own words: columns, keys, constraints, indexes."""
    if engine.dialect.name == "sqlite":
        query = "SELECT sql FROM sqlite_master WHERE type = 'index' AND name NOT LIKE 'sqlite_%'"
    else:
        query = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'"
    with engine.connect() as connection:
        indexes = {row[0] for row in connection.exec_driver_sql(query) if "alembic" not in row[0]}
    inspector = sa.inspect(engine)
    found: dict[str, object] = {"indexes": indexes}
    for table in metadata.tables:
        found[table] = {
            "columns": sorted((c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns(table)),
            "checks": sorted(c["name"] or "" for c in inspector.get_check_constraints(table)),
            "foreign": sorted(str(c["constrained_columns"]) + c["referred_table"] for c in inspector.get_foreign_keys(table)),
            "unique": sorted(str(c["column_names"]) for c in inspector.get_unique_constraints(table)),
        }
    return found


def test_revisions_and_code_create_the_same_database(empty: sa.Engine):
    migrations.upgrade(empty)
    migrated = _shape(empty)
    with empty.begin() as connection:
        command.downgrade(migrations._config(connection), "base")
    with empty.begin() as connection:
        metadata.create_all(connection)
    created = _shape(empty)
    assert migrated == created


def test_upgrading_again_changes_nothing(empty: sa.Engine):
    migrations.upgrade(empty)
    migrations.upgrade(empty)
    assert migrations.current(empty) == migrations.head()


def test_an_empty_database_has_no_revision(empty: sa.Engine):
    assert migrations.current(empty) is None
    assert migrations.head() is not None


def test_down_leaves_nothing_and_up_comes_again(empty: sa.Engine):
    migrations.upgrade(empty)
    with empty.begin() as connection:
        command.downgrade(migrations._config(connection), "base")
    assert tables(empty) <= {"alembic_version"}
    migrations.upgrade(empty)
    assert set(metadata.tables) <= tables(empty)


def made_by_the_first_revision(engine: sa.Engine) -> None:
    """A score as the first revision kept it."""
    with engine.begin() as connection:
        command.upgrade(migrations._config(connection), "0001")
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO studies (study_uid, patient_id, patient_name, patient_birth_date, patient_sex, accession_number, study_description,"
            " modality, calling_ae, first_received_at, last_received_at, instances, listed, stat, ai_state, ai_reason, band, due_at,"
            " place_reason, reading_state, revision, published_revision, attempts, publish_error)"
            " VALUES ('1.2', '', '', '', '', '', '', '', '', 0, 0, 1, true, false, 'SCORED', '', 'NEUTRAL', 0, '', 'OPEN', 0, 0, 0, '')"
        )
        connection.exec_driver_sql(
            "INSERT INTO instances (sop_instance_uid, study_uid, series_uid, sop_class_uid, transfer_syntax_uid, calling_ae, called_ae,"
            " address, received_at, sha256, size, attributes, state, reason, reason_text, attempts)"
            " VALUES ('1.2.1', '1.2', '', '', '', '', '', '', 0, '', 0, '{}', 'SCORED', '', '', 0)"
        )
        connection.exec_driver_sql(
            "INSERT INTO scores (sop_instance_uid, bundle_digest, calibration_id, preprocessing_id, engine, precision, logit, probability,"
            " saliency, embedding, warnings, scored_at) VALUES ('1.2.1', 'd', 'c', 'p', 'e', 'f32', 0.5, 0.6, '', '', '[]', 7)"
        )


def test_scores_of_the_first_revision_are_kept_and_count_as_made_before_any_activation(empty: sa.Engine):
    made_by_the_first_revision(empty)
    migrations.upgrade(empty)
    again = "INSERT INTO scores (sop_instance_uid, bundle_digest, calibration_id, preprocessing_id, engine, precision, logit, probability,"
    with empty.begin() as connection:
        assert connection.exec_driver_sql("SELECT logit, activation FROM scores").one() == (0.5, 0)
        connection.exec_driver_sql(
            f"{again} saliency, embedding, warnings, scored_at, activation) "
            "VALUES ('1.2.1', 'd', 'c', 'p', 'e', 'f32', 0.5, 0.9, '', '', '[]', 8, 2)"
        )
    with empty.begin() as connection:
        command.downgrade(migrations._config(connection), "0001")
    with empty.begin() as connection:
        assert connection.exec_driver_sql("SELECT probability FROM scores").scalars().all() == [0.9]


def test_what_was_said_of_a_score_outlives_the_way_down_and_up_again(empty: sa.Engine):
    migrations.upgrade(empty)
    scored(empty)
    feedback.say(empty, "1.2.3", "ben", ReaderFinding.PRESENT, NOW, ranked=True)
    for target in ("0005", "head"):
        with empty.begin() as connection:
            (command.downgrade if target == "0005" else command.upgrade)(migrations._config(connection), target)
    assert feedback.standing_of(empty, "1.2.3", "ben") is not None
    assert rows.study(empty, "1.2.3").risk == pytest.approx(0.2)


def test_of_scores_of_other_pixels_only_the_newest_goes_the_way_down(empty: sa.Engine):
    migrations.upgrade(empty)
    scored(empty)
    feedback.say(empty, "1.2.3", "ben", ReaderFinding.PRESENT, NOW, ranked=True)
    with empty.begin() as connection:
        connection.exec_driver_sql("UPDATE instances SET state = 'RECEIVED', pixels_version = 1")
    score_next(empty, 0.7)
    with empty.begin() as connection:
        command.downgrade(migrations._config(connection), "0005")
        assert connection.exec_driver_sql("SELECT probability FROM scores").scalars().all() == [0.7]
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM feedback WHERE score IS NULL").scalar() == 1
