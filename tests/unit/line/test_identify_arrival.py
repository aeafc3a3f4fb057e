"""What identifying an arrival says in the log."""

import logging

import pytest
from support.sites.line_site import RECEIVER, all_settled, arrive, instance, rounds, settings_for, working


@pytest.mark.parametrize(("coerces", "times"), [(True, 1), (False, 0)])
def test_an_unknown_institution_is_spoken_of_only_where_the_mapping_decides(tmp_path, caplog, coerces, times):
    (tmp_path / "mapping.json").write_text('{"CT1": "Example Hospital"}')
    caplog.set_level(logging.INFO, "storestow")
    receiver = {**RECEIVER, "coerce": coerces}
    settings = settings_for(tmp_path, receivers=[receiver], institution_mapping="mapping.json")
    with working(settings) as (site, worker):
        arrive(site.spool, instance(tmp_path))
        rounds(worker, until=all_settled(site))
    assert [record.getMessage().split()[0] for record in caplog.records].count("unknown-institution") == times
