"""Orders against a PACS that answers a C-FIND oddly: what counts is what was asked for."""

import copy
import tempfile
from pathlib import Path

import pytest
from pydicom import DataElement, config
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)
from support.peers.archives import study
from support.peers.odd_pacs import SUCCESS, OddPacs
from support.sites.odd_pacs_orders import a_study_of, odd_pacs_orders, outcome
from support.sites.orders_site import OrdersSite

from pipeline.dicom.accession import AccessionNumber
from pipeline.errors import PeerUnavailable
from pipeline.model import OrderError, OrderState
from pipeline.orders import c_find
from pipeline.orders.pacs_query import PacsBusy

pytestmark = pytest.mark.programs


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    with odd_pacs_orders(tmp_path_factory.mktemp("odd")) as both:
        yield both


@pytest.fixture
def pacs(stage) -> OddPacs:
    stage[0].reset()
    return stage[0]


@pytest.fixture
def site(stage) -> OrdersSite:
    return stage[1]


@pytest.fixture
def accession(pacs, tmp_path, request) -> str:
    return a_study_of(pacs, tmp_path, request.node.name)


def test_by_the_book_it_is_done(pacs, site, accession):
    assert outcome(site.order(accession)) == (OrderState.DONE, None, 3, 3, 3)


def test_an_unknown_accession_number_is_no_data(site, pacs):
    view = site.order("NOBODY")
    assert outcome(view) == (OrderState.FAILED, OrderError.NO_DATA, 0, None, 0)
    assert view.missing == ("NOBODY",)
    assert not pacs.moves


def test_an_answer_with_another_accession_number_is_dropped(site, pacs, accession):
    def others(pacs: OddPacs, identifier):
        for status, answer in pacs.answers(identifier):
            if answer is not None and "AccessionNumber" in answer:
                answer.AccessionNumber = accession + "9"
            yield status, answer

    pacs.find = others
    assert outcome(site.order(accession)) == (OrderState.FAILED, OrderError.NO_DATA, 0, None, 0)
    assert not pacs.moves


def test_a_pacs_that_ignores_the_key_gives_only_what_was_asked_for(site, pacs, accession, tmp_path):
    pacs.hold(*study(tmp_path / "other", "SOMEBODYS"))

    def everything(pacs: OddPacs, identifier):
        if identifier.QueryRetrieveLevel == "STUDY":
            identifier.AccessionNumber = ""
        yield from pacs.answers(identifier)

    pacs.find = everything
    view = site.order(accession)
    assert outcome(view) == (OrderState.DONE, None, 3, 3, 3)
    assert {one.accession_number for one in view.found} == {accession}


def respelled(*numbers: str):
    """Answers of a PACS that finds the study by other spellings, and answers by these."""

    def find(pacs: OddPacs, identifier):
        for status, answer in OddPacs.answers(pacs, identifier):
            for number in numbers if identifier.QueryRetrieveLevel == "STUDY" else (None,):
                if number is not None:
                    answer.AccessionNumber = number
                yield status, answer

    return find


@pytest.mark.parametrize(
    ("answered", "done"),
    [
        (("{n} ",), True),
        (("{N}",), True),
        (("X9\\{n}",), True),
        (("{N}", "{n}"), True),
        (("{N}", "{N} "), True),
        (("{n}0",), False),
    ],
)
def test_a_study_is_found_by_its_number_however_that_is_spelled(site, pacs, accession, answered, done):
    number = accession.lower()
    pacs.hold(*study(Path(tempfile.mkdtemp()), number))
    pacs.find = respelled(*(one.format(n=number, N=number.upper()) for one in answered))
    view = site.order(number)
    assert (view.state == OrderState.DONE) is done, view
    assert {one.accession_number for one in view.found} == ({number} if done else set())


def test_of_two_other_spellings_neither_is_taken_and_both_are_named(site, pacs, tmp_path):
    pacs.hold(*study(tmp_path, "Two-a"))
    pacs.find = respelled("TWO-A", "two-A")
    view = site.order("Two-a")
    assert outcome(view)[:2] == (OrderState.FAILED, OrderError.NO_DATA)
    assert "TWO-A; two-A" in (view.detail or "")
    assert not pacs.moves


def test_an_answer_without_a_number_is_said_as_that(site, pacs, accession):
    pacs.find = respelled("")
    view = site.order(accession)
    assert outcome(view)[:2] == (OrderState.FAILED, OrderError.NO_DATA)
    assert "bears an empty accession number" in (view.detail or "")
    assert "has no study" not in (view.detail or "")


