"""`storestow check` finds each of a dozen planted faults, the gravest first, in one line with what to do."""

import json
import socket
from contextlib import closing
from pathlib import Path

import pytest
from support.machine.dicom_programs import free_port
from support.sites.running_site import command

pytestmark = pytest.mark.programs

SITE = """
[site]
spool = "{folder}/spool"
institution_mapping = "mapping.json"

[programs]
findscu = "{folder}/no-findscu"

[[receiver]]
name = "modalities"
ae_title = "STORESTOW"
port = {taken}
mode = "study"
bind = "127.0.0.1"
to = ["archive", "shelf", "disc"]

[[receiver]]
name = "secure"
ae_title = "SECURE"
port = {free[0]}
mode = "association"
tls = {{ cert = "no.pem", key = "no.key", ca = "no.pem" }}
to = []

[[receiver]]
name = "orders"
ae_title = "CDRECORD"
port = {free[1]}
mode = "association"
coerce = false
to = []

[[destination]]
name = "archive"
kind = "stow"
url = "http://127.0.0.1:{closed}/dicom-web/studies"

[[destination]]
name = "guarded"
kind = "stow"
url = "http://127.0.0.1:{closed}/dicom-web/studies"
auth = {{ kind = "basic", user = "storestow", password_file = "{folder}/password" }}

[[destination]]
name = "publisher"
kind = "cstore"
ae_title = "ANY-SCP"
host = "127.0.0.1"
port = {closed}
calling_ae_title = "CDRECORD"

[[destination]]
name = "shelf"
kind = "folder"
folder = "{folder}/missing"

[[destination]]
name = "disc"
kind = "iso"
folder = "{folder}/no-discs"

[pacs]
ae_title = "PACS"
host = "127.0.0.1"
port = {closed}
calling_ae_title = "CDRECORD"
receiver = "orders"

[patients]
kind = "api"
url = "http://127.0.0.1:{closed}/patient"

[shim]
port = {free[2]}
api_key = "short"
download = "disc"
"""
FAULTS = {  # subject: its level, what is said of it, and what is to be done
    "institution mapping": ("error", "is not JSON", "write {"),
    "receiver modalities": ("error", "is in use by", "choose another port"),
    "bind": ("error", "bind is for association mode", "leave bind out"),
    "receiver secure": ("error", "tls.key", "no.key"),
    "findscu": ("error", "no-findscu", "must be the absolute path of a program"),
    "pacs": ("unreachable", "Connection refused", "start it, or correct its address"),
    "patients": ("unreachable", "Connection refused", "start it, or correct its address"),
    "destination archive": ("unreachable", "Connection refused", "start it, or correct its address"),
    "destination guarded": ("error", "can be read by others", "run chmod 600"),
    "destination publisher": ("unreachable", "cannot be reached", "start it, or correct its address"),
    "destination shelf": ("unreachable", "does not exist", "create it, or mount"),
    "destination disc": ("unreachable", "does not exist", "create it, or mount"),
    "shim": ("note", "the key has 5 characters", "one of 16 or more"),
}


@pytest.fixture
def site(tmp_path: Path):
    (tmp_path / "mapping.json").write_text('{ "CT1": ')
    (tmp_path / "password").write_text("secret")
    (tmp_path / "password").chmod(0o644)
    with closing(socket.create_server(("0.0.0.0", 0))) as taken:
        file = tmp_path / "site.toml"
        ports = {"taken": taken.getsockname()[1], "free": [free_port() for _ in range(3)], "closed": free_port()}
        file.write_text(SITE.format(folder=tmp_path, **ports))
        yield file


@pytest.fixture
def found(site):
    done = command(site, "check", "--json")
    assert done.returncode == 78, done.stderr
    return json.loads(done.stdout)["findings"]


def test_every_fault_is_found_at_its_weight_with_what_to_do(found):
    for about, (level, said, remedy) in FAULTS.items():
        lines = [it for it in found if it["level"] == level and said in it["text"]]
        named = [it for it in lines if about in {it["about"], "bind"}]
        assert any(remedy in it["text"] for it in named), (about, lines)


def test_one_line_each_the_gravest_first_and_no_secret(site):
    printed = command(site, "check").stdout.splitlines()
    levels = [line.split()[0] for line in printed]
    order = ["error", "unreachable", "note", "ok"]
    assert levels == sorted(levels, key=order.index)
    assert set(levels) == set(order)
    assert levels.count("error") == 6
    assert levels.count("unreachable") == 6
    assert len(printed) == len(set(printed))
    assert not [line for line in printed if "secret" in line.lower().replace("password_file", "")]
