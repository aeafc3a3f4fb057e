"""`send`: files from disk, an order of their own; what the destination has already goes only by --again."""

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pydicom
import pytest
from support.peers.fake_dcm4chee import FakeDcm4chee
from support.sites.line_site import (
    NULL,
    RECEIVER,
    all_settled,
    arrive,
    instance,
    rounds,
    settings_for,
    states,
    working,
)

from pipeline.errors import Configuration, Transient, Usage
from pipeline.ledger import destination_states, orders
from pipeline.line.admit import admit
from pipeline.line.identify_arrival import identify_arrival
from pipeline.line.quarantine import listed
from pipeline.model import OrderError, OrderStage, OrderState
from pipeline.operate.trace import trace
from pipeline.orders import view
from pipeline.sending import send_steps
from pipeline.sending.send import expire, send
from pipeline.sending.send_steps import take_long_step


@pytest.fixture
def archive():
    with FakeDcm4chee() as one:
        yield one


@pytest.fixture
def site_and_worker(tmp_path, archive):
    destinations = [{"name": "archive", "kind": "stow", "url": archive.url}, NULL]
    receiver = {**RECEIVER, "to": ["archive"]}
    with working(settings_for(tmp_path, destinations=destinations, receivers=[receiver])) as both:
        yield both


def sent(site, worker, *paths, to="archive", **keys):
    """Send, and return the order once it has ended."""
    return ended(site, worker, send(site.ledger, site.settings, paths, to, **keys).order_id)


def ended(site, worker, number):
    rounds(worker, until=lambda: look(site, number).ended_at)
    rounds(worker, until=all_settled(site))
    return look(site, number)


def look(site, number):
    with site.ledger.reading() as connection:
        return view(connection, number)


def test_files_and_folders_are_sent_as_they_are(site, worker, archive, tmp_path):
    folder = tmp_path / "study"
    (folder / "deep").mkdir(parents=True)
    one, two = instance(folder, "one", ReferringPhysicianName=""), instance(folder / "deep", "two")
    order = sent(site, worker, one, folder)
    assert (order.state, order.sent) == (OrderState.DONE, 2)
    assert sorted(archive.stored.values()) == sorted([one.read_bytes(), two.read_bytes()])


def test_as_a_receiver_they_are_coerced_as_its_own(site, worker, archive, tmp_path):
    file = instance(tmp_path, ReferringPhysicianName="")
    assert sent(site, worker, file, receiver="modalities").state == OrderState.DONE
    (stored,) = archive.stored.values()
    assert b"-^-^-^-" in stored


def test_what_the_destination_has_from_us_is_not_sent_twice(site, worker, archive, tmp_path):
    files = [instance(tmp_path, name) for name in "ab"]
    assert sent(site, worker, files[0]).sent == 1
    again = sent(site, worker, *files)
    assert (again.state, again.sent, again.sent_before) == (OrderState.DONE, 1, 1)
    assert len(archive.received) == 2


def test_a_conflict_of_the_line_is_sent_by_the_explicit_word_alone(site, worker, archive, tmp_path):
    first = instance(tmp_path, "first")
    other = pydicom.dcmread(first)
    other.PatientComments = "something else"
    other.save_as(tmp_path / "other")
    name = arrive(site.spool, first)
    rounds(worker, until=all_settled(site))
    arrive(site.spool, tmp_path / "other")
    rounds(worker, until=all_settled(site))
    (aside,) = listed(site.ledger)["quarantined"]
    assert aside["state"] == "conflict"
    assert aside["arrival"] != name
    kept = site.spool.settled / aside["arrival"] / aside["file"]
    refused = sent(site, worker, kept)
    assert (refused.state, refused.error_kind) == (OrderState.FAILED, OrderError.RELAY_FAILED)
    assert "--again" in refused.detail
    uploaded = len(archive.received)
    archive.wado_status = 404  # else it would give back its first copy, and the second count as not taken
    assert sent(site, worker, kept, again=True).state == OrderState.DONE
    assert len(archive.received) == uploaded + 1, "what the archive makes of it is the archive's to decide"
    uid = str(other.SOPInstanceUID)
    instances = [one for s in trace(str(other.StudyInstanceUID), site.ledger)["studies"] for one in s["instances"]]
    states_of_it = [one["state"] for one in instances if one["sop_instance_uid"] == uid]
    assert states_of_it == ["passed", "conflict", "passed", "passed"]


