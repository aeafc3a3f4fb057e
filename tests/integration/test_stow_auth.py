"""Who we are to the archive: headers, tokens, certificates, and where their secrets may lie."""

import base64
import shutil
import subprocess
from pathlib import Path

import pytest
from support.peers.fake_dcm4chee import Answer, FakeDcm4chee
from support.studies.small_studies import consign, last_of, make_study

from pipeline.destinations import from_table
from pipeline.dicomweb import auth
from pipeline.errors import Configuration, PeerUnavailable, StorestowError
from pipeline.model import ReceiptState


@pytest.fixture
def archive():
    with FakeDcm4chee() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_token_of_another_test():
    auth._tokens.cache_clear()


def deliver(archive, folder, **keys):
    destination = from_table({"name": "archive", "kind": "stow", "url": archive.url, **keys})
    receipts, error = [], None
    try:
        receipts.extend(destination.deliver(consign(make_study(folder, 3))))
    except StorestowError as raised:
        error = raised
    return last_of(receipts), error


def arrived(receipts):
    return [receipt.state for receipt in receipts.values()] == [ReceiptState.STORED] * 3


def test_basic_credentials_come_from_the_environment(archive, tmp_path, monkeypatch):
    monkeypatch.setenv("ARCHIVE_PASSWORD", "pä:ss")
    archive.basic = ("user", "pä:ss")
    receipts, error = deliver(
        archive, tmp_path, auth={"kind": "basic", "user": "user", "password_env": "ARCHIVE_PASSWORD"}
    )
    assert error is None
    assert arrived(receipts)


def test_a_bearer_token_comes_from_a_file_of_our_own(archive, tmp_path):
    archive.bearer = "abc.def"
    file = tmp_path / "token"
    file.write_text("abc.def\n")
    file.chmod(0o600)
    receipts, error = deliver(archive, tmp_path, auth={"kind": "bearer", "token_file": str(file)})
    assert error is None
    assert arrived(receipts)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_secret_that_others_can_read_is_not_used(archive, tmp_path, mode):
    file = tmp_path / "token"
    file.write_text("abc.def")
    file.chmod(mode)
    _, error = deliver(archive, tmp_path, auth={"kind": "bearer", "token_file": str(file)})
    assert isinstance(error, Configuration)
    assert "chmod 600" in str(error)
    assert archive.requests == []


@pytest.mark.parametrize(
    ("content", "word"), [(None, "cannot be read"), ("", "empty"), ("a\nb", "line break"), ("tök", "characters")]
)
def test_an_unusable_secret_is_named_and_not_shown(archive, tmp_path, content, word):
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
        file.chmod(0o600)
    _, error = deliver(archive, tmp_path, auth={"kind": "bearer", "token_file": str(file)})
    assert isinstance(error, Configuration)
    assert word in str(error)
    assert "tök" not in str(error)


def test_a_missing_variable_is_named(archive, tmp_path):
    _, error = deliver(archive, tmp_path, auth={"kind": "bearer", "token_env": "NO_SUCH_VARIABLE"})
    assert isinstance(error, Configuration)
    assert "NO_SUCH_VARIABLE" in str(error)


def test_wrong_credentials_wait_for_a_person(archive, tmp_path, monkeypatch):
    monkeypatch.setenv("ARCHIVE_PASSWORD", "wrong")
    archive.basic = ("user", "right")
    _, error = deliver(
        archive, tmp_path, auth={"kind": "basic", "user": "user", "password_env": "ARCHIVE_PASSWORD"}
    )
    assert isinstance(error, Configuration)
    assert "credentials" in str(error)
    assert "wrong" not in str(error)


def oauth2(archive, **more):
    return {
        "kind": "oauth2",
        "token_url": archive.token_url,
        "client_id": "storestow",
        "client_secret_env": "CLIENT_SECRET",
        **more,
    }


@pytest.fixture
def client(archive, monkeypatch):
    monkeypatch.setenv("CLIENT_SECRET", "s3cret")
    archive.oauth2 = ("storestow", "s3cret")
    return oauth2(archive)


def test_one_token_serves_many_deliveries(archive, tmp_path, client):
    for folder in ("a", "b"):
        receipts, error = deliver(archive, tmp_path / folder, auth=client)
        assert error is None
        assert len(receipts) == 3
    assert len(archive.tokens) == 1


def test_a_token_that_ends_soon_is_renewed_before_it_ends(archive, tmp_path, client):
    tokens = auth._tokens(auth.OAuth2.model_validate(client))
    issued = []

    def post_form(url, form):
        issued.append(form)
        return 200, b'{"access_token":"t%d","expires_in":100}' % len(issued)

    assert tokens.current(post_form, now=0.0) == "Bearer t1"
    assert tokens.current(post_form, now=69.0) == "Bearer t1"
    assert tokens.current(post_form, now=71.0) == "Bearer t2"
    assert issued[0]["grant_type"] == "client_credentials"


def test_a_revoked_token_is_renewed_once_and_the_request_replayed(archive, tmp_path, client):
    deliver(archive, tmp_path / "a", auth=client)
    archive.revoke()
    receipts, error = deliver(archive, tmp_path / "b", auth=client)
    assert error is None
    assert len(receipts) == 3
    assert len(archive.tokens) == 1


