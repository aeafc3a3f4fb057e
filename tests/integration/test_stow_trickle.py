"""Archives that answer a byte a second: every answer has an end, and the archive is down then."""

import logging
import time
from io import BytesIO

import pytest
from support.peers.certificate_authority import Authority
from support.peers.fake_dcm4chee import FakeDcm4chee, Trickle
from support.peers.stow_outcomes import Collected, stow
from support.sites.line_site import arrive, instance, rounds, settings_for, states, working
from support.studies.small_studies import make_study

from pipeline.dicomweb import auth
from pipeline.dicomweb.transport_errors import NoReply
from pipeline.errors import PeerUnavailable
from pipeline.ledger import reports

PARTS = ["headers", "body"]


@pytest.fixture
def archive():
    with FakeDcm4chee() as running:
        yield running


@pytest.mark.parametrize("part", PARTS)
def test_a_list_that_trickles_makes_the_archive_unavailable(archive, tmp_path, part):
    archive.every_query = Trickle(part)
    began = time.monotonic()
    done = Collected(stow(archive.url, answer_timeout="1.5s"), make_study(tmp_path, 2))
    assert isinstance(done.error, PeerUnavailable)
    assert "answer_timeout" in str(done.error)
    assert time.monotonic() - began < 5
    assert archive.stores == []


@pytest.mark.parametrize("part", PARTS)
def test_a_list_that_trickles_within_tls_ends_too(tmp_path, part):
    authority = Authority(tmp_path / "authority")
    shown = authority.identity("archive")
    with FakeDcm4chee(certificate=(shown.cert, shown.key)) as archive:
        destination = stow(archive.url, answer_timeout="1.5s", ca_bundle=str(authority.cert))
        assert list(destination.problems()) == []
        archive.every_query = Trickle(part)
        began = time.monotonic()
        done = Collected(destination, make_study(tmp_path, 2))
        assert isinstance(done.error, PeerUnavailable)
        assert "answer_timeout" in str(done.error)
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("part", PARTS)
def test_a_store_response_that_trickles_is_settled_by_qido(archive, tmp_path, part):
    items = make_study(tmp_path, 2)
    archive.every_store = Trickle(part)
    began = time.monotonic()
    assert Collected(stow(archive.url, answer_timeout="1s"), items).all_verified(items)
    assert time.monotonic() - began < 8  # a second more for each instance of the request


@pytest.mark.parametrize("part", PARTS)
def test_an_archive_that_trickles_and_stores_nothing_is_unavailable(archive, tmp_path, part):
    archive.every_store = Trickle(part, store=0)
    done = Collected(stow(archive.url, answer_timeout="500ms", batch_bytes="1 B"), make_study(tmp_path, 4))
    assert isinstance(done.error, PeerUnavailable)


@pytest.mark.parametrize("part", PARTS)
def test_a_token_that_trickles_makes_the_archive_unavailable(archive, tmp_path, monkeypatch, part):
    auth._tokens.cache_clear()
    monkeypatch.setenv("SECRET", "s")
    archive.oauth2 = ("me", "s")
    archive.token_faults.append(Trickle(part))
    client = {"kind": "oauth2", "token_url": archive.token_url, "client_id": "me", "client_secret_env": "SECRET"}
    done = Collected(stow(archive.url, answer_timeout="1.5s", auth=client), make_study(tmp_path, 1))
    assert isinstance(done.error, PeerUnavailable)
    assert archive.queries == archive.stores == []


@pytest.mark.parametrize("part", PARTS)
def test_a_retrieval_that_trickles_ends(archive, part):
    archive.every_query = Trickle(part)
    began = time.monotonic()
    with stow(archive.url, answer_timeout="1.5s")._door() as door, pytest.raises(NoReply) as raised:
        door.fetch(f"{archive.url}/1/series/2/instances/3", "*/*", BytesIO(), 1 << 20)
    assert raised.value.timed_out
    assert time.monotonic() - began < 5


def test_what_comes_slowly_and_in_time_is_read_to_its_end(archive, tmp_path):
    items = make_study(tmp_path, 2)
    archive.every_query = Trickle("body", seconds=0.1)
    assert isinstance(Collected(stow(archive.url, answer_timeout="700ms"), items).error, PeerUnavailable)
    archive.every_query = None
    assert Collected(stow(archive.url, answer_timeout="700ms"), items).all_verified(items)


def test_a_delivery_to_an_archive_that_trickles_waits_with_the_reason_and_the_archive_is_down(
    archive, tmp_path, caplog
):
    logging.getLogger("storestow").propagate = True
    archive.every_query = Trickle("body")
    table = {"name": "archive", "kind": "stow", "url": archive.url, "answer_timeout": "1s"}
    with working(settings_for(tmp_path, destinations=[table])) as (site, worker):
        arrive(site.spool, instance(tmp_path))
        rounds(worker, until=lambda: states(site, "deliveries") == {"deferred": 1})
        with site.ledger.reading() as look:
            assert reports.destination_row(look, "archive").down_since
        assert "answer_timeout" in caplog.text
        archive.every_query = None
        rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 1})
