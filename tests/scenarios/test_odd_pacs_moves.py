"""Orders against a PACS that lies, fails or falls silent at a C-MOVE: what counts is what came."""

import threading
import time

import pytest
from support.machine.dicom_programs import wait_until
from support.peers.archives import study
from support.peers.odd_pacs import PENDING, SUCCESS, Move, OddPacs
from support.sites.odd_pacs_orders import a_study_of, odd_pacs_orders, outcome
from support.sites.orders_site import OrdersSite

from pipeline.model import OrderError, OrderState
from pipeline.orders import OrderView

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


def test_two_patients_under_the_numbers_asked_for_are_refused_and_nothing_is_moved(
    site, pacs, accession, tmp_path
):
    other = accession + "B"
    pacs.hold(*study(tmp_path / "other", other, patient="P2"))
    view = site.order(accession, other)
    assert outcome(view) == (OrderState.FAILED, OrderError.MORE_THAN_ONE_PATIENT, 0, None, 0)
    assert not pacs.moves
    assert "P2" not in str(view)


def test_images_of_another_patient_under_the_study_are_not_sent_anywhere(site, pacs, accession):
    uid = next(uid for uid, some in pacs.holdings.items() if some[0].AccessionNumber == accession)
    pacs.holdings[uid][1].PatientID = "P2"
    view = site.order(accession)
    assert outcome(view) == (OrderState.FAILED, OrderError.MORE_THAN_ONE_PATIENT, 3, 3, 0)


def test_success_without_sending_anything_is_no_data(site, pacs, accession):
    pacs.move = lambda move: move.respond(SUCCESS)
    view = site.order(accession)
    assert outcome(view) == (OrderState.FAILED, OrderError.NO_DATA, 0, 3, 0)
    assert "0 of 3 instances have come" in (view.detail or "")


def test_instances_counted_as_sent_that_never_came_are_missed(site, pacs, accession):
    def boast(move: Move) -> None:
        move.send(move.wanted[:2])
        move.respond(SUCCESS, completed=3)

    pacs.move = boast
    assert outcome(site.order(accession)) == (OrderState.PARTIAL, OrderError.MOVE_INCOMPLETE, 2, 3, 0)


def test_the_next_order_retrieves_only_what_is_missing(site, pacs, accession, tmp_path):
    uid = next(uid for uid, some in pacs.holdings.items() if some[0].AccessionNumber == accession)
    pacs.hold(*study(tmp_path / "more", accession, uid=uid))
    first_series = pacs.holdings[uid][0].SeriesInstanceUID

    def half(move: Move) -> None:
        sent = move.send([one for one in move.wanted if one.SeriesInstanceUID == first_series])
        move.respond(0xB000, completed=sent, failed=3)

    pacs.move = half
    view = site.order(accession)
    assert outcome(view) == (OrderState.PARTIAL, OrderError.MOVE_INCOMPLETE, 3, 6, 0)
    assert view.failed == 3
    pacs.reset()
    assert outcome(site.order(accession)) == (OrderState.DONE, None, 6, 6, 6)
    (asked,) = pacs.moves
    assert asked.QueryRetrieveLevel == "SERIES"
    assert asked.SeriesInstanceUID != first_series


def test_an_incomplete_study_is_delivered_where_that_was_allowed_and_still_is_not_called_done(
    site, pacs, accession
):
    def fail_one(move: Move) -> None:
        sent = move.send(move.wanted[:2])
        move.respond(0xB000, completed=sent, failed=1)

    pacs.move = fail_one
    view = site.order(accession, incomplete_allowed=True)
    assert outcome(view) == (OrderState.PARTIAL, OrderError.MOVE_INCOMPLETE, 2, 3, 2)
    pacs.reset()
    rest = site.order(accession, incomplete_allowed=True)
    assert outcome(rest) == (OrderState.DONE, None, 3, 3, 1)
    assert rest.sent_before == 2


def test_a_pacs_that_says_nothing_of_numbers_is_believed_by_its_final_count(site, pacs, accession):
    pacs.lists_instances = pacs.counts_instances = False

    def lose_one(move: Move) -> None:
        sent = move.send(move.wanted[:2])
        move.respond(SUCCESS, completed=sent + 1)

    pacs.move = lose_one
    assert outcome(site.order(accession)) == (OrderState.PARTIAL, OrderError.MOVE_INCOMPLETE, 2, 3, 0)
    pacs.reset()
    pacs.lists_instances = pacs.counts_instances = False
    assert outcome(site.order(accession)) == (OrderState.DONE, None, 3, 3, 3)