def test_a_second_401_is_not_answered_with_a_third_token(archive, tmp_path, client):
    archive.every_query = Answer(401)
    _, error = deliver(archive, tmp_path, auth=client)
    assert isinstance(error, Configuration)
    assert len(archive.tokens) == 2


def test_a_client_the_token_endpoint_refuses_is_named(archive, tmp_path, client, monkeypatch):
    monkeypatch.setenv("CLIENT_SECRET", "other")
    _, error = deliver(archive, tmp_path, auth=client)
    assert isinstance(error, Configuration)
    assert "client_id storestow" in str(error)
    assert "other" not in str(error)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Answer(503), PeerUnavailable),
        (Answer(200, b"<html>", "text/html"), Configuration),
        (Answer(200, b'{"token":1}', "application/json"), Configuration),
        (Answer(302, headers={"Location": "https://login.example.org"}), Configuration),
    ],
)
def test_a_token_endpoint_that_gives_none_is_told_apart(archive, tmp_path, client, fault, expected):
    archive.token_faults.append(fault)
    _, error = deliver(archive, tmp_path, auth=client)
    assert type(error) is expected
    assert archive.stores == []


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({"kind": "digest"}, "kind"),
        ({"kind": "basic", "user": "u", "password": "secret"}, "password_env or password_file"),
        ({"kind": "basic", "user": "u"}, "one of password_env and password_file"),
        ({"kind": "bearer", "token_env": "A", "token_file": "/b"}, "one of token_env and token_file"),
        ({"kind": "bearer", "token_file": "relative"}, "absolute"),
        ({"kind": "oauth2", "token_url": "x", "client_id": "c", "client_secret_env": "A"}, "token_url"),
        ({"kind": "mtls", "cert": "/c"}, "key"),
        ({"kind": "none", "user": "u"}, "user"),
    ],
)
def test_an_auth_table_that_cannot_work_is_refused_when_it_is_read(archive, table, word):
    with pytest.raises(ValueError, match=word):
        from_table({"name": "archive", "kind": "stow", "url": archive.url, "auth": table})


def test_nothing_from_the_environment_changes_where_studies_go(archive, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    _, error = deliver(archive, tmp_path)
    assert error is None
    assert all("Authorization" not in request.headers for request in archive.requests)


# --- TLS ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def papers(tmp_path_factory) -> Path:
    """Return a folder with a certificate authority, a server's and a client's certificate signed by it."""
    folder = tmp_path_factory.mktemp("papers")
    openssl = shutil.which("openssl")
    assert openssl, "openssl is not installed"

    def run(*words):
        subprocess.run([openssl, *words], cwd=folder, check=True, capture_output=True)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    for ca in ("ca", "other-ca"):
        run("req", "-x509", *new, "-subj", f"/CN={ca}", "-keyout", f"{ca}.key", "-out", f"{ca}.pem")
    for name in ("server", "client"):
        run("req", *new[:-2], "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (folder / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
        run(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", "2", "-extfile", "ext", "-out", f"{name}.pem"),
        )
        (folder / f"{name}.key").chmod(0o600)
    return folder


@pytest.fixture
def tls_archive(papers):
    with FakeDcm4chee(certificate=(papers / "server.pem", papers / "server.key")) as running:
        yield running


def test_a_certificate_of_the_named_authority_is_trusted(tls_archive, papers, tmp_path):
    receipts, error = deliver(tls_archive, tmp_path, ca_bundle=str(papers / "ca.pem"))
    assert error is None
    assert arrived(receipts)


@pytest.mark.parametrize("ca", ["other-ca.pem", None, "missing.pem"])
def test_a_certificate_nobody_vouches_for_names_the_key_to_set(tls_archive, papers, tmp_path, ca):
    keys = {"ca_bundle": str(papers / ca)} if ca else {}
    _, error = deliver(tls_archive, tmp_path, **keys)
    assert isinstance(error, Configuration)
    assert "ca_bundle" in str(error)
    assert tls_archive.requests == []


def test_an_archive_that_wants_our_certificate_gets_it(papers, tmp_path):
    with FakeDcm4chee(
        certificate=(papers / "server.pem", papers / "server.key"), client_ca=papers / "ca.pem"
    ) as archive:
        bundle = str(papers / "ca.pem")
        mine = {"kind": "mtls", "cert": str(papers / "client.pem"), "key": str(papers / "client.key")}
        receipts, error = deliver(archive, tmp_path, ca_bundle=bundle, auth=mine)
        assert error is None
        assert arrived(receipts)
        _, error = deliver(archive, tmp_path, ca_bundle=bundle)
        assert isinstance(error, Configuration | PeerUnavailable)
        assert len(archive.stores) == 1


def test_https_to_a_port_without_tls_is_told(archive, tmp_path):
    destination = from_table(
        {"name": "archive", "kind": "stow", "url": archive.url.replace("http://", "https://")}
    )
    with pytest.raises(Configuration, match="TLS"):
        list(destination.problems())


def test_basic_is_what_rfc_7617_says(monkeypatch):
    monkeypatch.setenv("P", "Secret")
    header = auth.Basic(kind="basic", user="Aladdin", password_env="P").authorization(lambda *_: (0, b""))
    assert base64.b64decode(header.removeprefix("Basic ")) == b"Aladdin:Secret"
