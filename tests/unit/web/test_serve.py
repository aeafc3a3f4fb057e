"""`storestow serve`: what it refuses to begin with, its key, what `check` says of it, and how it ends."""

import contextlib
import http.client
import json
import signal
import socket
import sqlite3
import time
from statistics import median

import pytest
import requests
from support.machine.dicom_programs import free_port, listens, running, wait_until
from support.sites.running_site import COMMAND
from support.sites.shim_site import KEY, settings_of

from pipeline.errors import Configuration
from pipeline.ledger import open_ledger
from pipeline.web import serve
from pipeline.web.api_key import VARIABLE, ApiKeys, keyring_of
from pipeline.web.serve import require_key_or_loopback
from pipeline.web.shim_site import opened
from pipeline.web.site_checks import looked_at

PRINT = "/api/iso/print?accession_number=A1"


@pytest.fixture(autouse=True)
def _no_key_of_the_machine(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.0.0.53"])
def test_without_a_key_the_shim_listens_to_this_machine_alone(tmp_path, host):
    require_key_or_loopback(settings_of(tmp_path, shim={"api_key": "", "host": host}))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
def test_without_a_key_it_does_not_begin_to_listen_to_others(tmp_path, host):
    with pytest.raises(Configuration) as error:
        require_key_or_loopback(settings_of(tmp_path, shim={"api_key": "", "host": host}))
    assert VARIABLE in str(error.value)
    require_key_or_loopback(settings_of(tmp_path, shim={"host": host}))
    require_key_or_loopback(settings_of(tmp_path, shim={"api_key": "", "host": host, "public_without_key": True}))


def test_the_environment_wins_over_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "from-the-environment")
    assert keyring_of(settings_of(tmp_path)).key == "from-the-environment"
    monkeypatch.setenv(VARIABLE, "")
    assert keyring_of(settings_of(tmp_path)).key == KEY


@pytest.mark.parametrize("key", ["with blank", "with\nbreak", "clé", "\x7f"])
def test_a_key_no_header_can_carry_is_a_mistake_in_the_configuration(tmp_path, key):
    with pytest.raises(Configuration):
        keyring_of(settings_of(tmp_path, shim={"api_key": key}))


@pytest.mark.parametrize(
    ("headers", "opens"),
    [
        ({"x-api-key": KEY}, True),
        ({"authorization": f"Bearer {KEY}"}, True),
        ({"authorization": f"bearer  {KEY} "}, True),
        ({"x-api-key": "wrong", "authorization": f"Bearer {KEY}"}, True),
        ({"authorization": KEY}, False),
        ({"x-api-key": KEY[:-1]}, False),
        ({"x-api-key": KEY + "\xe9"}, False),
        ({"x-api-key": ""}, False),
        ({}, False),
    ],
)
def test_the_key_opens_and_nothing_else_does(headers, opens):
    assert ApiKeys(KEY).opens(headers) == opens


def test_a_site_without_a_key_is_opened_by_no_empty_key():
    assert not ApiKeys("").opens({"x-api-key": ""})
    assert not ApiKeys("").opens({})


def test_a_key_is_not_printed():
    assert KEY not in repr(ApiKeys(KEY))


def said(settings):
    return [f"{level} {text}" for level, text in looked_at(settings)]


def test_check_says_each_time_that_everybody_may_have_every_study(tmp_path):
    shim = {"api_key": "", "host": "0.0.0.0", "public_without_key": True}
    for _ in range(2):
        assert any(line.startswith("note public_without_key") for line in said(settings_of(tmp_path, shim=shim)))


@pytest.mark.parametrize(
    ("tables", "sentence"),
    [
        ({"shim": {"api_key": "", "host": "0.0.0.0"}}, "error [shim] listens on 0.0.0.0 without a key"),
        ({"shim": {"api_key": ""}}, "note no key"),
        ({"shim": {"api_key": "short"}}, "note the key has 5 characters"),
        ({"shim": {"forward": []}}, "note forward names no destination: forward links answer 501"),
        ({"shim": {"download": "archive"}}, "error download names archive, whose kind"),
        ({"shim": {"print": "disc"}}, "error print names disc, whose kind"),
        ({"pacs": None}, "note there is no [pacs]"),
        (
            {"patients": {"kind": "sql", "query": [{"url": "x", "select": ""}]}},
            "error [[patients.query]] number 1",
        ),
        ({}, "ok 127.0.0.1 port 8090, patients from dicom"),
    ],
)
def test_check_says_what_is_wrong_and_what_is_not(tmp_path, tables, sentence):
    assert any(line.startswith(sentence) for line in said(settings_of(tmp_path, **tables)))