def test_a_file_that_is_no_instance_is_named_and_the_others_go(site, worker, tmp_path):
    good = instance(tmp_path, "good")
    (tmp_path / "README").write_text("no DICOM")
    order = sent(site, worker, good, tmp_path / "README", to="nowhere")
    assert (order.state, order.error_kind, order.sent) == (OrderState.PARTIAL, OrderError.RELAY_INCOMPLETE, 1)
    assert "1 of 2 files cannot be sent" in order.detail
    assert listed(site.ledger) == {"quarantined": []}, "who gave it has it still"


def test_nothing_to_send_is_said_before_anything_is_placed(site, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(Usage, match="no file to send"):
        send(site.ledger, site.settings, [tmp_path / "empty"], "archive")
    with pytest.raises(Usage, match="neither a file nor a folder"):
        send(site.ledger, site.settings, [tmp_path / "missing"], "archive")
    with pytest.raises(Configuration, match="did you mean archive"):
        send(site.ledger, site.settings, [tmp_path], "archiv")
    assert states(site, "arrivals") == {}


def test_files_of_two_receivers_are_not_treated_as_one_of_them(site, worker, tmp_path):
    name = arrive(site.spool, instance(tmp_path, "a"))
    rounds(worker, until=all_settled(site))
    inside = next(one for one in (site.spool.settled / name).iterdir() if one.name.startswith("CT"))
    with pytest.raises(Usage, match="several receivers"):
        send(site.ledger, site.settings, [inside, instance(tmp_path, "b")], "archive")


# --- the same, while it is on its way ----------------------------------------------------------------------


def pause(site, *, paused: bool) -> None:
    with site.ledger.transaction() as change:
        destination_states.change_row(change, "archive", paused=paused)


@pytest.mark.parametrize("by", ["send", "modality"])
def test_what_is_on_its_way_is_waited_for_and_goes_once(by, site, worker, archive, tmp_path):
    pause(site, paused=True)
    file = instance(tmp_path)
    if by == "send":
        send(site.ledger, site.settings, [file], "archive")
    else:
        arrive(site.spool, file)
    rounds(worker, until=lambda: states(site, "deliveries"))
    number = send(site.ledger, site.settings, [file], "archive").order_id
    rounds(worker, until=lambda: look(site, number).stage == OrderStage.PREPARING)
    rounds(worker, until=lambda: True)
    assert look(site, number).stage == OrderStage.PREPARING
    assert "delivery 1 has the same instances" in look(site, number).detail
    pause(site, paused=False)
    order = ended(site, worker, number)
    assert (order.state, order.sent, order.sent_before) == (OrderState.DONE, 0, 1)
    assert len(archive.received) == 1


def test_what_is_to_go_again_waits_for_nothing(site, worker, tmp_path):
    pause(site, paused=True)
    file = instance(tmp_path)
    for again, waiting in ((False, 1), (True, 2)):
        send(site.ledger, site.settings, [file], "archive", again=again)
        rounds(worker, until=lambda waiting=waiting: states(site, "deliveries") == {"waiting": waiting})


def test_a_send_that_waits_in_vain_ends_in_its_time_and_says_for_what_it_waited(site, worker, tmp_path):
    pause(site, paused=True)
    file = instance(tmp_path)
    numbers = [send(site.ledger, site.settings, [file], "archive").order_id for _ in range(2)]
    rounds(worker, until=lambda: {look(site, number).stage for number in numbers} == {"delivering", "preparing"})
    (waits,) = (number for number in numbers if look(site, number).stage == "preparing")
    with site.ledger.transaction() as change:
        orders.change_row(change, waits, created_at=0.0)
    worker._orders._began = 0.0
    rounds(worker, until=lambda: look(site, waits).ended_at)
    assert look(site, waits).error_kind == OrderError.RELAY_FAILED
    assert "delivery 1 has the same instances" in look(site, waits).detail


@pytest.mark.parametrize("is_over", [False, True], ids=["and waits", "and has ended"])
def test_of_two_sends_prepared_side_by_side_the_one_that_is_later_looks_again(
    is_over, site_and_worker, archive, tmp_path, monkeypatch
):
    site, worker = site_and_worker
    file = instance(tmp_path)
    first, second = (prepared(site, file) for _ in range(2))

    open_delivery = send_steps.open_one_delivery

    def meanwhile(*of_the_second) -> None:
        monkeypatch.undo()
        take_long_step(first, site)
        if is_over:
            rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 1})
        open_delivery(*of_the_second)

    monkeypatch.setattr(send_steps, "open_one_delivery", meanwhile)
    take_long_step(second, site)
    assert states(site, "deliveries") in ({"waiting": 1}, {"delivered": 1}), "that of the first alone"
    assert ended(site, worker, second).sent_before == 1
    assert len(archive.received) == 1