def test_one_study_under_two_numbers_is_delivered_once(site, pacs, accession, tmp_path):
    uid = next(uid for uid, some in pacs.holdings.items() if some[0].AccessionNumber == accession)
    other = accession + "B"
    pacs.hold(*study(tmp_path / "other", other, uid=uid, instances=2))
    view = site.order(accession, other)
    assert outcome(view) == (OrderState.DONE, None, 5, 5, 5)
    assert [one.accession_numbers for one in view.found] == [(accession, other)]
    assert (len(pacs.moves), view.missing) == (1, ())


def test_two_patients_in_the_answers_about_one_study_are_refused(site, pacs, accession):
    def find(pacs: OddPacs, identifier):
        for status, answer in OddPacs.answers(pacs, identifier):
            yield status, answer
            if identifier.QueryRetrieveLevel == "STUDY":
                other = copy.deepcopy(answer)
                other.PatientID = "P2"
                yield status, other

    pacs.find = find
    assert outcome(site.order(accession))[:2] == (OrderState.FAILED, OrderError.MORE_THAN_ONE_PATIENT)
    assert not pacs.moves


@pytest.mark.filterwarnings("ignore:The value length")  # of the PACS of the test, which holds and answers it
def test_a_number_longer_than_its_vr_is_asked_for_as_it_is(site, pacs, tmp_path):
    number = "RAD-2026-000004711-" + "7" * 45
    pacs.hold(*study(tmp_path, number))
    assert outcome(site.order(number)) == (OrderState.DONE, None, 3, 3, 3)


def with_series(change):
    """Answers of a PACS whose series are told as `change` leaves them, by modality."""

    def find(pacs: OddPacs, identifier):
        for status, answer in OddPacs.answers(pacs, identifier):
            if identifier.QueryRetrieveLevel == "SERIES":
                change(answer)
            yield status, answer

    return find


def no_modality(answer) -> None:
    if answer.Modality == "MR":
        del answer.Modality


def localizer(answer) -> None:
    if answer.Modality == "MR":
        element = DataElement("SeriesInstanceUID", "UI", "LOCALIZER1.2.3", validation_mode=config.IGNORE)
        answer["SeriesInstanceUID"] = element


@pytest.mark.parametrize(
    ("change", "said"),
    [(no_modality, "has no modality"), (localizer, "has the Series Instance UID 'LOCALIZER1.2.3', which is none")],
)
def test_series_that_cannot_be_told_are_named_and_the_others_are_not_sent(site, pacs, tmp_path, change, said):
    number = f"W{change.__name__}"[:16]
    pacs.hold(*study(tmp_path, number, series=2, modalities=("CT", "MR")))
    pacs.find = with_series(change)
    view = site.order(number, modalities=("CT", "MR"))
    assert outcome(view) == (OrderState.FAILED, OrderError.MOVE_INCOMPLETE, 0, None, 0)
    assert said in (view.detail or "")
    assert not pacs.moves
    assert outcome(site.order(number)) == (OrderState.DONE, None, 6, 6, 6), "all of it was asked for"


def test_a_list_of_series_that_ended_at_a_limit_does_not_tell_which_are_of_a_modality(site, pacs, tmp_path):
    pacs.hold(*study(tmp_path, "WCAPPED", series=4, modalities=("CT", "MR")))

    def capped(pacs: OddPacs, identifier):
        answers = list(OddPacs.answers(pacs, identifier))
        yield from answers[:2] if identifier.QueryRetrieveLevel == "SERIES" else answers

    pacs.find = capped
    view = site.order("WCAPPED", modalities=("CT",))
    assert outcome(view)[:2] == (OrderState.FAILED, OrderError.MOVE_INCOMPLETE)
    assert "it tells 2 of 4 series" in (view.detail or "")
    pacs.move = lambda move: move.respond(SUCCESS, completed=move.send(move.wanted[:6]))
    assert outcome(site.order("WCAPPED")) == (OrderState.PARTIAL, OrderError.MOVE_INCOMPLETE, 6, 12, 0)


