"""Orders against real archives: Orthanc, and DCMTK's dcmqrscp, which counts nothing and forgives nothing."""

import contextlib
import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pydicom
import pytest
from support.machine.dicom_programs import dcmsend, free_port, listens, wait_until
from support.peers.archives import Archive, dcmqrscp_archive, orthanc_archive, study, study_uid
from support.sites.orders_site import OrdersSite, orders_site
from support.studies.accounting import changed_values

from pipeline.model import OrderError, OrderState

pytestmark = pytest.mark.programs

DATA_SET_TRAILING_PADDING = 0xFFFCFFFC  # a sender's own affair
ARCHIVES = {"orthanc": orthanc_archive, "dcmqrscp": dcmqrscp_archive}


@contextlib.contextmanager
def scene(folder: Path, kind: str, **keys: object) -> Iterator[tuple[Archive, OrdersSite]]:
    port = free_port()
    with ARCHIVES[kind](folder / kind, port) as archive, orders_site(folder, archive, port, **keys) as site:
        yield archive, site


BUSY = {
    "name": "modalities",
    "ae_title": "STORESTOW",
    "mode": "association",
    "quiet_seconds": 1,
    "to": ["encoded"],
}
ENCODED = {"name": "encoded", "kind": "null", "encode": "j2k"}
DEAD = {"name": "publisher", "kind": "stow", "url": "http://127.0.0.1:1/studies"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("orders")
    with scene(
        folder, "orthanc", receivers=[BUSY], destinations=[ENCODED, DEAD], pacs={"moves_at_once": 1}
    ) as both:
        yield both


@pytest.fixture
def archive(shared) -> Archive:
    return shared[0]


@pytest.fixture
def site(shared) -> OrdersSite:
    return shared[1]


def moves(site: OrdersSite, *studies: str) -> int:
    """Count the C-MOVEs of these studies, or of all."""
    lines = [line for line in site.up.text().splitlines() if " retrieving " in line]
    return sum(not studies or any(uid in line for uid in studies) for line in lines)


def uids(files: list[Path]) -> set[str]:
    return {str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in files}


# --- what comes ------------------------------------------------------------------------------------------


def test_several_studies_under_several_numbers_are_one_delivery(site, archive, tmp_path):
    one = study(tmp_path, "S1", series=2)
    other = study(tmp_path, "S1", instances=2)
    third = study(tmp_path, "S2")
    archive.store(*one, *other, *third)
    view = site.order("S1", "S2")
    assert (view.state, view.expected, view.received, view.sent) == (OrderState.DONE, 11, 11, 11)
    assert sorted((s.accession_number, s.series, s.instances) for s in view.found) == [
        ("S1", 1, 2),
        ("S1", 2, 6),
        ("S2", 1, 3),
    ]
    assert uids([*one, *other, *third]) <= uids(site.delivered())
    (sent,) = [line for line in site.up.text().splitlines() if " delivered " in line and "stored=11" in line]
    assert "destination=shelf" in sent


def test_what_leaves_is_what_the_archive_sent(site, archive, tmp_path):
    (file,) = study(tmp_path, "BYTES", instances=1, ReferringPhysicianName="", InstitutionName="Somewhere")
    archive.store(file)
    assert site.order("BYTES").state == OrderState.DONE
    sent = pydicom.dcmread(file)
    (came,) = [one for one in site.delivered() if sent.SOPInstanceUID in one.name]
    assert not changed_values(sent, pydicom.dcmread(came)) - {DATA_SET_TRAILING_PADDING}
    (instance,) = site.up.trace("BYTES")
    assert (instance["changes"], instance["state"]) == ([], "passed")
    assert instance["deliveries"][0]["sent_sha256"] == instance["received_sha256"]


def test_an_unknown_number_stops_all_unless_that_is_allowed(site, archive, tmp_path):
    archive.store(*study(tmp_path, "KNOWN"))
    view = site.order("KNOWN", "UNKNOWN")
    assert (view.state, view.error_kind, view.missing) == (OrderState.FAILED, OrderError.NO_DATA, ("UNKNOWN",))
    assert view.sent == 0
    rest = site.order("KNOWN", "UNKNOWN", missing_allowed=True)
    assert (rest.state, rest.error_kind, rest.missing) == (OrderState.PARTIAL, OrderError.NO_DATA, ("UNKNOWN",))
    assert rest.sent == 3


def test_only_the_series_of_the_modalities_asked_for_are_moved(site, archive, tmp_path):
    files = study(tmp_path, "MODS", series=3, modalities=("CT", "MR", "SR"))
    archive.store(*files)
    view = site.order("MODS", modalities=("MR", "SR"))
    assert (view.state, view.expected, view.received, view.sent) == (OrderState.DONE, 6, 6, 6)
    assert view.found[0].modalities == ("MR", "SR")
    kept = [one for one in site.up.trace("MODS") if one["modality"] == "CT"]
    assert not kept


def test_an_archive_that_knows_no_such_study_says_no_data(site):
    view = site.order("NOTHING")
    assert (view.state, view.error_kind) == (OrderState.FAILED, OrderError.NO_DATA)


def test_dcmqrscp_counts_nothing_and_is_judged_by_its_lists(tmp_path):
    one, other = study(tmp_path, "Q1", series=2, modalities=("CT", "MR")), study(tmp_path, "Q1")
    with scene(tmp_path, "dcmqrscp") as (archive, site):
        archive.store(*one, *other)
        view = site.order("Q1")
        assert (view.state, view.expected, view.received, view.sent) == (OrderState.DONE, 9, 9, 9)
        assert uids([*one, *other]) == uids(site.delivered())
        filtered = site.order("Q1", modalities=("MR",), destination="nowhere")
        assert (filtered.state, filtered.expected, filtered.received) == (OrderState.DONE, 3, 3)
        assert moves(site) == 2
        assert site.order("Q2").error_kind == OrderError.NO_DATA


def test_check_asks_the_archive_and_says_what_it_answers(site, archive):
    found = {one["about"]: one for one in json.loads(site.up.run("check", "--json").stdout)["findings"]}
    assert found["pacs"]["level"] == "ok"
    assert found["findscu"]["level"] == found["movescu"]["level"] == "ok"


def test_the_command_waits_and_ends_as_the_order_does(site, archive, tmp_path):
    archive.store(*study(tmp_path, "COMMAND"))
    done = site.up.run("retrieve", "COMMAND", "--to", "shelf")
    assert (done.returncode, "3 of 3 instances received, 3 sent" in done.stdout) == (0, True)
    again = site.up.run("retrieve", " COMMAND ", "--to", "shelf", "--json")
    assert json.loads(again.stdout)["already_sent"] is True
    assert site.up.run("retrieve", "COMMANDX", "--to", "shelf").returncode == 65
    assert site.up.run("retrieve", "COMM*", "--to", "shelf").returncode == 64
    assert site.up.run("retrieve", "COMMAND", "--to", "shelv").returncode == 78
    traced = site.up.ask("trace", "COMMAND")
    assert [(one["verb"], one["state"]) for one in traced["orders"]] == [("retrieve", "done")]
    assert traced["studies"][0]["instances"][0]["deliveries"][0]["order"] == traced["orders"][0]["id"]
    assert site.up.ask("trace", "COMMANDX")["orders"][0]["error"] == "no DICOM data for accession_number"
    assert site.up.status()["orders"]["done"] >= 1


# --- sharing ---------------------------------------------------------------------------------------------


def test_two_orders_for_one_study_at_once_are_one_move_and_both_are_served(site, archive, tmp_path):
    files = study(tmp_path, "TWICE", instances=40)
    archive.store(*files)
    with ThreadPoolExecutor(2) as both:
        first, second = both.map(
            lambda destination: site.place("TWICE", destination=destination).order_id, ("shelf", "nowhere")
        )
    assert first != second
    assert [site.wait(one).state for one in (first, second)] == [OrderState.DONE, OrderState.DONE]
    assert moves(site, study_uid(files)) == 1


def test_the_same_wish_is_one_order_while_it_is_open_and_a_while_after(site, archive, tmp_path):
    archive.store(*study(tmp_path, "SAME", instances=10))
    first = site.place("SAME", verb="print")
    again = site.place("SAME", verb="print")
    assert (first.is_new, again) == (True, type(first)(first.order_id, is_new=False))
    site.wait(first.order_id)
    assert site.place("SAME", verb="print").order_id == first.order_id
    assert site.place("SAME", verb="print", again=True).is_new


def test_a_study_held_already_serves_another_order_without_a_move(site, archive, tmp_path):
    files = study(tmp_path, "HELD")
    archive.store(*files)
    assert site.order("HELD").state == OrderState.DONE
    view = site.order("HELD", destination="nowhere")
    assert (view.state, view.received, view.sent) == (OrderState.DONE, 3, 3)
    assert moves(site, study_uid(files)) == 1


def test_a_study_that_has_grown_since_is_moved_again_for_what_is_new(site, archive, tmp_path):
    files = study(tmp_path, "GROWN")
    archive.store(*files)
    assert site.order("GROWN").state == OrderState.DONE
    more = study(tmp_path / "more", "GROWN", uid=study_uid(files), instances=2)
    archive.store(*more)
    view = site.order("GROWN", destination="nowhere")
    assert (view.state, view.expected, view.received, view.sent) == (OrderState.DONE, 5, 5, 5)
    assert moves(site, study_uid(files)) == 2


def test_a_study_pushed_to_another_receiver_does_not_count_as_held(site, archive, tmp_path):
    files = study(tmp_path, "PUSHED")
    archive.store(*files)
    assert dcmsend(site.up.ports["modalities"], *files).acknowledged == 3
    wait_until(lambda: len(site.up.trace("PUSHED")) == 3, what="the push")
    view = site.order("PUSHED")
    assert (view.state, view.received) == (OrderState.DONE, 3)
    assert moves(site, study_uid(files)) == 1
    assert {one["state"] for one in site.up.trace("PUSHED")} <= {"received", "passed", "encoded"}


def test_orders_survive_a_worker_killed_in_the_middle(site, archive, tmp_path):
    files = study(tmp_path, "KILLED", instances=100)
    archive.store(*files)
    placed = site.place("KILLED")
    site.wait_for(placed.order_id, lambda view: view.stage in {"moving", "receiving"})
    site.up.worker().send_signal(signal.SIGKILL)
    view = site.wait(placed.order_id, seconds=90)
    assert (view.state, view.received, view.sent) == (OrderState.DONE, 100, 100)
    assert uids(files) <= uids(site.delivered())


def test_moves_wait_for_their_turn_and_say_how_many_are_before_them(site, archive, tmp_path):
    for number in range(3):
        archive.store(*study(tmp_path, f"TURN{number}", instances=4))
    wait_until(lambda: all(listens(port) for port in site.up.ports.values()), what="every receiver")
    receivers = site.up.processes("receive")
    assert len(receivers) == len(site.up.ports)
    for receiver in receivers:
        receiver.suspend()  # so that the first move waits for it, and the others for the first
    try:
        placed = [site.place(f"TURN{number}").order_id for number in range(3)]

        def standing() -> list[tuple[str, int | None]] | None:
            views = [site.view(number) for number in placed]
            found = [(str(view.stage), view.place_in_queue) for view in views]
            begun = [stage for stage, _ in found].count("moving") == 1
            return found if begun and [place for _, place in found].count(None) == 1 else None

        found = wait_until(standing, what="one that moves, and two that wait for it")
    finally:
        for receiver in receivers:
            receiver.resume()
    assert sorted(found, key=lambda one: one[1] or 0) == [("moving", None), ("queued", 1), ("queued", 2)]
    assert [site.wait(one).state for one in placed] == [OrderState.DONE] * 3


def test_a_busy_modality_receiver_does_not_slow_an_order(site, archive, tmp_path):
    archive.store(*study(tmp_path, "URGENT", instances=20))
    (one,) = study(tmp_path / "flood", "FLOOD", instances=1)
    many = copies(one, tmp_path / "many", 400)
    assert dcmsend(site.up.ports["modalities"], *many).acknowledged == 400
    wait_until(lambda: site.up.status()["instances"]["received"] > 200, what="a busy line")
    assert site.order("URGENT").state == OrderState.DONE
    assert site.up.status()["instances"]["received"] > 0, "the line had ended before the order did"


def copies(file: Path, folder: Path, count: int) -> list[Path]:
    """Write instances of one study that take the encoder a while."""
    folder.mkdir()
    dataset = pydicom.dcmread(file)
    dataset.Rows, dataset.Columns = 512, 512
    dataset.PixelData = dataset.PixelData * 16
    made = []
    for number in range(count):
        uid = f"1.2.826.0.1.3680043.9.9997.{number + 1}"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
        made.append(folder / f"{number:05d}")
        dataset.save_as(made[-1], enforce_file_format=True)
    return made


# --- a site of its own -----------------------------------------------------------------------------------


def test_getscu_serves_where_the_archive_does_not_know_us_and_what_it_brought_is_let_go(tmp_path):
    files, port = study(tmp_path, "GET", series=2), free_port()
    keys = {"pacs": {"retrieve": "get"}, "site": {"keep_results": "1s"}}
    with dcmqrscp_archive(tmp_path / "dcmqrscp", port) as archive:
        archive.store(*files)
        with orders_site(tmp_path, archive, port, **keys) as site:
            view = site.order("GET")
            assert (view.state, view.expected, view.received, view.sent) == (OrderState.DONE, 6, 6, 6)
            assert uids(files) == uids(site.delivered())
            (arrival,) = site.up.arrivals()
            assert "-cdrecord-" in arrival
            assert {one["calling_ae_title"] for one in site.up.trace("GET")} == {"QRSCP"}
            site.up.wait_settled(6)
            time.sleep(1)
        with orders_site(tmp_path, archive, port, **keys) as site:
            wait_until(lambda: not site.up.received(), what="the retrieved study to go")
            view = site.order("GET", destination="nowhere")
            assert (view.state, view.received) == (OrderState.DONE, 6)
            assert moves(site, study_uid(files)) == 2


# --- destinations ----------------------------------------------------------------------------------------


def test_a_dead_publisher_ends_the_order_soon_and_the_next_one_retrieves_nothing(site, archive, tmp_path):
    files = study(tmp_path, "PRINT")
    archive.store(*files)
    view = site.order("PRINT", destination="publisher", verb="print")
    assert (view.state, view.error_kind) == (OrderState.FAILED, OrderError.PUBLISHER_UNREACHABLE)
    assert (view.received, view.sent) == (3, 0)
    second = site.order("PRINT", destination="publisher", verb="print")
    assert second.id != view.id
    assert second.error_kind == OrderError.PUBLISHER_UNREACHABLE
    assert moves(site, study_uid(files)) == 1
    assert not [one for one in site.up.status()["attention"] if one["destination"] == "publisher"]
    assert site.up.run("retry", "PRINT").returncode == 64


def test_what_a_destination_refused_in_part_is_sent_in_part_the_next_time(site, archive, tmp_path):
    archive.store(*study(tmp_path, "PARTLY"))
    before = set(site.delivered())
    assert site.order("PARTLY").state == OrderState.DONE
    victim = min(set(site.delivered()) - before)
    victim.write_bytes(b"something else")
    view = site.order("PARTLY", verb="forward")
    assert (view.state, view.error_kind) == (OrderState.PARTIAL, OrderError.RELAY_INCOMPLETE)
    assert (view.sent, view.refused) == (2, 1)
    victim.unlink()
    rest = site.order("PARTLY", verb="forward")
    assert (rest.state, rest.sent, rest.sent_before) == (OrderState.DONE, 1, 2)
