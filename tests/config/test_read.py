"""A wrong configuration is refused with every fault, its line and the nearest right word."""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from prioritizer.cli.init import InitAnswers, title_at_host, write_configuration
from prioritizer.config.read import read_settings
from prioritizer.config.sections import UNNAMED
from prioritizer.config.settings import Settings
from prioritizer.config.template import TABLES, configuration_text
from prioritizer.errors import ConfigError
from prioritizer.ranking.deadlines import Stage

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch):
    for name in list(os.environ):
        if name.startswith("PRIORITIZER_") and "__" in name:
            monkeypatch.delenv(name)


def read(folder: Path, text: str) -> Settings:
    file = folder / "p.toml"
    file.write_text(text, encoding="utf-8")
    return read_settings(file)


def faults(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    return [fault.removeprefix(str(folder) + "/") for fault in caught.value.faults]


def test_an_empty_file_is_the_defaults(tmp_path: Path):
    assert read(tmp_path, "") == Settings().model_copy(update={"store": Settings().store.model_copy(update={"data": tmp_path / "var"})})


def test_the_daemon_begins_in_shadow_on_loopback(tmp_path: Path):
    settings = read(tmp_path, "")
    assert settings.site.stage is Stage.SHADOW
    assert settings.listener.host == settings.web.host == "127.0.0.1"
    assert settings.peers == ()


def test_folders_are_relative_to_the_file(tmp_path: Path):
    settings = read(tmp_path, '[store]\ndata = "d"\n[model]\nbundle = "b"\n')
    assert settings.spool_folder == tmp_path / "d" / "spool"
    assert settings.database_url == f"sqlite:///{tmp_path}/d/ledger.sqlite3"
    assert settings.model.bundle == tmp_path / "b"


def test_a_database_url_wins_over_the_folder(tmp_path: Path):
    assert read(tmp_path, '[store]\nurl = "postgresql://h/d"\n').database_url == "postgresql://h/d"


def test_the_environment_overrides_one_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PRIORITIZER_WEB__PORT", "9000")
    settings = read(tmp_path, '[web]\nport = 8000\ntime_zone = "Europe/Berlin"\n')
    assert (settings.web.port, settings.web.time_zone) == (9000, "Europe/Berlin")


def test_a_fault_in_the_environment_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PRIORITIZER_WEB__PORT", "70000")
    (fault,) = faults(tmp_path, "[web]\nport = 8000\n")
    assert fault.startswith("PRIORITIZER_WEB__PORT: web.port: ")


@pytest.mark.parametrize(
    ("text", "kind", "population"),
    [
        ("", "enforce", "until-calibrated"),
        ('likeness = "flag"', "flag", "flag"),
        ('likeness = "off"\nimage_kind = "enforce"', "enforce", "off"),
        ('likeness = "flag"\nout_of_distribution = "until-calibrated"', "flag", "until-calibrated"),
        ('likeness = ""', "enforce", "until-calibrated"),
    ],
)
def test_the_old_key_of_the_guard_sets_each_part_that_is_not_set_itself(tmp_path: Path, text: str, kind: str, population: str):
    scope = read(tmp_path, f"[scope]\n{text}\n").scope
    assert (scope.image_kind, scope.out_of_distribution) == (kind, population)


def test_a_wrong_word_for_the_old_key_is_told_where_it_stands(tmp_path: Path):
    (fault,) = faults(tmp_path, '[scope]\nlikeness = "sometimes"\n')
    assert "scope.likeness" in fault
    assert ":2" in fault


def test_settings_are_frozen(tmp_path: Path):
    with pytest.raises(ValueError, match="frozen"):
        read(tmp_path, "").web.port = 1  # type: ignore[misc]


# --- faults --------------------------------------------------------------------------------------------------------


def test_an_unknown_key_is_told_with_its_line_and_the_nearest_name(tmp_path: Path):
    assert faults(tmp_path, '# first\n[listener]\nport = 1\nae_titel = "X"\n') == [
        "p.toml:4: listener.ae_titel: unknown key; did you mean 'ae_title'?"
    ]


def test_an_unknown_table_is_told_with_its_line(tmp_path: Path):
    assert faults(tmp_path, "[lisener]\nport = 1\n") == ["p.toml:1: lisener: unknown key; did you mean 'listener'?"]


def test_a_key_like_no_other_is_answered_with_the_known_ones(tmp_path: Path):
    (fault,) = faults(tmp_path, "[log]\nxyzzy = 1\n")
    assert fault == "p.toml:2: log.xyzzy: unknown key; known: format, level"


def test_a_fault_in_the_second_peer_has_its_line(tmp_path: Path):
    text = '[[peers]]\nae_title = "A"\nhost = "h"\n\n[[peers]]\nae_title = "B"\nhots = "h"\n'
    assert faults(tmp_path, text) == [
        "p.toml:5: peers.1.host: Field required",
        "p.toml:7: peers.1.hots: unknown key; did you mean 'host'?",
    ]


def test_all_faults_are_told_together(tmp_path: Path):
    text = '[listener]\nport = 70000\n[web]\nprot = 1\n[ranking]\nmax_high_share = 2\n[site]\nstage = "live"\n'
    found = faults(tmp_path, text)
    assert [fault.split(": ")[0] for fault in sorted(found)] == ["p.toml:2", "p.toml:4", "p.toml:6", "p.toml:8"]


@pytest.mark.parametrize("title", ["", "A" * 17, " PACS", "PACS ", "PA\\CS", "PÄCS", "PA\tCS"])
def test_an_impossible_ae_title_is_a_fault(tmp_path: Path, title: str):
    (fault,) = faults(tmp_path, f"[listener]\nae_title = {json.dumps(title)}\n")
    assert fault.startswith("p.toml:2: listener.ae_title: ")


@pytest.mark.parametrize("title", ["A", "A" * 16, "PACS 1", "x-y_z.1"])
def test_an_ae_title_has_up_to_sixteen_characters(tmp_path: Path, title: str):
    assert read(tmp_path, f'[listener]\nae_title = "{title}"\n').listener.ae_title == title


def test_text_that_is_no_toml_is_told_with_its_line(tmp_path: Path):
    (fault,) = faults(tmp_path, "[site]\nname = \n")
    assert "not valid TOML" in fault
    assert "line 2" in fault


def test_bytes_that_are_no_text_are_a_fault(tmp_path: Path):
    (tmp_path / "p.toml").write_bytes(b"[site]\nname = '\xff'\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        read_settings(tmp_path / "p.toml")


def test_a_missing_file_tells_of_init(tmp_path: Path):
    with pytest.raises(ConfigError, match="prioritizer init"):
        read_settings(tmp_path / "none.toml")


DESTINATION = '[[destinations]]\nname = "{name}"\nae_title = "PACS"\nhost = "{host}"\nport = {port}\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[listener]\nhost = "0.0.0.0"\n', "p.toml:2: listener.host is not loopback and no [[peers]] is listed"),
        ('[web]\nhost = "0.0.0.0"\n', "p.toml:2: web.host is not loopback: passwords would cross the network in clear"),
        ('[web]\nauth = "proxy"\n', "p.toml:2: web.auth is proxy and behind_proxy is not set"),
        ('[web]\nhost = "0.0.0.0"\nbehind_proxy = true\ntls_key = "p.toml"\n', "p.toml:1: web.tls_certificate and web.tls_key go together"),
        ("[ranking]\nhigh_minutes = 120\n", "p.toml:2: ranking.high_minutes must be below neutral_minutes"),
        ("[ranking]\nlow_minutes = 60\n", "p.toml:2: ranking.low_minutes must not be below neutral_minutes"),
        ("[publish]\nceiling_seconds = 30\n", "p.toml:2: publish.ceiling_seconds must not be below quiet_seconds"),
        (DESTINATION.format(name="a", host="127.0.0.1", port=11112), "p.toml:2: destination 'a' is our own listener"),
        (DESTINATION.format(name="a", host="localhost", port=11112), "p.toml:2: destination 'a' is our own listener"),
        (2 * DESTINATION.format(name="a", host="pacs", port=104), "p.toml:7: destinations: the name 'a' is used twice"),
        (
            '[listener]\nhost = "0.0.0.0"\n[[peers]]\nae_title = "A"\nhost = "*"\n' + DESTINATION.format(name="a", host="::1", port=11112),
            "p.toml:7: destination 'a' is our own listener",
        ),
    ],
)
def test_what_must_not_be_started_is_told_with_its_line(tmp_path: Path, text: str, said: str):
    (fault,) = faults(tmp_path, text)
    assert fault.startswith(said)


