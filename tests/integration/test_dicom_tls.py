"""DICOM TLS with DCMTK's own senders: in both modes, with and without certificates of the peers."""

import json
import socket
import ssl
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.machine.dicom_programs import Sent, echoscu, program, storescu, wait_until
from support.peers.association_requests import context, rejection, request
from support.peers.certificate_authority import Authority, Identity
from support.sites.receiving import CT, ROOT, files_of, received_to_its_end, receiving, write_instance, write_site

pytestmark = pytest.mark.programs

MODES = pytest.mark.parametrize("mode", ["study", "association"])


@pytest.fixture(scope="session")
def client(authority) -> Identity:
    return authority.identity("client")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory) -> Identity:
    return Authority(tmp_path_factory.mktemp("elsewhere"), "elsewhere").identity("stranger")


def tls(server: Identity, authority: Authority | None, *, required: bool = True, more: str = "") -> str:
    ca = f'ca = "{authority.cert}", ' if authority else ""
    return (
        f'tls = {{ cert = "{server.cert}", key = "{server.key}", {ca}'
        f"require_client_certificate = {str(required).lower()} }}\n{more}"
    )


def options(authority: Authority, identity: Identity | None) -> list[str]:
    own = ["+tls", str(identity.key), str(identity.cert)] if identity else ["+tla"]
    return [*own, "+cf", str(authority.cert)]


def send(r, authority: Authority, identity: Identity | None, *files: Path) -> Sent:
    return storescu(r.port, *files, options=options(authority, identity), calling="CT1")


@MODES
def test_a_peer_with_a_certificate_of_the_authority_is_served(tmp_path, mode, authority, server, client):
    files = [write_instance(tmp_path / "out", n, size=60_000) for n in range(20)]
    with receiving(tmp_path, mode, more=tls(server, authority)) as r:
        assert send(r, authority, client, *files).acknowledged == 20
        r.wait_for(20)
        pixels = {file.read_bytes()[-1] for arrival in r.arrivals() for file in files_of(arrival)}
        assert pixels == set(range(20))


@MODES
def test_without_tls_without_a_certificate_or_with_a_strange_one_nobody_comes_in(  # noqa: PLR0917  # fixtures
    tmp_path, mode, authority, server, client, stranger
):
    file = write_instance(tmp_path / "out", 1)
    with receiving(tmp_path, mode, more=tls(server, authority)) as r:
        assert storescu(r.port, file, options=["-ta", "5"]).acknowledged == 0
        assert send(r, authority, None, file).acknowledged == 0
        assert send(r, authority, stranger, file).acknowledged == 0
        assert send(r, authority, client, file).acknowledged == 1
        r.wait_for(1)


@MODES
def test_a_certificate_is_not_asked_for_where_the_site_says_so(tmp_path, mode, authority, server):
    with receiving(tmp_path, mode, more=tls(server, None, required=False)) as r:
        assert send(r, authority, None, write_instance(tmp_path / "out", 1)).acknowledged == 1
        r.wait_for(1)


@MODES
def test_nothing_older_than_tls_1_2_is_spoken(tmp_path, mode, authority, server, client):
    with receiving(tmp_path, mode, more=tls(server, authority)) as r:
        assert speaks(r.port, "-tls1_2", authority, client)
        assert not speaks(r.port, "-tls1_1", authority, client)