def test_a_number_of_series_that_is_too_high_keeps_no_order_back_if_all_instances_are_told(site, pacs, tmp_path):
    pacs.hold(*study(tmp_path, "WSERIES", series=2, modalities=("CT", "MR")))

    def stale(pacs: OddPacs, identifier):
        for status, answer in OddPacs.answers(pacs, identifier):
            if identifier.QueryRetrieveLevel == "STUDY":
                answer.NumberOfStudyRelatedSeries = "9"
            yield status, answer

    pacs.find = stale
    assert outcome(site.order("WSERIES", modalities=("CT",))) == (OrderState.DONE, None, 3, 3, 3)


def test_a_series_of_two_modalities_is_of_either(site, pacs, accession):
    pacs.find = with_series(lambda answer: setattr(answer, "Modality", ["CT", "PT"]))
    assert outcome(site.order(accession, modalities=("PT",))) == (OrderState.DONE, None, 3, 3, 3)


def test_a_series_without_a_valid_uid_keeps_no_other_modality_from_being_moved(site, pacs, tmp_path):
    pacs.hold(*study(tmp_path, "WOTHER", series=2, modalities=("CT", "MR")))
    pacs.find = with_series(localizer)
    assert outcome(site.order("WOTHER", modalities=("CT",))) == (OrderState.DONE, None, 3, 3, 3)


def test_a_pacs_that_does_not_tell_its_series_is_not_said_to_have_none_of_a_modality(site, pacs, accession):
    def find(pacs: OddPacs, identifier):
        if identifier.QueryRetrieveLevel == "SERIES":
            yield 0xA900, None
        else:
            yield from OddPacs.answers(pacs, identifier)

    pacs.find = find
    view = site.order(accession, modalities=("CT",))
    assert outcome(view)[:2] == (OrderState.FAILED, OrderError.MOVE_INCOMPLETE)
    assert "does not tell its series" in (view.detail or "")


def test_a_modality_the_pacs_has_corrected_in_its_database_only_is_the_one_that_counts(site, pacs, accession):
    pacs.find = with_series(lambda answer: setattr(answer, "Modality", "MR"))
    assert outcome(site.order(accession, modalities=("MR",))) == (OrderState.DONE, None, 3, 3, 3)
    assert outcome(site.order(accession, modalities=("CT",)))[:2] == (OrderState.FAILED, OrderError.NO_DATA)


def test_a_query_that_fails_is_a_pacs_out_of_reach(site, pacs, accession):
    pacs.find = lambda pacs, identifier: iter([(0xA700, None)])
    view = site.order(accession)
    assert outcome(view)[:2] == (OrderState.FAILED, OrderError.PACS_UNREACHABLE)
    assert "OutOfResources" in (view.detail or "")


@pytest.mark.parametrize("how", ["final_has_data_set", "ends_after_a_query"])
def test_a_pacs_that_answers_one_query_an_association_is_asked_over_several(site, pacs, accession, tmp_path, how):
    other = accession + "B"
    pacs.hold(*study(tmp_path / "other", other, series=3))
    setattr(pacs, how, True)
    assert outcome(site.order(accession, other)) == (OrderState.DONE, None, 12, 12, 12)
    listed = {str(one.SeriesInstanceUID) for one in pacs.queries if one.QueryRetrieveLevel == "IMAGE"}
    assert len(listed) == 4, "and so are the lists of instances"


@pytest.mark.parametrize(
    ("sop_class", "times"),
    [(StudyRootQueryRetrieveInformationModelFind, 3), (StudyRootQueryRetrieveInformationModelMove, 4)],
)
def test_a_pacs_that_takes_no_association_for_now_is_asked_again(site, pacs, accession, sop_class, times):
    pacs.rejects_for_now = {sop_class: times}
    view = site.order(accession)
    assert outcome(view) == (OrderState.DONE, None, 3, 3, 3)
    assert view.detail is None
    assert pacs.rejects_for_now == {sop_class: 0}


def test_a_pacs_that_takes_none_for_longer_is_asked_later_and_is_not_out_of_reach(
    site, pacs, accession, tmp_path, monkeypatch
):
    monkeypatch.setattr("pipeline.orders.pacs_query.PAUSES_SECONDS", (0.0,))
    pacs.rejects_for_now = {StudyRootQueryRetrieveInformationModelFind: 2}
    with pytest.raises(PacsBusy, match="takes no association for now"):
        c_find.studies_of([AccessionNumber(accession)], site.settings, tmp_path)
    assert not issubclass(PacsBusy, PeerUnavailable), "which would end the order"
