"""`check` of a node: the store, the clock and site.toml must be those of the other nodes."""

import shutil
import tempfile
from pathlib import Path

import pytest
from support.sites import ledger_place
from support.sites.line_site import settings_for

from pipeline.commands.cluster_checks import FOLDER_MARK, looked_at
from pipeline.ledger import SPOOL, nodes
from pipeline.ledger.nodes import NodeReport
from pipeline.operate.status import status
from pipeline.site.node import site_hash
from pipeline.site.open_site import opened
from pipeline.site.settings import Settings


def settings_of(tmp_path, node="a", **site):
    (tmp_path / "store").mkdir(exist_ok=True)
    table = settings_for(tmp_path, **site).model_dump(exclude_unset=True, serialize_as_any=True)
    return Settings.model_validate({**table, "cluster": {"store": str(tmp_path / "store"), "node": node}})


@pytest.fixture
def site(postgresql_server, tmp_path):
    with ledger_place.on(postgresql_server), opened(settings_of(tmp_path)) as site:
        yield site


def levels(settings):
    return [level for level, _ in looked_at(settings)]


def text(settings):
    return "\n".join(f"{level}: {words}" for level, words in looked_at(settings))


def report(site, name, its_hash):
    with site.ledger.transaction() as change:
        nodes.report(change, NodeReport(name, name, "1", (), 0, its_hash))


def test_without_a_cluster_nothing_is_said(tmp_path):
    assert list(looked_at(settings_for(tmp_path))) == []


@pytest.mark.programs
def test_a_node_as_the_others_are_is_in_order(site, tmp_path):
    report(site, "b", site_hash(settings_of(tmp_path, node="b")))
    assert levels(site.settings) == ["ok", "ok"]
    assert "node a, beside b" in text(site.settings)
    store = status(site.settings, site.ledger)["store"]
    assert (store["state"], store["reason"], store["waiting"]) == ("up", None, 0)


@pytest.mark.programs
def test_another_site_toml_is_an_error_that_names_the_node(site, tmp_path):
    report(site, "b", site_hash(settings_of(tmp_path, node="b", keep_originals="3d")))
    assert "error: site.toml differs from that of b" in text(site.settings)


@pytest.mark.programs
def test_another_store_is_an_error(site):
    (site.spool.store / SPOOL).write_text("another")
    assert "is not that of the other nodes" in text(site.settings)


@pytest.mark.programs
def test_a_clock_that_is_wrong_is_an_error(site, monkeypatch):
    real = nodes.clock
    monkeypatch.setattr(nodes, "clock", lambda connection: real(connection) + 3)
    assert "error: the clock is 3.0 s from that of the ledger's server" in text(site.settings)


@pytest.mark.programs
def test_a_store_that_cannot_be_used_is_told_by_check_and_status(site):
    shutil.rmtree(site.spool.store)
    assert "unreachable: store" in text(site.settings)
    store = status(site.settings, site.ledger)["store"]
    assert store["state"] == "down"
    assert "cannot be used now" in store["reason"]


@pytest.fixture
def elsewhere():
    """Return a folder on another file system than the store."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.mark.programs
def test_a_folder_of_a_destination_must_be_the_one_of_the_other_nodes(postgresql_server, tmp_path, elsewhere):
    filed = {"name": "filed", "kind": "folder", "folder": str(elsewhere)}
    with ledger_place.on(postgresql_server), opened(settings_of(tmp_path, destinations=[filed])) as site:
        assert levels(site.settings) == ["ok", "ok"], "the first node marks it"
        assert levels(site.settings) == ["ok", "ok"]
        mark = (elsewhere / FOLDER_MARK).read_text()
        (elsewhere / FOLDER_MARK).unlink()  # What another node has at this path.
        wrong = f"error: destination filed: folder {elsewhere} is not that of the other nodes"
        assert wrong in text(site.settings)
        (elsewhere / FOLDER_MARK).write_text(mark)
        assert levels(site.settings) == ["ok", "ok"]


@pytest.mark.programs
def test_a_folder_on_the_file_system_of_the_store_is_not_marked(postgresql_server, tmp_path):
    (tmp_path / "filed").mkdir()
    filed = {"name": "filed", "kind": "folder", "folder": str(tmp_path / "filed")}
    with ledger_place.on(postgresql_server), opened(settings_of(tmp_path, destinations=[filed])) as site:
        assert levels(site.settings) == ["ok", "ok"]
        assert list((tmp_path / "filed").iterdir()) == []
