"""The account of an arrival, as it is written."""

from support.sites.line_site import arrive, instance, rounds, settings_for, states, working

from pipeline.ledger import accounts


def test_the_names_in_an_account_are_plain_texts(tmp_path):
    with working(settings_for(tmp_path)) as (site, worker):
        name = arrive(site.spool, instance(tmp_path))
        rounds(worker, until=lambda: states(site, "deliveries").get("delivered"))
        with site.ledger.reading() as look:
            account = accounts.account_of(look, name, 1.0)
    (entry,) = account["instances"]
    (answer,) = entry["deliveries"]
    assert answer["delivery"]["destination"] == "nowhere"
    assert answer["receipt"]["instance"] == entry["id"]
    parts = (account["arrival"], entry, answer["receipt"], answer["delivery"])
    assert {type(key) for part in parts for key in part} == {str}