def counting(count: int):
    """Answers of a PACS that counts so many instances in every study and series."""

    def find(pacs: OddPacs, identifier):
        for status, answer in OddPacs.answers(pacs, identifier):
            for keyword in ("NumberOfStudyRelatedInstances", "NumberOfSeriesRelatedInstances"):
                if answer is not None and keyword in answer:
                    setattr(answer, keyword, str(count))
            yield status, answer

    return find


@pytest.mark.parametrize("completed", [2, 0])
def test_a_list_shorter_than_the_count_is_not_the_study(site, pacs, accession, completed):
    def capped(pacs: OddPacs, identifier):
        answers = list(OddPacs.answers(pacs, identifier))
        yield from answers[:2] if identifier.QueryRetrieveLevel == "IMAGE" else answers

    pacs.find = capped
    pacs.move = lambda move: (move.send(move.wanted[:2]), move.respond(SUCCESS, completed=completed))
    view = site.order(accession)
    assert outcome(view) == (OrderState.PARTIAL, OrderError.MOVE_INCOMPLETE, 2, 3, 0)
    allowed = site.order(accession, incomplete_allowed=True)
    assert outcome(allowed) == (OrderState.PARTIAL, OrderError.MOVE_INCOMPLETE, 2, 3, 2)


@pytest.mark.parametrize(
    "final",
    [
        {"completed": 6},
        {"completed": 3, "remaining": 3},
        {"completed": 3, "warned": 3},
    ],
)
def test_counts_of_sub_operations_fail_nothing_when_all_that_is_listed_is_here(site, pacs, accession, final):
    def twice(move: Move) -> None:
        move.send(move.wanted + move.wanted)
        move.respond(SUCCESS, **final)

    pacs.move = twice
    view = site.order(accession)
    assert outcome(view) == (OrderState.DONE, None, 3, 3, 3)
    assert view.counted is None


def test_a_count_of_frames_is_known_by_the_frames_that_came(site, pacs, tmp_path):
    pacs.hold(*study(tmp_path, "FRAMES", instances=3, NumberOfFrames="20"))
    pacs.find = counting(60)
    view = site.order("FRAMES")
    assert outcome(view) == (OrderState.DONE, None, 3, 3, 3)
    assert view.counted is None


def test_where_nothing_is_listed_a_final_success_rules_over_the_count_and_that_is_told(site, pacs, accession):
    pacs.lists_instances = False
    pacs.find = counting(60)
    view = site.order(accession)
    assert outcome(view) == (OrderState.DONE, None, 3, 3, 3)
    assert view.counted == 60


@pytest.mark.parametrize("counts", [True, False])
def test_a_pacs_that_says_success_first_and_sends_later_is_waited_for(site, pacs, accession, counts):
    pacs.counts_instances = counts

    def later(move: Move) -> None:
        move.respond(SUCCESS, completed=1)
        for one in move.wanted:  # an association each, after more than the receiver's quiet time, which is tested
            time.sleep(1.2)
            move.send([one])

    pacs.move = later
    assert outcome(site.order(accession)) == (OrderState.DONE, None, 3, 3, 3)


def test_a_move_destination_the_pacs_does_not_know_is_said(site, pacs, accession):
    pacs.move = lambda move: move.respond(0xA801)
    view = site.order(accession)
    assert outcome(view)[:2] == (OrderState.FAILED, OrderError.PACS_UNREACHABLE)
    assert "does not know our receiver cdrecord" in (view.detail or "")


def test_a_pacs_that_never_answers_times_out_with_what_came(site, pacs, accession):
    is_over = threading.Event()

    def stall(move: Move) -> None:
        move.respond(PENDING, remaining=2, completed=1)
        move.send(move.wanted[:1])
        is_over.wait(30)
        move.abort()

    pacs.move = stall
    began = time.monotonic()
    view = site.order(accession)
    is_over.set()
    assert outcome(view)[:3] == (OrderState.PARTIAL, OrderError.MOVE_TIMED_OUT, 1)
    assert "1 of 3" in (view.detail or "")
    assert 3 < time.monotonic() - began < 20


def test_responses_that_bring_nothing_are_no_progress(site, pacs, accession):
    is_over = threading.Event()

    def chatter(move: Move) -> None:
        for _ in range(60):
            move.respond(PENDING, remaining=3)
            if is_over.wait(0.5):
                break
        move.abort()

    pacs.move = chatter
    view = site.order(accession)
    is_over.set()
    assert outcome(view)[:2] == (OrderState.FAILED, OrderError.MOVE_TIMED_OUT)


