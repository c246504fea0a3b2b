"""The command line's contract: exit codes, streams, JSON, and the words that name the mend."""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from prioritizer.imaging import phantoms
from tests.support.daemons import (
    Daemon,
    free_port,
    phantom,
    phantom_study_uid,
    prioritizer,
    running_daemon,
    sections,
    sends,
    storescu,
    toml,
    wait_until,
)

NUMBERS = itertools.count(501)
FIELDS = {"file", "state", "reason", "logit", "probability", "band"}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with one read study, and a destination on a port where `demo` may play the PACS."""
    with running_daemon(tmp_path_factory.mktemp("cli"), sections(free_port(), "DEMOPACS")) as process:
        yield process


@pytest.fixture(scope="module")
def scored(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A scored study's UID."""
    number = next(NUMBERS)
    sends(daemon, phantom(tmp_path_factory.mktemp("film"), number))
    daemon.wait_scored(phantom_study_uid(number))
    return phantom_study_uid(number)


def test_requeue_all_takes_every_failed_image_and_wants_no_study_beside_it(daemon: Daemon, tmp_path: Path) -> None:
    number = next(NUMBERS)
    sends(daemon, phantom(tmp_path, number, changes={"PhotometricInterpretation": "PALETTE COLOR"}))
    study = phantom_study_uid(number)
    failed = lambda: [row for row in json.loads(daemon.cli("status", "--json").stdout)["failed"] if row["study_uid"] == study]  # noqa: E731
    wait_until(failed, "the image in colours has failed")
    done = daemon.cli("requeue", "--all")
    assert (done.returncode, "images will be scored again" in done.stderr) == (0, True)
    assert "to be scored again" in daemon.cli("worklist", "--why", study).stdout
    assert daemon.cli("requeue").returncode == daemon.cli("requeue", study, "--all").returncode == 2
    wait_until(failed, "it has failed again, for the same reason")


# --- exit codes and streams --------------------------------------------------------------------------------------


def test_a_study_that_is_not_there_exits_3_in_every_verb(daemon: Daemon, scored: str) -> None:
    verbs = (("worklist", "--why", "1.2.3"), ("claim", "1.2.3"), ("mark-read", "1.2.3"), ("pin", "1.2.3"), ("requeue", "1.2.3"))
    for verb in verbs:
        done = daemon.cli(*verb)
        assert (verb, done.returncode, done.stdout) == (verb, 3, "")
        assert "1.2.3" in done.stderr


def test_what_the_state_does_not_allow_exits_4_with_the_reason(daemon: Daemon, scored: str) -> None:
    for verb in (("claim", scored, "--release"), ("pin", scored, "--remove"), ("requeue", scored)):
        done = daemon.cli(*verb)
        assert (verb, done.returncode, done.stdout) == (verb, 4, "")
        assert done.stderr.strip()


def test_a_wrong_command_line_exits_2(daemon: Daemon) -> None:
    assert daemon.cli("worklist", "--view", "nowhere").returncode == 2
    assert prioritizer("no-such-verb", cwd=daemon.folder).returncode == 2


