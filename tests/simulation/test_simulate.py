"""`prioritizer simulate` from the command line to the page: where its figures come from, what it says, what it refuses."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner, Result

from prioritizer.cli.app import app
from prioritizer.config.sections import Store
from prioritizer.config.settings import Settings
from prioritizer.db.schema import connect, migrations
from prioritizer.db.schema.tables import instances, scores, studies
from prioritizer.errors import ConfigError, NotFound
from prioritizer.inference.bundle import open_bundle
from prioritizer.queue_simulation.compare import FIFO, STRICT
from prioritizer.queue_simulation.scenario import BinormalModel
from prioritizer.ranking.deadlines import RankingPolicy
from prioritizer.recalibration.effect import ThresholdChange, section
from prioritizer.simulation.run import run
from prioritizer.simulation.site import SimulationRequest

SMALL = ("--days", "1", "--replications", "2", "--reading-minutes", "4.8")
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
BUNDLE = open_bundle(None)


def simulate(*words: str) -> Result:
    return CliRunner().invoke(app, ["simulate", *words])


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(store=Store(data=tmp_path / "var"))


@pytest.fixture
def ledger(settings: Settings) -> Iterator[sa.Engine]:
    engine = connect.open_ledger(settings.database_url)
    migrations.upgrade(engine)
    yield engine
    engine.dispose()


def fill(ledger: sa.Engine, count: int, scored: bool = True) -> None:
    """One study every five minutes up to NOW, every tenth STAT, their logits from -3 to 3."""
    with connect.writing(ledger) as tx:
        for number in range(count):
            uid, at = f"1.2.{number}", NOW - timedelta(minutes=5 * number)
            row = {
                "study_uid": uid,
                "first_received_at": at,
                "last_received_at": at,
                "due_at": at,
                "stat": number % 10 == 0,
                "age_years": 4.0,
            }
            tx.execute(studies.insert().values(**row, deciding_instance=f"{uid}.1" if scored else None))
            image = {
                "sop_instance_uid": f"{uid}.1", "study_uid": uid, "sop_class_uid": "1", "transfer_syntax_uid": "1", "calling_ae": "DX1",
                "called_ae": "P", "received_at": at, "sha256": "0", "size": 1, "attributes": {}, "state": "SCORED",
            }  # fmt: skip
            tx.execute(instances.insert().values(**image))
            score = {
                "sop_instance_uid": f"{uid}.1", "bundle_digest": BUNDLE.digest, "calibration_id": "c", "preprocessing_id": "p",
                "engine": "e", "precision": "f32", "logit": -3 + 6 * number / count, "probability": 0.5, "saliency": b"",
                "embedding": b"", "warnings": [], "scored_at": at,
            }  # fmt: skip
            if scored:
                tx.execute(scores.insert().values(**score))


# --- the command ---------------------------------------------------------------------------------------------------


def test_it_says_in_words_what_the_windows_buy_and_cost_and_what_was_assumed() -> None:
    done = simulate("--rate", "12", *SMALL, "--sensitivity", "0.9", "--specificity", "0.85", "--window", "30/120", "--window", "15/60")
    said = " ".join(done.stdout.split())
    assert done.exit_code == 0
    for window in ("30/120", "15/60"):
        assert re.search(rf"deadlines {window}: a flagged study with pneumonia is read [\d.]+ min (earlier|later) than in order of", said)
    assert "It costs: the longest wait of a study with pneumonia that is not flagged is" in said
    assert "A simulation, not a measurement" in said
    assert "seed 0; the same studies under every way of ordering" in said


def test_the_page_the_csv_and_the_json_hold_the_same_figures(tmp_path: Path) -> None:
    page, table = tmp_path / "out" / "r.html", tmp_path / "out" / "r.csv"
    done = simulate("--rate", "12", *SMALL, "--json", "--report", str(page), "--csv", str(table))
    assert done.exit_code == 0, done.output
    told, beside = json.loads(done.stdout), json.loads(page.with_suffix(".json").read_text())
    assert told["orders"] == beside["orders"]
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    means = {(row["order"], row["class"]): row["mean"] for row in rows if row["figures"] == "as stated"}
    for order in told["orders"]:
        for name, found in order["classes"].items():
            if found["n"]:
                assert means[order["order"], name] == f"{found['mean']['value']:.3f}"
    assert [order["order"] for order in told["orders"]] == [FIFO, STRICT, "deadlines 30/120"]
    assert {row["figures"] for row in rows} == {"as stated", "prevalence -50 %", "prevalence +50 %", "specificity -20 points"}
    text = page.read_text()
    assert text.count("<svg") == 6
    assert "Simulated, not measured" in text
    assert "Assumptions" in text


def test_the_models_figures_come_from_the_card_and_it_says_so() -> None:
    told = json.loads(simulate("--rate", "12", *SMALL, "--json").stdout)
    card = BUNDLE.card["metrics"]["val_report_nih_adults"]
    assert f"sensitivity {card['sensitivity'][0]:.3f}" in told["assumptions"]["model"]
    assert "val_report" in told["assumptions"]["model"]
    assert "assumed" in told["assumptions"]["prevalence"]


def test_a_room_that_cannot_keep_up_is_warned_of() -> None:
    told = json.loads(simulate("--rate", "20", *SMALL, "--json").stdout)
    assert told["load"] > 1
    assert "the list grows without end" in told["warnings"][0]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 5, "one of --rate, --arrivals, --from-ledger"),
        (("--rate", "12", "--arrivals", "x.csv"), 5, "one of --rate, --arrivals, --from-ledger"),
        (("--rate", "12", "--window", "120/30"), 5, "the first must be the shorter"),
        (("--rate", "12", "--sensitivity", "0.9"), 5, "go together"),
        (("--rate", "12", "--prevalence", "8"), 5, "--prevalence is a share"),
        (("--rate", "12", "--by-hour", "1,2"), 5, "24 numbers"),
        (("--rate", "12", "--open", "19-7"), 5, "the earlier first"),
        (("--rate", "12", "--t-high", "0.5"), 5, "use --at-sensitivity"),
        (("--rate", "0"), 5, "--rate must be above 0"),
        (("--rate", "12", "--window", "30"), 2, ""),
        (("--rate", "12", "--open", "7"), 2, ""),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_mend(words: tuple[str, ...], code: int, said: str) -> None:
    done = simulate(*words)
    assert done.exit_code == code
    assert said in " ".join(done.output.split())


def test_a_file_of_arrivals_with_probabilities_is_simulated_at_several_thresholds(tmp_path: Path) -> None:
    file = tmp_path / "arrivals.csv"
    lines = [f"{4 * number},{number % 9 == 0:d},{(number % 10) / 10 + 0.05:.2f}" for number in range(200)]
    file.write_text("arrived_at,stat,probability\n" + "\n".join(lines))
    done = simulate("--arrivals", str(file), "--replications", "2", "--t-high", "0.5", "--t-high", "0.9", "--json")
    told = json.loads(done.stdout)
    half, few = told["orders"][-2:]
    assert (half["order"], few["order"]) == ("deadlines 30/120, t_high 0.5", "deadlines 30/120, t_high 0.9")
    flagged = [sum(order["classes"][f"{kind}, flagged"]["n"] for kind in ("pneumonia", "no pneumonia")) for order in (half, few)]
    assert flagged[0] > 3 * flagged[1] > 0
    assert told["assumptions"]["STAT"].startswith("as recorded")


# --- the ledger ----------------------------------------------------------------------------------------------------


def test_the_ledgers_own_arrivals_are_simulated_with_the_calibration_in_force(ledger: sa.Engine, settings: Settings) -> None:
    fill(ledger, 60)
    outcome = run(settings, ledger, SimulationRequest(from_ledger=True, replications=2), NOW)
    known = outcome.scenario.known
    assert known is not None
    assert known.probabilities is not None
    assert known.stat is not None
    assert (len(known.arrived), known.stat.sum()) == (60, 6)
    assert known.probabilities[-1] == pytest.approx(BUNDLE.calibration.probability(-3.0))
    assert dict(outcome.assumptions)["arrivals"] == "60 arrivals of the ledger, the last 10 days"
    assert BUNDLE.calibration.id in dict(outcome.assumptions)["model"]


def test_a_ledger_without_scores_lends_its_arrivals_alone(ledger: sa.Engine, settings: Settings) -> None:
    fill(ledger, 40, scored=False)
    outcome = run(settings, ledger, SimulationRequest(from_ledger=True, replications=2), NOW)
    assert "binormal" in dict(outcome.assumptions)["model"]


def test_too_few_arrivals_in_the_ledger_are_no_evidence(ledger: sa.Engine, settings: Settings) -> None:
    fill(ledger, 5)
    with pytest.raises(NotFound, match="5 arrivals of the last 10 days, 30 are needed"):
        run(settings, ledger, SimulationRequest(from_ledger=True), NOW)


def test_thresholds_of_known_probabilities_are_probabilities(ledger: sa.Engine, settings: Settings) -> None:
    fill(ledger, 40)
    with pytest.raises(ConfigError, match="use --t-high"):
        run(settings, ledger, SimulationRequest(from_ledger=True, at_sensitivity=(0.9,)), NOW)


# --- beside a recalibration ----------------------------------------------------------------------------------------


def test_the_effect_of_a_new_threshold_is_one_section_on_the_same_studies() -> None:
    change = ThresholdChange(
        before=BinormalModel(sensitivity=0.5, specificity=0.99), after=BinormalModel(sensitivity=0.9, specificity=0.8), prevalence=0.1
    )
    found = section(change, RankingPolicy(), [], [])
    rows = {str(row[0]).replace("\N{NO-BREAK SPACE}", " "): row for row in found.tables[0].rows}
    assert found.title == "Simulated effect"
    assert list(rows) == [FIFO, "before: sensitivity 0.50, specificity 0.99", "proposed: sensitivity 0.90, specificity 0.80"]
    raised = [float(str(row[1]).rstrip("%")) for row in rows.values()]
    assert raised[0] == 0 < raised[1] < raised[2]
    assert "Assumed: 12 drawn arrivals an hour, 1 reader(s)" in found.text[0]


def test_the_sites_own_arrivals_are_taken_where_there_are_enough() -> None:
    point = BinormalModel(sensitivity=0.9, specificity=0.8)
    moments = [NOW + timedelta(minutes=2 * number) for number in range(400)]
    found = section(ThresholdChange(before=point, after=point, prevalence=0.1), RankingPolicy(), moments, [False] * 400)
    assert "400 arrivals of the ledger" in found.text[0]
    before, proposed = found.tables[0].rows[1:]
    assert before[1:] == proposed[1:]