def prepared(site, file) -> int:
    """Place a `send` and take its file in, as far as that it is to be prepared."""
    known = {one.name for one in site.spool.arrivals.iterdir()}
    number = send(site.ledger, site.settings, [file], "archive").order_id
    (name,) = {one.name for one in site.spool.arrivals.iterdir()} - known
    admit(name, site)
    identify_arrival(name, site)
    with site.ledger.transaction() as change:
        orders.set_stage(change, number, OrderStage.PREPARING)
    return number


# --- while it copies ---------------------------------------------------------------------------------------


def test_a_send_is_not_taken_for_abandoned_while_it_copies(site, worker, archive, tmp_path, monkeypatch):
    copies, may_go_on = threading.Event(), threading.Event()
    copyfile = shutil.copyfile

    def slow(source, target, **how):
        copied = copyfile(source, target, **how)
        copies.set()
        assert may_go_on.wait(60)
        return copied

    files = [instance(tmp_path, name) for name in "abc"]
    with ThreadPoolExecutor(1) as pool, monkeypatch.context() as patch:
        patch.setattr("pipeline.sending.send.shutil.copyfile", slow)
        placed = pool.submit(send, site.ledger, site.settings, files, "archive")
        assert copies.wait(60)
        rounds(worker, until=lambda: True)
        worker.round()
        expire(site, time.time())
        assert not list(site.spool.arrivals.iterdir())
        may_go_on.set()
        number = placed.result(60).order_id
    order = ended(site, worker, number)
    assert (order.state, order.sent) == (OrderState.DONE, 3)
    assert not list(site.spool.incoming_of("_send").iterdir())


def test_a_send_that_slept_until_its_copies_were_deleted_does_not_hand_in_the_rest(site, tmp_path, monkeypatch):
    files = [instance(tmp_path, name) for name in "ab"]
    copyfile = shutil.copyfile

    def sleepy(source, target, **how):
        if target.name == "00001":
            expire(site, time.time() + 7 * 86400)
        return copyfile(source, target, **how)

    def half(folder, **_):
        (folder / "00000").unlink(missing_ok=True)

    monkeypatch.setattr("pipeline.sending.send.shutil.copyfile", sleepy)
    monkeypatch.setattr("pipeline.sending.send.remove_tree", half)
    with pytest.raises(Transient):
        send(site.ledger, site.settings, files, "archive")
    assert not list(site.spool.arrivals.iterdir())


def test_files_of_two_patients_go_only_where_that_is_said_and_never_two_under_one_study(
    site, worker, archive, tmp_path
):
    one = instance(tmp_path, "one", PatientID="P1", PatientName="ROE^ANN")
    two = instance(tmp_path, "two", PatientID="P2", PatientName="POE^BOB", StudyInstanceUID="1.2.3")
    order = sent(site, worker, one, two)
    assert (order.state, order.error_kind, order.sent) == (OrderState.FAILED, OrderError.MORE_THAN_ONE_PATIENT, 0)
    assert "--several-patients" in order.detail
    assert not archive.stored
    assert sent(site, worker, one, two, several_patients=True).state == OrderState.DONE
    three = instance(tmp_path, "three", PatientID="P3", StudyInstanceUID="1.2.3", SOPInstanceUID="1.2.3.4")
    order = sent(site, worker, two, three, again=True, several_patients=True)
    assert order.error_kind == OrderError.MORE_THAN_ONE_PATIENT


def test_what_cannot_be_copied_leaves_no_half_behind(site, worker, tmp_path, monkeypatch):
    files = [instance(tmp_path, name) for name in "ab"]
    copyfile = shutil.copyfile

    def full(source, target, **how):
        if target.name == "00001":
            raise OSError(28, "No space left on device")
        return copyfile(source, target, **how)

    monkeypatch.setattr("pipeline.sending.send.shutil.copyfile", full)
    with pytest.raises(Transient, match="No space left"):
        send(site.ledger, site.settings, files, "archive")
    assert not list(site.spool.incoming_of("_send").iterdir())
