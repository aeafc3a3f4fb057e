"""kind = "cstore" inside TLS: DCMTK's storescp and our own receiver as peers, and every way it can go wrong."""

import json
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.machine.dicom_programs import ENVIRONMENT, free_port, listens, program, storescp, wait_until
from support.peers.certificate_authority import Authority, Identity
from support.peers.storage_peer import TABLE, data_set_bytes, deliver, destination, states
from support.sites.receiving import receiving
from support.sites.running_site import write_site
from support.studies.small_studies import make_study, uids_of

from pipeline.destinations import from_table
from pipeline.dicom.walk import walk
from pipeline.errors import Configuration, PeerUnavailable

pytestmark = pytest.mark.programs

PATIENT = {"associate_timeout": "10s", "response_timeout": "30s"}


@pytest.fixture(scope="session")
def us(authority) -> Identity:
    return authority.identity("us")


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("elsewhere"), "elsewhere")


def tls(authority: Authority, own: Identity | None = None, **more: str) -> dict[str, str]:
    mine = {"cert": str(own.cert), "key": str(own.key)} if own else {}
    return {"ca": str(authority.cert), **mine, **more}


def secured(authority: Authority, identity: Identity, *options: str) -> tuple[str, ...]:
    return ("+tls", str(identity.key), str(identity.cert), "+cf", str(authority.cert), "+B", *options)


def refused(port: int, tmp_path: Path, table: dict[str, str]) -> tuple[Exception, str]:
    """Return what a delivery ends with, having sent nothing, and what `problems` finds."""
    items = make_study(tmp_path, 1)
    receipts, _, error = deliver(port, items, tls=table, **PATIENT)
    assert receipts == {}
    try:
        [found] = destination(port, tls=table, **PATIENT).problems()
    except Configuration as raised:
        found = str(raised)
    assert str(error) in found
    return error, found


@pytest.mark.parametrize("profile", ["+py", "+px", "+pz"])
def test_a_study_arrives_byte_by_byte_at_a_storescp_that_wants_our_certificate(
    tmp_path, authority, server, us, profile
):
    items = make_study(tmp_path, 20, padding=300_000)
    with storescp(tmp_path / "in", *secured(authority, server, profile, "-rc")) as port:
        assert list(destination(port, tls=tls(authority, us), **PATIENT).problems()) == []
        receipts, _, error = deliver(port, items, tls=tls(authority, us), **PATIENT)
    assert error is None
    assert states(receipts) == ["stored"] * 20
    arrived = [path.read_bytes() for path in (tmp_path / "in").iterdir()]
    assert sorted(one[walk(one).data_set :] for one in arrived) == sorted(map(data_set_bytes, items))


@pytest.mark.parametrize("mode", ["study", "association"])
def test_our_own_receiver_takes_what_our_own_destination_sends(tmp_path, authority, server, us, mode):
    table = f'tls = {{ cert = "{server.cert}", key = "{server.key}", ca = "{authority.cert}" }}\n'
    items = make_study(tmp_path, 5, padding=300_000)
    with receiving(tmp_path / "site", mode, more=table) as r:
        assert list(destination(r.port, tls=tls(authority, us), **PATIENT).problems()) == []
        receipts, _, error = deliver(r.port, items, tls=tls(authority, us), **PATIENT)
        assert error is None
        assert states(receipts) == ["stored"] * 5
        assert [uid for _, uid in r.wait_for(5)] == sorted(uids_of(items))


# --- what does not fit is said in words, and nothing has left ---------------------------------------------


@pytest.mark.parametrize("profile", ["+py", "+px"])
def test_without_a_certificate_of_ours_a_peer_that_wants_one_is_a_configuration_error(
    tmp_path, authority, server, profile
):
    with storescp(tmp_path / "in", *secured(authority, server, profile, "-rc")) as port:
        error, _ = refused(port, tmp_path, tls(authority))
        assert isinstance(error, Configuration)
        assert "wants a certificate of ours; write cert and key" in str(error)


def test_a_certificate_the_peer_does_not_trust_is_a_configuration_error(tmp_path, authority, server, elsewhere):
    stranger = elsewhere.identity("stranger")
    with storescp(tmp_path / "in", *secured(authority, server)) as port:
        error, _ = refused(port, tmp_path, tls(authority, stranger))
        assert isinstance(error, Configuration)
        assert "refuses our certificate; check cert and key" in str(error)


def test_an_expired_certificate_of_ours_is_a_configuration_error(tmp_path, authority, server):
    old = authority.identity("old", days=-1)
    with storescp(tmp_path / "in", *secured(authority, server)) as port:
        error, _ = refused(port, tmp_path, tls(authority, old))
        assert isinstance(error, Configuration)
        assert "certificate expired" in str(error)


def test_a_peer_of_another_authority_is_not_spoken_to(tmp_path, authority, elsewhere, us):
    with storescp(tmp_path / "in", *secured(authority, elsewhere.identity("server"))) as port:
        error, _ = refused(port, tmp_path, tls(authority, us))
        assert isinstance(error, Configuration)
        assert "not signed by an authority of ours; check ca" in str(error)


def test_a_peer_whose_certificate_has_expired_is_not_spoken_to(tmp_path, authority, us):
    with storescp(tmp_path / "in", *secured(authority, authority.identity("late", days=-1))) as port:
        error, _ = refused(port, tmp_path, tls(authority, us))
        assert isinstance(error, Configuration)
        assert "its certificate has expired" in str(error)


