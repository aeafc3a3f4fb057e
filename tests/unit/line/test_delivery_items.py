"""What leaves has the bytes that were pinned: no kept hash, and no copy of a pin, stands for them."""

import os
import time
from types import SimpleNamespace

import pytest
from support.sites.line_site import arrive, instance, settings_for, working
from support.studies.small_studies import pinned as item_of

from pipeline.ledger import instance_rows
from pipeline.line.admit import admit
from pipeline.line.delivery_items import NOT_MADE_AGAIN, InstanceToSend, pinned
from pipeline.line.identify_arrival import identify_arrival
from pipeline.model import ReceiptState
from pipeline.spool.hashed_files import state_of

UNCLAIMED = SimpleNamespace()


@pytest.fixture
def site(tmp_path):
    with working(settings_for(tmp_path)) as (site, _):
        yield site


@pytest.fixture
def given(site, tmp_path):
    """One identified instance, and the item that is pinned to its original."""
    name = arrive(site.spool, instance(tmp_path))
    admit(name, site)
    identify_arrival(name, site)
    with site.ledger.reading() as look:
        row = instance_rows.row(look, 1)
    return item_of(site.spool.arrivals / name / row.file, row.key)


def flip(path) -> None:
    """Change one byte of the pixels, and neither the size nor the time."""
    times, content = path.stat(), bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def found(site, item):
    destination = site.settings.destination_named("nowhere")
    return pinned(InstanceToSend(1, item, "modalities", 1), destination, site, UNCLAIMED)


def test_an_original_as_it_was_pinned_is_sent_itself(site, given):
    assert found(site, given) == given


def test_an_original_with_one_flipped_byte_is_refused_and_kept(site, given):
    flip(given.path)
    answer = found(site, given)
    assert answer.state is ReceiptState.REFUSED
    assert answer.message.startswith(NOT_MADE_AGAIN)
    assert "changed since it was taken in" in answer.message
    assert given.path.exists()


def test_after_a_first_attempt_no_kept_hash_is_believed(site, given):
    item = item_of(given.path, given.key, attempted=True)
    flip(given.path)
    site.hashed.keep(state_of(given.path.stat()), item.sha256, time.monotonic())
    answer = found(site, item)
    assert getattr(answer, "state", None) is ReceiptState.REFUSED
