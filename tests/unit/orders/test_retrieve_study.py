"""One worker follows a retrieval; one whose retrieval was taken over meanwhile records nothing of it."""

import itertools
import sys
from contextlib import contextmanager

from pydicom import Dataset
from sqlalchemy import update
from support.sites.line_site import RECEIVER, settings_for, working

from pipeline.config.order_tables import PacsTable
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


def test_a_retrieval_that_was_taken_over_while_the_pacs_says_nothing_is_ended(tmp_path, monkeypatch, caplog):
    receivers = [{**RECEIVER, "name": "cdrecord", "coerce": False, "to": []}]
    pacs = {"ae_title": "PACS", "host": "127.0.0.1", "port": 9, "calling_ae_title": "US", "receiver": "cdrecord"}
    settings = settings_for(tmp_path, receivers=receivers).model_copy(
        update={"pacs": PacsTable.model_validate(pacs)}
    )
    ended = tmp_path / "ended by itself"
    silent = f"import time, pathlib; time.sleep(15); pathlib.Path({str(ended)!r}).touch()"
    question = Dataset()
    question.QueryRetrieveLevel, question.StudyInstanceUID = "STUDY", "1.2.3"
    with working(settings) as (site, _):
        with site.ledger.transaction() as change:
            number = retrievals.enter(change, "1.2.3", (), [], 1.0)

        looks = itertools.count(1)

        def taken_over_meanwhile(*_about: object) -> list[str]:
            if next(looks) == 3:  # The look before it has recorded the progress, of which there is no more.
                with site.ledger.transaction() as change:
                    change.execute(update(retrieval).values(claim="another", worker="there"))
            return ["somebody waits"]

        @contextmanager
        def commands(*_about: object):
            yield [(sys.executable, "-c", silent)]

        monkeypatch.setattr(retrieve_study, "identifiers", lambda *_: [question])
        monkeypatch.setattr(retrieve_study, "_commands", commands)
        monkeypatch.setattr(retrievals, "open_links", taken_over_meanwhile)
        retrieve_study.move(number, site)
        assert not ended.exists()
        assert caplog.text.count("fenced what=move") == 1