def test_a_pacs_on_this_machine_with_another_port_is_fine(tmp_path: Path):
    assert read(tmp_path, DESTINATION.format(name="a", host="127.0.0.1", port=4242)).destinations[0].port == 4242


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader_otherwise(tmp_path_factory: pytest.TempPathFactory, text: str):
    file = tmp_path_factory.mktemp("config") / "p.toml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with suppress(ConfigError):
        assert isinstance(read_settings(file), Settings)


# --- the template ----------------------------------------------------------------------------------------------------


def sections() -> list[tuple[str, type[BaseModel]]]:
    return [(name, TABLES.get(name) or field.annotation) for name, field in Settings.model_fields.items()]


@pytest.mark.parametrize(("name", "model"), sections())
def test_every_key_says_what_it_is(name: str, model: type[BaseModel]):
    assert [key for key, field in model.model_fields.items() if not field.description] == []


def test_the_shipped_file_is_the_template():
    assert (CHECKOUT / "config" / "prioritizer.toml").read_text(encoding="utf-8") == configuration_text({})


def test_the_template_is_the_defaults(tmp_path: Path):
    assert read(tmp_path, configuration_text({})) == read(tmp_path, "")


def uncommented(text: str) -> str:
    """The template with every offered key switched on; the example tables stay comments."""
    lines, in_tables = [], False
    for line in text.splitlines():
        in_tables = line.startswith("# [[") or (in_tables and line.startswith("# "))
        offered = re.match(r"# ([a-z_]+ = .*)$", line)
        lines.append(offered.group(1) if offered and not in_tables else line)
    return "\n".join(lines)


