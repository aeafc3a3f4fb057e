"""The account of an arrival as it is written into its folder."""

import json

from sqlalchemy import update
from support.sites.line_site import all_settled, arrive, instance, rounds, settings_for, working

from pipeline.ledger.tables import instance as instances
from pipeline.line.identify import ACCOUNT
from pipeline.line.settle import renew_account


def test_an_account_with_a_text_in_no_character_set_is_written_and_read_back(tmp_path):
    changes = [{"before": "M\udcfcller", "after": "M\u00fcller"}]
    with working(settings_for(tmp_path)) as (site, worker):
        name = arrive(site.spool, instance(tmp_path))
        rounds(worker, until=all_settled(site))
        with site.ledger.transaction() as change:
            change.execute(update(instances).values(changes=changes))
        renew_account(name, site.spool, site.ledger)
        (told,) = json.loads((site.spool.settled / name / ACCOUNT).read_bytes())["instances"]
    assert told["changes"] == changes
