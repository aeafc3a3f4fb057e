"""What identification has read of a file is not read again to send it as it is; whatever has changed is."""

import os
from pathlib import Path

import pydicom
import pytest
from support.sites.line_site import NULL, instance, working
from support.sites.placed_orders import arrive_from_pacs, order, settings_with_pacs

from pipeline.ledger import instance_rows, orders
from pipeline.line.admit import admit
from pipeline.line.identify_arrival import identify_arrival
from pipeline.line.prepare import PrepareTask
from pipeline.orders.consign_order import OrderItems, open_one_delivery, prepared
from pipeline.site.site import Site
from pipeline.spool.hashed_files import state_of


class NotedPool:
    """Does tasks in this process, and notes which instances are read to be prepared."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def each(self, function, tasks, *_limits, **_how):
        for task in tasks:
            if isinstance(task, PrepareTask):
                self.read.append(task.instance)
            yield task, function(task)


@pytest.fixture
def pool(monkeypatch) -> NotedPool:
    noted = NotedPool()
    monkeypatch.setattr(Site, "pool_for_orders", noted)
    return noted


@pytest.fixture
def site(tmp_path):
    encoding = {"name": "small", "kind": "null", "encode": "j2k"}
    with working(settings_with_pacs(tmp_path, destinations=(NULL, encoding))) as (site, _):
        yield site


def taken_in(site, file: Path) -> OrderItems:
    """The items of an order whose one instance has been identified."""
    name = arrive_from_pacs(site, file)
    admit(name, site)
    identify_arrival(name, site)
    with site.ledger.reading() as connection:
        return OrderItems([instance_rows.row(connection, 1)], "")


def original(site, load: OrderItems) -> Path:
    (row,) = load.rows
    return site.spool.arrivals / row.arrival / row.file


def outcome(load: OrderItems, site, destination: str = "nowhere"):
    (answer,) = prepared(load, site.settings.destination_named(destination), site).values()
    assert answer.patient.identifier == "1CT1"
    return answer


def test_a_sound_file_is_not_read_again_and_what_is_sent_is_the_same(site, tmp_path, pool):
    load = taken_in(site, instance(tmp_path))
    remembered = outcome(load, site)
    assert pool.read == []
    assert site.as_received.look_up(state_of(original(site, load).stat())) is None, "no name is kept longer"
    assert outcome(load, site) == remembered
    assert pool.read == [1]


def test_a_file_that_has_changed_since_is_read(site, tmp_path, pool):
    load = taken_in(site, instance(tmp_path))
    os.utime(original(site, load))
    outcome(load, site)
    assert pool.read == [1]


def test_what_is_to_be_encoded_is_read(site, tmp_path, pool):
    load = taken_in(site, instance(tmp_path))
    outcome(load, site, "small")
    assert pool.read == [1]


def test_a_file_whose_own_header_names_another_instance_is_read(site, tmp_path, pool):
    file = instance(tmp_path)
    dataset = pydicom.dcmread(file)
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.save_as(file)
    load = taken_in(site, file)
    outcome(load, site)
    assert pool.read == [1]


def test_the_hash_of_a_sound_file_is_kept(site, tmp_path, monkeypatch):
    load = taken_in(site, instance(tmp_path))
    monkeypatch.setattr("pipeline.spool.hashed_files.sha256_of", lambda _: "read again")
    assert site.hashed.sha256_of(original(site, load)) == load.rows[0].received_sha256
    os.utime(original(site, load))
    assert site.hashed.sha256_of(original(site, load)) == "read again"


def test_an_order_that_two_nodes_prepare_at_once_gets_one_delivery(site, tmp_path, pool):
    load = taken_in(site, instance(tmp_path))
    number = order(site, "A1").order_id
    with site.ledger.reading() as look:
        row = orders.row(look, number)
    destination = site.settings.destination_named("nowhere")
    for _ in range(2):
        open_one_delivery(row, load, prepared(load, destination, site), destination, site)
    with site.ledger.reading() as look:
        assert orders.delivery_of(look, number) is not None, "of two it raises"