def test_every_offered_key_has_the_default_it_shows(tmp_path: Path):
    text = uncommented(configuration_text({}))
    plain = {name: model for name, model in sections() if name not in TABLES}
    assert {name: set(table) for name, table in tomllib.loads(text).items()} == {n: set(m.model_fields) for n, m in plain.items()}
    assert read(tmp_path, text) == read(tmp_path, "")


@given(st.text(min_size=1, max_size=64))
def test_any_site_name_comes_back_from_the_file(name: str):
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    if "\x7f" in name:
        return
    assert tomllib.loads(configuration_text({"site": {"name": name}}))["site"]["name"] == name


# --- init ------------------------------------------------------------------------------------------------------------


def answers(**values: object) -> InitAnswers:
    usual = {
        "site": "Ward 7",
        "ae_title": "PRIO",
        "port": 11113,
        "peers": ("DX1@192.0.2.3",),
        "pacs": "PACS@192.0.2.9:104",
        "data": Path("data"),
    }
    return InitAnswers(**(usual | values))


def test_init_writes_what_was_answered(tmp_path: Path):
    write_configuration(tmp_path / "p.toml", answers())
    settings = read_settings(tmp_path / "p.toml")
    assert (settings.listener.ae_title, settings.listener.port, settings.listener.host) == ("PRIO", 11113, "0.0.0.0")
    assert [(p.ae_title, p.host) for p in settings.peers] == [("DX1", "192.0.2.3")]
    assert [(d.name, d.ae_title, d.host, d.port) for d in settings.destinations] == [("pacs", "PACS", "192.0.2.9", 104)]
    assert settings.store.data == tmp_path / "data"
    assert settings.site.name == "Ward 7"


def test_init_without_a_name_leaves_it_to_be_given(tmp_path: Path):
    write_configuration(tmp_path / "p.toml", answers(site=""))
    assert read_settings(tmp_path / "p.toml").site.name == UNNAMED


def test_init_without_peers_listens_on_loopback_only(tmp_path: Path):
    write_configuration(tmp_path / "p.toml", answers(peers=(), pacs=""))
    assert read_settings(tmp_path / "p.toml").listener.host == "127.0.0.1"


def test_init_lets_the_user_of_the_service_read_the_file_and_only_the_owner_write_it(tmp_path: Path):
    write_configuration(tmp_path / "p.toml", answers())
    assert stat.S_IMODE((tmp_path / "p.toml").stat().st_mode) == 0o644


def test_init_overwrites_nothing(tmp_path: Path):
    (tmp_path / "p.toml").write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        write_configuration(tmp_path / "p.toml", answers())
    assert (tmp_path / "p.toml").read_text() == "mine"


def test_init_into_a_missing_folder_says_so(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be written"):
        write_configuration(tmp_path / "none" / "p.toml", answers())


def test_init_leaves_no_file_that_would_not_start(tmp_path: Path):
    with pytest.raises(ConfigError):
        write_configuration(tmp_path / "p.toml", answers(port=70000))
    assert not (tmp_path / "p.toml").exists()


@pytest.mark.parametrize("text", ["", "PACS", "PACS@", "@host:1", "PACS@host", "PACS@host:port", "A" * 17 + "@host:1"])
def test_a_pacs_that_is_not_understood_is_answered_with_an_example(text: str):
    with pytest.raises(ConfigError, match=r"write it like PACS@192\.0\.2\.9:104"):
        title_at_host(text, with_port=True)


def test_init_keeps_the_data_of_a_service_in_its_state_folder(tmp_path: Path) -> None:
    from prioritizer.cli.init import data_beside

    assert data_beside(Path("/etc/prioritizer/prioritizer.toml")) == Path("/var/lib/prioritizer")
    assert data_beside(tmp_path / "prioritizer.toml") == Path("var")
