"""Work ahead at a large study: it looks at each file once, and leaves to the study what takes milliseconds."""

import pytest
from support.sites.line_site import RECEIVER, folder_of, instance, rounds, settings_for, states, working

from pipeline.ledger import waiting_studies
from pipeline.line import work_ahead
from pipeline.line.prepare_study import PreparedAhead, prepare_study
from pipeline.line.work_ahead import WorkAhead
from pipeline.spool.spool import admit

J2K = {"name": "nowhere", "kind": "null", "encode": "j2k"}
WAITING = {**RECEIVER, "quiet_seconds": 60, "to": ["nowhere"]}


def never(receiver: str, study: str) -> bool:
    return False


def test_a_file_that_has_been_read_is_not_looked_at_again(tmp_path, monkeypatch):
    looked, status = [], work_ahead._status
    monkeypatch.setattr(work_ahead, "_status", lambda entry: looked.append(entry.name) or status(entry))
    with working(settings_for(tmp_path)) as (site, _):
        folder = folder_of(site.spool, instance(tmp_path, "a"), instance(tmp_path, "b"))
        work = WorkAhead(site, never)
        work.look()
        work.look()
        assert sorted(looked) == sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize("is_encoded", [True, False])
def test_instances_are_sent_to_a_process_together_if_their_pixels_were_encoded_ahead(
    tmp_path, monkeypatch, is_encoded
):
    with working(settings_for(tmp_path, destinations=(J2K,), receivers=[WAITING])) as (site, worker):
        ahead = PreparedAhead()
        folder = folder_of(site.spool, *(instance(tmp_path, name) for name in "abc"), age=30.0)
        if is_encoded:
            WorkAhead(site, never, prepared=ahead).look()
        admit(folder.parent, folder)
        rounds(worker, until=lambda: states(site, "instances") == {"received": 3})
        with site.ledger.reading() as connection:
            (study,) = waiting_studies.waiting(connection)
        sent, submit = [], site.pool._submit
        monkeypatch.setattr(site.pool, "size", 1)
        monkeypatch.setattr(
            site.pool, "_submit", lambda do, some, owner: sent.append(len(some)) or submit(do, some, owner)
        )
        outputs = [
            output
            for part in prepare_study(study, site, ahead)
            for one in part.outcomes.values()
            for output in one.outputs
        ]
        assert [output.encoding for output in outputs] == ["j2k"] * 3
        assert sent == ([1, 2] if is_encoded else [1, 1, 1])