def test_a_peer_that_shows_the_certificate_of_another_is_not_spoken_to_unless_we_expect_that_name(
    tmp_path, authority, us
):
    other = authority.identity("other", names="DNS:publisher.example.org")
    with storescp(tmp_path / "in", *secured(authority, other)) as port:
        error, _ = refused(port, tmp_path, tls(authority, us))
        assert isinstance(error, Configuration)
        assert "its certificate is not made out to 127.0.0.1" in str(error)
        named = tls(authority, us, server_name="publisher.example.org")
        receipts, _, error = deliver(port, make_study(tmp_path, 2), tls=named, **PATIENT)
        assert error is None
        assert states(receipts) == ["stored"] * 2


def test_a_plain_peer_on_the_port_that_hangs_up_is_tried_again_with_a_hint(tmp_path, authority, us):
    with storescp(tmp_path / "in") as port:
        error, _ = refused(port, tmp_path, tls(authority, us))
        assert isinstance(error, PeerUnavailable)
        assert "it may speak plain DICOM there" in str(error)


def test_a_peer_that_answers_the_handshake_in_plain_dicom_is_a_configuration_error(tmp_path, authority, us):
    with rude_peer(b"\x07\0\0\0\0\4\0\0\2\1") as port:
        error, _ = refused(port, tmp_path, tls(authority, us))
    assert isinstance(error, Configuration)
    assert "speaks no TLS on that port" in str(error)


@pytest.mark.parametrize(
    ("answer", "said"), [(b"", "it may speak TLS there"), (b"\x15\3\1\0\2\2\x46", "it speaks TLS on that port")]
)
def test_a_plain_call_to_a_port_that_speaks_tls_says_so(tmp_path, answer, said):
    with rude_peer(answer) as port:
        _, _, error = deliver(port, make_study(tmp_path, 1), **PATIENT)
    assert isinstance(error, PeerUnavailable)
    assert said in str(error)


def test_a_peer_with_nothing_newer_than_tls_1_1_is_not_spoken_to(tmp_path, authority, server, us):
    argv = (program("openssl"), "s_server", "-accept", str(port := free_port()), "-tls1_1")
    more = ("-cipher", "ALL:@SECLEVEL=0", "-cert", str(server.cert), "-key", str(server.key), "-quiet")
    with subprocess.Popen(
        [*argv, *more],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait_until(lambda: listens(port), what="s_server")
            error, _ = refused(port, tmp_path, tls(authority, us))
        finally:
            process.kill()
    assert isinstance(error, Configuration)
    assert "no TLS 1.2 or newer in common" in str(error)


@contextmanager
def rude_peer(words: bytes | None):
    """Run a peer that answers the handshake with `words` and closes, or says nothing at all."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    held.append(connection)
                    if words is not None:
                        connection.recv(1 << 16)
                        connection.sendall(words)
                        connection.close()

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for connection in held:
                connection.close()


@pytest.mark.parametrize(("words", "said"), [(b"", "does not go on with TLS"), (None, "no answer in time")])
def test_a_peer_that_hangs_up_or_falls_silent_in_the_handshake_is_tried_again(
    tmp_path, authority, us, words, said
):
    with rude_peer(words) as port:
        _, _, error = deliver(port, make_study(tmp_path, 1), tls=tls(authority, us))
    assert isinstance(error, PeerUnavailable)
    assert said in str(error)


# --- configuration ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: s.key.chmod(0o640), "tls.key: {key} can be read by others; run chmod 600"),
        (lambda s: s.key.unlink(), "tls.key: {key}: cannot be read"),
        (lambda s: s.cert.write_text("nonsense"), "tls.cert: {cert} with its key: cannot be used"),
    ],
)
def test_files_that_do_not_fit_are_named_before_anybody_is_called(tmp_path, authority, spoil, words):
    own = authority.identity("spoiled")
    spoil(own)
    _, _, error = deliver(free_port(), make_study(tmp_path, 1), tls=tls(authority, own))
    assert isinstance(error, Configuration)
    assert words.format(key=own.key, cert=own.cert) in str(error)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "tls.ca"),
        ({"ca": "authority.pem"}, "must be an absolute path"),
        ({"ca": "/a", "cert": "/b"}, "write both cert and key"),
        ({"ca": "/a", "key": "/b"}, "write both cert and key"),
        ({"ca": "/a", "verify": "false"}, "verify"),
        ({"ca": "/a", "server_name": ""}, "server_name"),
    ],
)
def test_nothing_in_the_table_turns_verification_off(table, words):
    with pytest.raises(ValueError, match=words):
        from_table({**TABLE, "port": 104, "tls": table})


def test_check_shakes_hands_and_tells_a_wrong_authority_from_a_peer_that_is_away(
    tmp_path, authority, server, us, elsewhere
):
    receiver = {"name": "r", "ae_title": "STORESTOW", "port": free_port(), "mode": "association"}
    with storescp(tmp_path / "in", *secured(authority, server)) as port:
        peers = {"fits": (port, authority), "wrong": (port, elsewhere), "away": (free_port(), authority)}
        tables = [
            {**TABLE, "name": name, "port": where, "tls": tls(trusted, us), "associate_timeout": "10s"}
            for name, (where, trusted) in peers.items()
        ]
        file = write_site(tmp_path, receivers=[receiver], destinations=tables)
        done = subprocess.run(
            [sys.executable, "-I", "-m", "pipeline", "--site", file, "check", "--json"],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    found = {one["about"]: (one["level"], one["text"]) for one in json.loads(done.stdout)["findings"]}
    assert found["destination fits"] == ("ok", "cstore: nothing wrong found")
    level, text = found["destination wrong"]
    assert level == "error"
    assert "not signed by an authority of ours; check ca" in text
    level, text = found["destination away"]
    assert level == "unreachable"
    assert "cannot be reached" in text
    assert done.returncode == 78
