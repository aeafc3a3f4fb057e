"""What getscu received is admitted by the worker that follows the retrieval, or by the one that took it over."""

from types import SimpleNamespace

import pytest
from support.sites.line_site import RECEIVER, settings_for, working

from pipeline.config.order_tables import PacsTable
from pipeline.ledger.claims import Fenced
from pipeline.orders.c_get import received_into, take_leftovers


def test_a_folder_that_another_worker_has_admitted_meanwhile_does_not_hide_that_it_has_taken_over(tmp_path):
    receivers = [{**RECEIVER, "name": "cdrecord", "coerce": False, "to": []}]
    pacs = {"ae_title": "PACS", "host": "127.0.0.1", "port": 9, "calling_ae_title": "US", "receiver": "cdrecord"}
    settings = settings_for(tmp_path, receivers=receivers).model_copy(
        update={"pacs": PacsTable.model_validate({**pacs, "retrieve": "get"})}
    )
    with working(settings) as (site, _):

        def taken_over_meanwhile() -> None:
            with received_into(SimpleNamespace(id=1), site) as folder:
                (folder / "CT.1").write_bytes(b"x")
                take_leftovers(site)
                assert not folder.exists()
                raise Fenced

        with pytest.raises(Fenced):
            taken_over_meanwhile()
        assert len(list(site.spool.arrivals.iterdir())) == 1