def test_a_slow_pacs_without_pending_responses_has_all_the_time_it_needs(site, pacs, accession, tmp_path):
    uid = next(uid for uid, some in pacs.holdings.items() if some[0].AccessionNumber == accession)
    pacs.hold(*study(tmp_path / "more", accession, uid=uid, instances=3))
    pacs.seconds_an_instance = 1.0

    def slow(move: Move) -> None:
        move.respond(SUCCESS, completed=move.send(move.wanted))

    pacs.move = slow
    placed = site.place(accession)
    seen = site.wait_for(placed.order_id, lambda view: 0 < view.received < 6)
    assert seen.stage == "moving"
    assert outcome(site.wait(placed.order_id)) == (OrderState.DONE, None, 6, 6, 6)


def test_a_pacs_that_aborts_is_asked_once_more_for_the_rest(site, pacs, accession):
    def abort_once(move: Move) -> None:
        if len(pacs.moves) == 1:
            move.send(move.wanted[:1])
            move.abort()
        else:
            move.respond(SUCCESS, completed=move.send(move.wanted))

    pacs.move = abort_once
    assert outcome(site.order(accession)) == (OrderState.DONE, None, 3, 3, 3)
    assert len(pacs.moves) == 2


def test_a_pacs_that_always_aborts_is_out_of_reach(site, pacs, accession):
    pacs.move = lambda move: move.abort()
    assert outcome(site.order(accession))[:2] == (OrderState.FAILED, OrderError.PACS_UNREACHABLE)
    assert len(pacs.moves) == 2


def test_a_final_response_before_the_last_instances_is_waited_out(site, pacs, accession):
    def hasty(move: Move) -> None:
        move.respond(SUCCESS, completed=3)
        pacs.seconds_an_instance = 0.5
        move.send(move.wanted)

    pacs.move = hasty
    assert outcome(site.order(accession)) == (OrderState.DONE, None, 3, 3, 3)


def test_a_study_that_grows_while_it_is_moved_is_asked_again_for_the_order_that_knows(
    site, pacs, accession, tmp_path
):
    uid = next(uid for uid, some in pacs.holdings.items() if some[0].AccessionNumber == accession)
    pacs.seconds_an_instance = 1.2  # The second order is to find it while the first is moved.
    first = site.place(accession)
    site.wait_for(first.order_id, lambda view: view.received)
    pacs.hold(*study(tmp_path / "grown", accession, uid=uid, instances=1))
    second = site.place(accession, destination="nowhere")
    assert outcome(site.wait(first.order_id)) == (OrderState.DONE, None, 3, 3, 3)
    assert outcome(site.wait(second.order_id)) == (OrderState.DONE, None, 4, 4, 4)
    assert [move.QueryRetrieveLevel for move in pacs.moves] == ["STUDY", "SERIES"]


def test_what_comes_late_is_counted_and_served_to_the_next_order_without_a_move(site, pacs, accession, tmp_path):
    uid = next(uid for uid, some in pacs.holdings.items() if some[0].AccessionNumber == accession)
    first = site.order(accession)
    assert outcome(first) == (OrderState.DONE, None, 3, 3, 3)
    late = study(tmp_path / "late", accession, uid=uid, instances=2)
    pacs.hold(*late)
    Move(pacs, None, None, None, None).send(pacs.holdings[uid][3:])
    seen = site.wait_for(first.id, lambda view: view.late)
    assert (seen.late, seen.state, seen.sent) == (2, OrderState.DONE, 3)
    pacs.moves.clear()
    assert outcome(site.order(accession, again=True)) == (OrderState.DONE, None, 5, 5, 5)
    assert not pacs.moves
    assert len(site.delivered()) >= 5


def test_what_the_pacs_sent_unasked_serves_an_order_that_comes_meanwhile(site, pacs, accession):
    uid = next(uid for uid, some in pacs.holdings.items() if some[0].AccessionNumber == accession)
    Move(pacs, None, None, None, None).send(pacs.holdings[uid])
    wait_until(lambda: site.up.trace(accession), what="the unclaimed study")
    assert {one["reason"] for one in site.up.trace(accession)} == {"unclaimed"}
    assert outcome(site.order(accession)) == (OrderState.DONE, None, 3, 3, 3)
    assert not pacs.moves


def test_what_is_held_is_not_believed_once_the_pacs_names_another_patient(site, pacs, accession):
    assert outcome(site.order(accession)) == (OrderState.DONE, None, 3, 3, 3)
    uid = next(uid for uid, some in pacs.holdings.items() if some[0].AccessionNumber == accession)
    for one in pacs.holdings[uid]:
        one.PatientID = "CORRECTED"
    pacs.moves.clear()
    view = site.order(accession, destination="nowhere")
    assert outcome(view) == (OrderState.DONE, None, 3, 3, 3)
    assert len(pacs.moves) == 1
    assert study_uid_of(site, view) == uid


def study_uid_of(_site: OrdersSite, view: OrderView) -> str:
    return view.found[0].study_instance_uid