def site_toml(tmp_path, **shim):
    table = "".join(f"{key} = {json.dumps(value)}\n" for key, value in shim.items())
    file = tmp_path / "site.toml"
    file.write_text(f'[site]\nspool = "{tmp_path}/spool"\n[shim]\n{table}')
    return file


def test_serve_begins_before_the_worker_and_ends_in_order(tmp_path):
    port = free_port()
    log = tmp_path / "log"
    with running([*COMMAND, "--site", site_toml(tmp_path, port=port), "serve"], log=log) as process:
        wait_until(lambda: process.poll() is not None or listens(port), what="the shim")
        assert requests.get(f"http://127.0.0.1:{port}/api/health", timeout=20).json()["status"] == "down"
        answer = requests.get(f"http://127.0.0.1:{port}{PRINT}", timeout=20)
        assert (answer.status_code, answer.json()["error"]) == (501, "not configured")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    lines = log.read_text()
    assert f"shim-started host=127.0.0.1 port={port} key=no" in lines
    assert "shim-stopped" in lines
    assert "Traceback" not in lines


def test_a_kept_connection_is_no_slower_than_a_new_one(tmp_path):
    port = free_port()
    with running([*COMMAND, "--site", site_toml(tmp_path, port=port), "serve"], log=tmp_path / "log") as process:
        wait_until(lambda: process.poll() is not None or listens(port), what="the shim")
        again, anew = [], []
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as kept:
            seconds_of_answer(kept)
            for _ in range(20):  # In turn: what else the machine does slows down both.
                again.append(seconds_of_answer(kept))
                with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as new:
                    anew.append(seconds_of_answer(new))
    # A kernel that waits for more bytes, or for the client's acknowledgement, makes this ratio 10 or more.
    assert median(again) < 3 * median(anew)


def seconds_of_answer(connection):
    began = time.perf_counter()
    connection.request("GET", "/orders/assets/page.css")
    assert connection.getresponse().read()
    return time.perf_counter() - began


@pytest.mark.sqlite_file
def test_serve_closes_the_ledger_at_its_end(tmp_path, monkeypatch):
    settings = settings_of(tmp_path, shim={"port": free_port()})
    settings.site.spool.mkdir()
    open_ledger(settings.site.spool)[0].close()
    site, connections = opened(settings), []

    async def answer_one(_server, listening):
        listening.close()
        with site.order_service.ledger().reading() as look:
            connections.append(look.connection.driver_connection)

    monkeypatch.setattr(serve, "opened", lambda _: site)
    monkeypatch.setattr(serve, "_run", answer_one)
    monkeypatch.setattr(serve.signal, "signal", lambda *_: None)
    serve.serve(settings)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connections[0].execute("SELECT 1")


@pytest.mark.parametrize("shim", [{"host": "0.0.0.0"}, {"host": "192.0.2.1", "api_key": KEY}])
def test_serve_that_must_not_or_cannot_begin_ends_with_78(tmp_path, shim):
    with running([*COMMAND, "--site", site_toml(tmp_path, **shim), "serve"], log=tmp_path / "log") as process:
        assert process.wait(30) == 78
    assert "[shim]" in (tmp_path / "log").read_text()


def test_serve_says_that_its_port_is_taken(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        file = site_toml(tmp_path, port=taken.getsockname()[1])
        with running([*COMMAND, "--site", file, "serve"], log=tmp_path / "log") as process:
            assert process.wait(30) == 78
    assert "cannot listen on 127.0.0.1" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(("files", "connections"), [(1024, 462), (256, 78), (100, 1), (1 << 20, 1000)])
def test_there_are_as_many_connections_as_there_are_files_for(monkeypatch, files, connections):
    def refused(*_):
        raise ValueError("not allowed")

    monkeypatch.setattr(serve.resource, "getrlimit", lambda _: (files, 1 << 20))
    monkeypatch.setattr(serve.resource, "setrlimit", refused)
    assert serve._connections_there_may_be() == connections
