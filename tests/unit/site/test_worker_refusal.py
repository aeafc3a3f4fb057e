"""A worker that refuses to start is spoken of by its receivers and by `status`, until one has started."""

import logging

import pytest
from support.sites import line_site

from pipeline.errors import Configuration
from pipeline.ledger import FILE_NAME, Ledger
from pipeline.operate.status import status
from pipeline.site import worker_refusal
from pipeline.site.worker_refusal import AGAIN_SECONDS, AnotherWorks, RefusalWatch, noted_for_receivers
from pipeline.spool.spool import Spool


@pytest.fixture
def settings(tmp_path):
    found = line_site.settings_for(tmp_path)
    with line_site.working(found):
        pass
    return found


@pytest.fixture
def spool(settings):
    return Spool(settings.site.spool)


@pytest.fixture
def site(settings):
    file = settings.folder / "site.toml"
    file.write_text(f'[site]\nspool = "{settings.site.spool}"\n[[receiver]]\nnaem = "wrong"\n')
    return file


def refuse(site, error):
    with pytest.raises(type(error)), noted_for_receivers(site):
        raise error


def test_a_receiver_says_it_at_once_then_every_hour_and_again_when_the_reason_is_another(site, spool, caplog):
    watch = RefusalWatch(spool, "modalities")
    caplog.set_level(logging.ERROR, "storestow")
    watch.look(now=0.0)
    assert not caplog.records
    refuse(site, Configuration("the ledger was written by a newer release"))
    for now in (1.0, 2.0, AGAIN_SECONDS, AGAIN_SECONDS + 1):
        watch.look(now=now)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert all("worker-refuses receiver=modalities" in line and "newer release" in line for line in told)
    refuse(site, Configuration("naem: unknown key"))
    watch.look(now=AGAIN_SECONDS + 2)
    assert "unknown key" in caplog.records[-1].getMessage()


def test_status_says_it_and_a_worker_that_starts_ends_it(settings, site, spool):
    refuse(site, Configuration("no room"))
    ledger = Ledger(spool.root / FILE_NAME)
    try:
        assert status(settings, ledger)["worker"]["refuses"] == "no room"
        with line_site.working(settings):
            assert status(settings, ledger)["worker"]["refuses"] is None
    finally:
        ledger.close()


def test_a_second_worker_that_is_turned_away_is_no_refusal(site, spool):
    refuse(site, AnotherWorks("another worker is running"))
    assert worker_refusal.reason(spool) is None


@pytest.mark.parametrize("text", ["", "[site]\n", "no toml", "[site]\nspool = 7\n"])
def test_where_no_spool_can_be_known_the_error_itself_goes_on(tmp_path, text):
    file = tmp_path / "site.toml"
    file.write_text(text)
    refuse(file, Configuration("it is wrong"))
    refuse(tmp_path / "missing.toml", Configuration("it is not there"))
