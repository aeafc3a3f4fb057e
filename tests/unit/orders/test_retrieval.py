"""How a retrieval ended that did not bring everything: pure, from what the PACS said and what came."""

from types import SimpleNamespace

import pytest

from pipeline.config.order_tables import PacsTable
from pipeline.model import OrderError, RetrievalState
from pipeline.orders.retrieval import verdict
from pipeline.orders.retrieve_study import identifiers

PACS = PacsTable(ae_title="ABPACS", host="10.0.0.1", port=11113, calling_ae_title="CDRECORD", receiver="cdrecord")
COMPLETE = "0x0000"


def row(**keys: object) -> SimpleNamespace:
    values = {"status": COMPLETE, "error_kind": None, "detail": None, "failed": 0, "attempts": 1}
    return SimpleNamespace(**{**values, "announced": None, "modalities": (), "study_instance_uid": "1.2", **keys})


def wish(**keys: object) -> SimpleNamespace:
    series = [["1.2.1", "CT", 2], ["1.2.2", "MR", 1]]
    return SimpleNamespace(**{"modalities": (), "counted": None, "listed": None, "series": series, **keys})


@pytest.mark.parametrize(
    ("what", "received", "state", "kind"),
    [
        ({"status": "0xB000", "failed": 1}, 2, RetrievalState.INCOMPLETE, OrderError.MOVE_INCOMPLETE),
        ({"status": "0xB000", "failed": 3}, 0, RetrievalState.INCOMPLETE, OrderError.MOVE_INCOMPLETE),
        ({"status": COMPLETE}, 2, RetrievalState.INCOMPLETE, OrderError.MOVE_INCOMPLETE),
        ({"status": COMPLETE}, 0, RetrievalState.INCOMPLETE, OrderError.NO_DATA),
        ({"status": "0xA801"}, 0, RetrievalState.FAILED, OrderError.PACS_UNREACHABLE),
        ({"status": "0xA702", "failed": 3}, 0, RetrievalState.FAILED, OrderError.PACS_UNREACHABLE),
        ({"status": "0xC000"}, 1, RetrievalState.INCOMPLETE, OrderError.MOVE_INCOMPLETE),
        ({"status": None}, 1, RetrievalState.QUEUED, None),
        ({"status": None, "attempts": 2}, 1, RetrievalState.INCOMPLETE, OrderError.MOVE_INCOMPLETE),
        ({"status": None, "attempts": 2}, 0, RetrievalState.FAILED, OrderError.PACS_UNREACHABLE),
        ({"status": None, "error_kind": "move-timed-out"}, 1, RetrievalState.FAILED, OrderError.MOVE_TIMED_OUT),
    ],
)
def test_the_end_of_a_retrieval_that_lacks_something(what, received, state, kind):
    assert verdict(row(**what), received, 3, PACS)[:2] == (state, kind)


def test_a_destination_the_pacs_does_not_know_is_named_with_the_remedy():
    _, _, detail = verdict(row(status="0xA801", detail="Refused: Move Destination unknown"), 0, 3, PACS)
    assert "does not know our receiver cdrecord as a move destination" in str(detail)


@pytest.mark.parametrize(
    ("what", "received", "lacks"),
    [
        ({"status": "0xB000", "failed": 1}, 2, 1),
        ({"status": COMPLETE}, 1, 2),
        ({"status": "0xC000", "failed": 1}, 0, 3),
        ({"status": "0xC000", "failed": 5}, 1, 5),
    ],
)
def test_what_c_get_could_not_have_is_counted_and_the_reason_told(what, received, lacks):
    by_get = PACS.model_copy(update={"retrieve": "get"})
    state, _, detail = verdict(row(**what), received, 3, by_get)
    assert state in {RetrievalState.INCOMPLETE, RetrievalState.FAILED}
    assert f"; {lacks} could not be had by C-GET (it takes uncompressed transfer syntaxes only" in str(detail)
    assert "move destination" not in str(detail)
    assert "C-GET" not in str(verdict(row(**what), received, 3, PACS)[2])


def questions(*args) -> list[tuple[str, str | None]]:
    return [(one.QueryRetrieveLevel, one.get("SeriesInstanceUID")) for one in identifiers(*args)]


def test_a_whole_study_is_asked_for_whole_and_modalities_by_their_series():
    assert questions(row(), set(), [wish()]) == [("STUDY", None)]
    only_mr = wish(modalities=["MR"], series=[["1.2.2", "MR", 1]])
    assert questions(row(modalities=("MR",)), set(), [only_mr]) == [("SERIES", "1.2.2")]


def test_only_series_that_lack_something_are_asked_for_again():
    listed = [["1.2.1", "a"], ["1.2.1", "b"], ["1.2.2", "c"]]
    assert questions(row(), {("1.2.1", "a"), ("1.2.2", "c")}, [wish(listed=listed)]) == [("SERIES", "1.2.1")]
    assert not questions(row(), {tuple(key) for key in listed}, [wish(listed=listed)])
    assert questions(row(), {("1.2.1", "a")}, [wish()]) == [("STUDY", None)], "nobody knows what is lacking"


def test_nothing_is_asked_for_that_nobody_waits_for():
    assert not questions(row(), set(), [])