def speaks(port: int, version: str, authority: Authority, identity: Identity) -> bool:
    own = ("-CAfile", authority.cert, "-cert", identity.cert, "-key", identity.key)
    done = subprocess.run(
        [
            program("openssl"),
            "s_client",
            "-connect",
            f"127.0.0.1:{port}",
            version,
            "-cipher",
            "ALL:@SECLEVEL=0",
            *own,
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode == 0 and "Verify return code: 0 (ok)" in done.stdout


def test_names_and_address_are_known_and_judged_inside_tls_too(tmp_path, authority, server, client):
    more = tls(server, authority, more='allow_calling_ae_titles = ["CT1"]')
    with receiving(tmp_path, "association", more=more) as r:
        assert send(r, authority, client, write_instance(tmp_path / "out", 1)).acknowledged == 1
        r.wait_for(1)
        envelope = json.loads((r.arrivals()[0] / ".envelope.json").read_bytes())
        assert (envelope["calling_ae_title"], envelope["peer"]) == ("CT1", "127.0.0.1")
        trusting = ssl.create_default_context(cafile=str(authority.cert))
        trusting.load_cert_chain(client.cert, client.key)
        with (
            socket.create_connection(("127.0.0.1", r.port), timeout=10) as plain,
            trusting.wrap_socket(plain, server_hostname="localhost") as encrypted,
        ):
            encrypted.sendall(request(b"MR1", b"STORESTOW", context(1, CT.encode())))
            assert encrypted.recv(100) == rejection(1, 1, 3)


def test_an_object_larger_than_every_buffer_arrives_whole(tmp_path, authority, server, client):
    # Rows and Columns do not matter here: nobody decodes it
    file = write_instance(tmp_path / "out", 7, size=65_000)
    content = file.read_bytes()
    large = tmp_path / "large.dcm"
    head = content[: -65_000 - 4]
    large.write_bytes(head + (64 << 20).to_bytes(4, "little") + bytes(range(256)) * (1 << 18))
    with receiving(tmp_path, "association", more=tls(server, authority)) as r:
        began = time.monotonic()
        assert send(r, authority, client, large).acknowledged == 1
        taken = time.monotonic() - began
        r.wait_for(1)
        (kept,) = files_of(r.arrivals()[0])
        assert kept.read_bytes()[-(64 << 20) :] == bytes(range(256)) * (1 << 18)
        assert taken < 30


def test_peers_that_hang_up_in_the_handshake_or_after_leave_nothing_behind(tmp_path, authority, server, client):
    trusting = ssl.create_default_context(cafile=str(authority.cert))
    trusting.load_cert_chain(client.cert, client.key)
    with receiving(tmp_path, "association", more=tls(server, authority)) as r:
        for words in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", request(b"A", b"B")):
            with socket.create_connection(("127.0.0.1", r.port), timeout=10) as rude:
                rude.sendall(words)
        for words in (b"", b"\1\0\0", request(b"CT1", b"B", context(1, CT.encode()))):
            plain = socket.create_connection(("127.0.0.1", r.port), timeout=10)
            encrypted = trusting.wrap_socket(plain, server_hostname="localhost")
            encrypted.sendall(words)
            encrypted.close()
        assert send(r, authority, client, write_instance(tmp_path / "out", 1)).acknowledged == 1
        wait_until(lambda: not list(r.incoming.iterdir()) and not r.storescps(), what="an empty room")
        assert "Traceback" not in r.text()


def test_sending_side_by_side_over_tls(tmp_path, authority, server, client):
    files = [write_instance(tmp_path / "out", n, study=f"{ROOT}.4.{n % 4}", size=50_000) for n in range(60)]
    with receiving(tmp_path, "association", more=tls(server, authority)) as r:
        with ThreadPoolExecutor(4) as senders:
            parts = [files[n::4] for n in range(4)]
            sent = list(senders.map(lambda part: send(r, authority, client, *part).acknowledged, parts))
        assert sent == [15] * 4
        assert len(set(r.wait_for(60))) == 60
        assert echoscu(r.port).exit_code != 0


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: s.key.chmod(0o640), "can be read by others; run chmod 600"),
        (lambda s: s.key.unlink(), "cannot be read: No such file"),
        (lambda s: s.cert.write_text("nonsense"), "the certificates cannot be used"),
    ],
)
@MODES
def test_files_that_do_not_fit_are_a_configuration_error_that_names_them(tmp_path, mode, authority, spoil, words):
    own = authority.identity("spoiled")
    spoil(own)
    site = write_site(tmp_path, mode, 11112, more=tls(own, authority))
    done = received_to_its_end(site)
    assert done.returncode == 78
    assert words in done.stderr
    assert 'receiver "r".tls' in done.stderr