def test_errors_are_json_on_standard_output_where_json_is_asked(daemon: Daemon, scored: str) -> None:
    done = daemon.cli("worklist", "--why", "1.2.3", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"]["code"] == "PRI-6001"


def test_a_faulty_configuration_exits_5_and_names_every_line_and_the_nearest_key(tmp_path: Path) -> None:
    config = tmp_path / "faulty.toml"
    config.write_text('[site]\nstage = "activ"\n\n[rankin]\nhigh_minutes = 3\n\n[web]\nprot = 80\n')
    done = prioritizer("check", "--config", str(config), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (5, "")
    said = done.stderr
    for line, text in ((2, "site.stage"), (4, "did you mean 'ranking'?"), (8, "did you mean 'port'?")):
        assert re.search(rf"faulty\.toml:{line}: .*{re.escape(text)}", said), (text, said)
    as_json = prioritizer("check", "--config", str(config), "--json", cwd=tmp_path)
    assert (as_json.returncode, json.loads(as_json.stdout)["error"]["code"]) == (5, "PRI-1001")


def test_a_configuration_that_is_not_there_exits_5_and_names_init(tmp_path: Path) -> None:
    done = prioritizer("worklist", "--config", str(tmp_path / "none.toml"), cwd=tmp_path)
    assert (done.returncode, "prioritizer init" in done.stderr) == (5, True)


def test_without_a_terminal_nothing_is_coloured(daemon: Daemon, scored: str) -> None:
    for environment in ({}, {"NO_COLOR": "1"}):
        for verb in (("worklist",), ("status",), ("worklist", "--why", scored)):
            assert "\x1b[" not in daemon.cli(*verb, **environment).stdout


def test_no_color_is_honoured_where_colour_would_be_forced(daemon: Daemon, scored: str) -> None:
    assert not re.search(r"\x1b\[\d*;?3[0-7]m", daemon.cli("worklist", NO_COLOR="1", FORCE_COLOR="1").stdout)


def test_the_list_is_the_same_in_each_form(daemon: Daemon, scored: str) -> None:
    rows = daemon.cli_json("worklist")
    table = daemon.cli("worklist").stdout
    header, *lines = daemon.cli("worklist", "--csv").stdout.splitlines()
    assert [line.split(",")[0] for line in lines] == [row["study_uid"] for row in rows]
    assert header.startswith("study_uid,")
    assert scored[-10:] in table


def test_the_end_of_a_uid_and_the_accession_number_name_a_study(daemon: Daemon, scored: str) -> None:
    accession = next(row["accession_number"] for row in daemon.listed() if row["study_uid"] == scored)
    for name in (scored[-12:], accession):
        assert daemon.cli_json("worklist", "--why", name)["study"]["study_uid"] == scored


def test_status_says_when_nothing_is_wrong(tmp_path: Path) -> None:
    config = tmp_path / "prioritizer.toml"
    config.write_text(toml(sections()))
    assert prioritizer("migrate", "--config", str(config), cwd=tmp_path).returncode == 0
    done = prioritizer("status", "--config", str(config), cwd=tmp_path)
    assert (done.returncode, "no daemon runs" in done.stdout) == (0, True)
    with running_daemon(tmp_path, sections()) as running:
        wait_until(lambda: "Nothing needs you." in running.cli("status").stdout, "nothing needs anybody")


def test_every_verb_has_a_help_that_teaches(tmp_path: Path) -> None:
    told = prioritizer("--help", cwd=tmp_path)
    verbs = ("serve", "check", "migrate", "init", "worklist", "status", "claim", "mark-read", "pin", "requeue", "score", "send", "demo")
    assert told.returncode == 0
    assert all(verb in told.stdout for verb in verbs)


# --- init, check -------------------------------------------------------------------------------------------------


def test_init_writes_a_configuration_that_check_proves(tmp_path: Path) -> None:
    answers = (
        "--site",
        "Ward 7",
        "--ae-title",
        "TRIAGE",
        "--port",
        str(free_port()),
        "--peer",
        "DX1@127.0.0.1",
        "--pacs",
        "",
        "--data",
        "kept",
    )
    done = prioritizer("init", "site.toml", *answers, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    written = tomllib.loads((tmp_path / "site.toml").read_text())
    assert (written["site"]["name"], written["listener"]["ae_title"]) == ("Ward 7", "TRIAGE")
    checked = prioritizer("check", "--config", "site.toml", "--json", cwd=tmp_path)
    proofs = json.loads(checked.stdout)
    assert [proof for proof in proofs if not proof["ok"]] == []
    assert checked.returncode == 0
    assert {"configuration", "disk", "database", "codecs", "bundle", "self-test"} <= {proof["what"] for proof in proofs}


def test_check_warns_of_a_site_without_name_configuration_or_calibration_of_its_own(tmp_path: Path) -> None:
    def warned(*arguments: str) -> dict[str, str]:
        proofs = json.loads(prioritizer("check", *arguments, "--json", cwd=tmp_path).stdout)
        return {proof["what"]: proof["said"] for proof in proofs if proof["warning"]}

    found = warned()
    assert "no file was found" in found["configuration"]
    assert "UID of every result" in found["site"]
    config = tmp_path / "named.toml"
    tables = sections() | {"scope": {}}
    config.write_text(toml(tables))
    assert prioritizer("migrate", "--config", str(config), cwd=tmp_path).returncode == 0
    found = warned("--config", str(config))
    assert "images unlike the training data are not scored" in found["calibration"]
    assert not {"configuration", "site"} & found.keys()
    config.write_text(toml(tables | {"scope": {"out_of_distribution": "flag"}}))
    assert "calibration" not in warned("--config", str(config))


def test_a_verb_that_found_no_configuration_says_so(tmp_path: Path) -> None:
    done = prioritizer("status", cwd=tmp_path)
    assert "no configuration was found" in done.stderr


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text("# mine")
    done = prioritizer("init", "site.toml", cwd=tmp_path)
    assert (done.returncode, (tmp_path / "site.toml").read_text()) == (5, "# mine")


def test_check_exits_1_when_a_destination_does_not_answer_and_names_the_mend(tmp_path: Path) -> None:
    config = tmp_path / "prioritizer.toml"
    config.write_text(toml(sections(free_port())))
    done = prioritizer("check", "--config", str(config), cwd=tmp_path)
    assert done.returncode == 1
    assert re.search(r"FAULT +destination pacs: ORTHANC@127\.0\.0\.1:\d+.*\n +-> ", done.stdout)


# --- score -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a phantom as DICOM, as PNG, and a file that is neither."""
    folder = tmp_path_factory.mktemp("films")
    phantom(folder, 1).rename(folder / "film.dcm")
    grey = phantoms.stored_pixels(256, 224, bits=8, opacity=False, seed=1)
    Image.fromarray(grey.astype(np.uint8)).save(folder / "film.png")
    (folder / "garbage.dcm").write_bytes(b"no DICOM at all" * 100)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tmp_path_factory.mktemp("site") / "prioritizer.toml"
    config.write_text(toml(sections()))
    return config


def score(site: Path, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    done = prioritizer("score", "--config", str(site), "--json", *arguments, cwd=site.parent)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_a_folder_is_scored_one_object_a_line(site: Path, films: Path) -> None:
    code, answers = score(site, "--ignore-scope", str(films))
    assert all(set(answer) >= FIELDS for answer in answers)
    states = {Path(answer["file"]).name: answer["state"] for answer in answers}
    assert states == {"film.dcm": "scored", "film.png": "scored", "garbage.dcm": "not_scored"}
    scored = [answer for answer in answers if answer["state"] == "scored"]
    assert all(0 <= answer["probability"] <= 1 and answer["band"] in ("HIGH", "NEUTRAL", "LOW") for answer in scored)
    (unread,) = [answer for answer in answers if answer["state"] == "not_scored"]
    assert (unread["probability"], unread["reason"].startswith("unreadable")) == (None, True)
    assert code == 1


def test_a_picture_without_header_is_not_scored_unless_the_scope_is_ignored(site: Path, films: Path) -> None:
    code, (answer,) = score(site, str(films / "film.png"))
    assert (code, answer["state"], "--ignore-scope" in answer["reason"]) == (0, "not_scored", True)


def test_an_overlay_is_written(site: Path, films: Path, tmp_path: Path) -> None:
    target = tmp_path / "overlay.png"
    code, (answer,) = score(site, str(films / "film.dcm"), "--overlay", str(target))
    assert (code, answer["state"]) == (0, "scored")
    with Image.open(target) as opened:
        assert min(opened.size) > 200


def test_score_of_a_file_that_is_not_there_exits_3(site: Path, tmp_path: Path) -> None:
    done = prioritizer("score", "--config", str(site), str(tmp_path / "none.dcm"), cwd=tmp_path)
    assert done.returncode == 3


def test_the_file_and_the_daemon_give_the_same_probability(daemon: Daemon, site: Path, tmp_path: Path) -> None:
    number = next(NUMBERS)
    film = phantom(tmp_path, number)
    sends(daemon, film)
    daemon.wait_scored(phantom_study_uid(number))
    _, (answer,) = score(site, str(film))
    row = daemon.row(phantom_study_uid(number))
    assert row is not None
    assert answer["probability"] == pytest.approx(row["risk"], abs=1e-4)


# --- send, refusals, demo ----------------------------------------------------------------------------------------


def test_send_stores_what_is_readable_and_says_of_the_rest_why_not(daemon: Daemon, tmp_path: Path) -> None:
    phantom(tmp_path, next(NUMBERS))
    (tmp_path / "readme.txt").write_text("no DICOM")
    done = daemon.cli_send(tmp_path)
    told = {Path(line["file"]).suffix: line for line in map(json.loads, done.stdout.splitlines())}
    assert (told[".dcm"]["stored"], told[".txt"]["stored"], done.returncode) == (True, False, 1)
    assert told[".txt"]["said"]


def test_send_understands_no_address_without_a_port(tmp_path: Path) -> None:
    done = prioritizer("send", str(tmp_path), "--to", "PACS", cwd=tmp_path)
    assert (done.returncode, "PACS@192.0.2.9:104" in done.stderr) == (5, True)


def test_the_toml_that_status_shows_for_a_refused_peer_admits_it(tmp_path: Path) -> None:
    film = phantom(tmp_path, next(NUMBERS))
    with running_daemon(tmp_path, sections()) as daemon:
        assert not any(storescu(daemon, film, calling="NEW_DX").values())

        def refusal() -> list[str]:
            refusals = daemon.cli_json("status")["refusals"]
            return [notice["toml"] for notice in refusals if notice["kind"] == "refused-association" and notice["toml"]]

        (pasted,) = wait_until(refusal, "the refusal is recorded")
        assert pasted in daemon.cli("status").stdout
        assert daemon.stop() == 0
        daemon.sections["peers"] += tomllib.loads(pasted)["peers"]
        daemon.start()
        sends(daemon, film, calling="NEW_DX")


def test_demo_against_no_daemon_exits_6_and_says_how_to_start_one(site: Path) -> None:
    told = sections(free_port(), "DEMOPACS")
    config = site.parent / "demo.toml"
    config.write_text(toml(told))
    assert prioritizer("migrate", "--config", str(config), cwd=site.parent).returncode == 0
    port = str(told["destinations"][0]["port"])
    done = prioritizer("demo", "--config", str(config), "--pacs-port", port, cwd=site.parent)
    assert (done.returncode, "make run" in done.stderr) == (6, True)


def test_demo_shows_the_list_the_reasons_and_the_overlays_that_came_back(tmp_path: Path) -> None:
    told = sections(free_port(), "DEMOPACS", peers=[{"ae_title": "*", "host": "127.0.0.1"}])
    with running_daemon(tmp_path, told) as daemon:
        port = str(told["destinations"][0]["port"])
        done = daemon.cli("demo", "--studies", "3", "--pacs-port", port, "--keep", "came-back")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "scored by bundle" in done.stdout
        assert len(list((tmp_path / "came-back").iterdir())) == 3
