"""Nothing that a library or an exception says of a data set reaches the log: types and places do."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prioritizer.daemon.log_format import JsonLines
from prioritizer.errors import Transient
from prioritizer.redaction.exceptions import MAX_FRAMES, trace_of
from prioritizer.redaction.log_records import Discreet

MARK = "Mustermann^Anneliese"


def raised(depth: int = 0) -> Exception:
    def fall(left: int) -> None:
        if left:
            fall(left - 1)
        raise ValueError(f"could not convert string to float: {MARK!r}")

    try:
        try:
            fall(depth)
        except ValueError as error:
            raise KeyError(MARK) from error
    except KeyError as error:
        return error


@pytest.mark.parametrize("formatter", [Discreet("%(levelname)s %(name)s: %(message)s"), JsonLines()], ids=["text", "json"])
@pytest.mark.parametrize("name", ["prioritizer.daemon.worker", "PIL.Image", "py.warnings", "asyncio", "sqlalchemy.engine"])
def test_an_exception_is_logged_as_type_and_place(formatter: logging.Formatter, name: str):
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    log = logging.getLogger(name)
    log.handlers, log.propagate = [handler], False
    error = raised()
    log.error("it failed", exc_info=error)
    log.error("it failed: %s", error)
    log.error(error)
    log.error("told: %s", [MARK] if name != "prioritizer.daemon.worker" else "a sentence of ours", stack_info=True)
    log.handlers, log.propagate = [], True
    said = stream.getvalue()
    assert MARK not in said
    assert "KeyError at redaction/test_log_records:" in said
    assert "from ValueError at" in said


def test_a_sentence_of_ours_is_logged_as_it_is():
    record = logging.makeLogRecord(
        {"name": "prioritizer.daemon.worker", "msg": "%s: %s", "args": ("pacs", Transient("pacs cannot be reached"))}
    )
    assert json.loads(JsonLines().format(record))["said"] == "pacs: pacs cannot be reached"
    record = logging.makeLogRecord({"name": "prioritizer", "msg": "%(one)s studies", "args": {"one": 3}})
    assert Discreet("%(message)s").format(record) == "3 studies"


@given(st.integers(0, 40))
def test_a_trace_is_bounded(depth: int):
    assert trace_of(raised(depth)).count(":") <= 3 * MAX_FRAMES


def test_a_circle_of_causes_ends():
    one, other = ValueError(MARK), KeyError(MARK)
    one.__cause__, other.__cause__ = other, one
    assert MARK not in trace_of(one)


SPEAKING = f"""
import logging, threading, warnings
from prioritizer.config.settings import Settings
from prioritizer.daemon.log_format import set_up_logging
set_up_logging(Settings(log={{"format": FORMAT}}))
def fall():
    raise ValueError("{MARK}")
thread = threading.Thread(target=fall)
thread.start(); thread.join()
warnings.warn("{MARK}")
logging.getLogger("pydicom").error("{MARK}")
logging.getLogger("pynetdicom.assoc").exception("{MARK}")
logging.getLogger("PIL").warning("%s", "{MARK}")
logging.getLogger("prioritizer").info("%d", "{MARK}")
class Fallen:
    def __del__(self):
        fall()
Fallen()
fall()
"""


@pytest.mark.parametrize("form", ["text", "json"])
def test_whatever_speaks_on_standard_error_of_the_daemon_names_no_patient(form: str):
    code = SPEAKING.replace("FORMAT", repr(form))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 1
    assert "Mustermann" not in done.stderr + done.stdout
    for said in ("an exception ended the thread", "an exception ended the process", "UserWarning at", "could not be raised: ValueError"):
        assert said in done.stderr


def test_a_fault_that_a_verb_meets_is_told_without_its_text(capsys: pytest.CaptureFixture[str]):
    import typer

    from prioritizer.cli.exit_codes import verb

    @verb
    def serve() -> None:
        raise raised()

    with pytest.raises(typer.Exit):
        serve()
    told = capsys.readouterr()
    assert "Mustermann" not in told.out + told.err
    assert "KeyError at" in told.err
