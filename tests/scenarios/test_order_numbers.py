"""The number of an order names it in folders, addresses and what is copied for it: no two ever share one."""

import time

import pytest
from support.machine.dicom_programs import wait_until
from support.sites import ledger_place
from support.sites.line_site import NULL, all_settled, arrive, instance, rounds, settings_for, working

from pipeline.ledger import REBUILT
from pipeline.sending.send import send

pytestmark = pytest.mark.both_databases


@pytest.fixture
def placed(tmp_path):
    """Return what places an order, with a worker's ledger of its own each time."""

    def place() -> list[int]:
        with working(settings_for(tmp_path, destinations=[NULL])) as (site, worker):
            arrive(site.spool, instance(tmp_path, "received"))
            rounds(worker, until=all_settled(site))
            file = instance(tmp_path, "given")
            return [send(site.ledger, site.settings, [file], "nowhere").order_id for _ in range(2)]

    return place


def test_the_orders_of_a_rebuilt_ledger_have_numbers_that_none_of_the_lost_one_had(tmp_path, placed):
    assert placed() == [1, 2]
    spool = tmp_path / "spool"
    ledger_place.lose(spool)
    first, second = placed()
    ledger = ledger_place.ledger_of(spool)
    assert first == int(float(ledger.noted(REBUILT) or 0)) - 1_577_836_800
    ledger.close()
    assert second == first + 1
    wait_until(lambda: int(time.time()) - 1_577_836_800 > second)  # the numbers begin with the second of the loss
    ledger_place.lose(spool)
    assert placed()[0] > second
