"""One worker follows a retrieval; one whose retrieval was taken over meanwhile records nothing of it."""

from sqlalchemy import update
from support.sites.line_site import settings_for, working

from pipeline.ledger import retrievals
from pipeline.ledger.tables import retrieval
from pipeline.orders import retrieve_study


def test_a_retrieval_that_was_taken_over_is_not_recorded_and_one_that_is_begun_not_begun_again(
    tmp_path, monkeypatch, caplog
):
    with working(settings_for(tmp_path)) as (site, _):
        with site.ledger.transaction() as change:
            number = retrievals.enter(change, "1.2.3", (), [], 1.0)

        def taken_over_meanwhile(*_about: object) -> list[object]:
            with site.ledger.transaction() as change:
                change.execute(update(retrieval).values(claim="another", worker="there"))
            return []

        monkeypatch.setattr(retrieve_study, "identifiers", taken_over_meanwhile)
        for _ in range(2):  # the second finds it begun
            retrieve_study.move(number, site)
        with site.ledger.reading() as look:
            row = retrievals.row(look, number)
        assert (row.state, row.finished_at, row.claim, row.attempts) == ("moving", None, "another", 1)
        assert caplog.text.count("fenced what=move") == 1
