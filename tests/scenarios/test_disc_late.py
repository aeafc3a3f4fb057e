"""kind = "iso" on the line: whatever became of what came earlier, the late instances are never on a disc alone."""

import contextlib
import itertools
import json
import shutil
import threading
import time
from pathlib import Path
from unittest import mock

import pydicom
import pytest
from pydicom.uid import generate_uid
from sqlalchemy import update
from support.crash.moments import point_of
from support.sites.line_site import all_settled, arrive, instance, rounds, states, working
from support.sites.study_discs import discs, pause, rows, settings
from support.studies.discs import Killed, taken_apart

from pipeline import crash_points, schedule
from pipeline.disc.errors import NoSpace, TooLarge
from pipeline.disc.formats.contents import IsoContents
from pipeline.disc.make import plan
from pipeline.ledger import deliveries
from pipeline.ledger.tables import delivery
from pipeline.line.deliver import DueDelivery, deliver
from pipeline.line.verify import verify
from pipeline.operate.retry import retry
from pipeline.sending.send import send

pytestmark = [pytest.mark.programs, pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "discs"
    folder.mkdir()
    return folder


@pytest.fixture
def files(tmp_path):
    """Three objects of one study."""
    common = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid(), "AccessionNumber": "A1"}
    return [instance(tmp_path, f"i{n}", PatientID="P1", **common) for n in range(3)]


def objects_on(image):
    with contextlib.closing(IsoContents(image)) as contents:
        return sum(name.startswith("DICOM/") for name in contents.files)


class Failing:
    """A step of making a disc that fails for as long as it is said to."""

    def __init__(self, error: Exception, step) -> None:
        self.error, self.step, self.fails = error, step, True

    def __call__(self, *args):
        if self.fails:
            raise self.error
        return self.step(*args)


@pytest.fixture
def full(monkeypatch):
    step = Failing(NoSpace("the disk is full"), plan.check_space)
    monkeypatch.setattr(plan, "check_space", step)
    return step


@pytest.fixture
def too_large(monkeypatch):
    step = Failing(TooLarge("too large", needed_bytes=2, capacity_bytes=1), plan.check_capacity)
    monkeypatch.setattr(plan, "check_capacity", step)
    return step


def test_what_was_put_off_is_on_the_disc_that_the_late_instances_make(folder, files, full, monkeypatch):
    monkeypatch.setattr(schedule, "SHORTEST_WAIT", schedule.LONGEST_WAIT)  # it is not tried again by itself
    with working(settings(folder)) as (site, worker):
        arrive(site.spool, *files[:2])
        rounds(worker, until=lambda: states(site, "deliveries") == {"deferred": 1})
        full.fails = False
        arrive(site.spool, files[2])
        rounds(worker, until=all_settled(site))
        assert states(site, "deliveries") == {"delivered": 2}
    assert discs(folder) == [(3, None)]


@pytest.mark.parametrize("put_off", [True, False], ids=["whose delivery was put off", "that are on a disc"])
def test_a_damaged_file_that_came_with_earlier_instances_is_listed_on_the_disc_of_the_late_ones(
    put_off, folder, files, full, tmp_path
):
    (tmp_path / "damaged").write_bytes(b"\0" * 200)  # nobody can tell what study it is of
    full.fails = put_off
    with working(settings(folder)) as (site, worker):
        arrive(site.spool, *files[:2], tmp_path / "damaged")
        rounds(worker, until=lambda: states(site, "deliveries") == {"deferred" if put_off else "delivered": 1})
        full.fails = False
        arrive(site.spool, files[2])
        rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 2})
    last = json.loads((folder / ("A1.json" if put_off else "A1-2.json")).read_text())
    assert (len(last["instances"]), len(last["left_out"])) == (3, 1)


def test_what_was_refused_is_on_the_disc_that_the_late_instances_make_and_is_refused_no_more(
    folder, files, too_large
):
    with working(settings(folder)) as (site, worker):
        arrive(site.spool, *files[:2])
        rounds(worker, until=lambda: states(site, "deliveries") == {"refused": 1})
        too_large.fails = False
        arrive(site.spool, files[2])
        rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 2})
        rounds(worker, until=all_settled(site))
    assert discs(folder) == [(3, None)]


def test_what_makes_the_whole_study_too_large_refuses_the_late_instances_too_until_retry_makes_one_disc(
    folder, files, too_large
):
    with working(settings(folder)) as (site, worker):
        arrive(site.spool, *files[:2])
        rounds(worker, until=lambda: states(site, "deliveries") == {"refused": 1})
        arrive(site.spool, files[2])
        rounds(worker, until=lambda: states(site, "deliveries") == {"refused": 2})
        assert discs(folder) == []
        study = rows(site)[1].study_instance_uid
        assert rows(site)[1].reason == (
            "too large (together with 2 other instances of this study that are on no disc yet): mend that and say "
            f"`storestow retry {study}`, or make a disc of the files that are meant with `storestow disc`"
        )
        too_large.fails = False
        retry(site.ledger, study, None, release_guard=False)
        rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 2})
    assert discs(folder) == [(3, None)]


def test_a_study_refused_for_two_patients_makes_no_disc_of_what_comes_later_and_says_the_way_out(
    folder, files, tmp_path
):
    study = pydicom.dcmread(files[0]).StudyInstanceUID
    other = instance(tmp_path, "other", StudyInstanceUID=study, PatientID="P1", PatientName="Other^Person")
    with working(settings(folder)) as (site, worker):
        arrive(site.spool, files[0], other)
        rounds(worker, until=lambda: states(site, "deliveries") == {"refused": 1})
        arrive(site.spool, files[1])
        rounds(worker, until=lambda: states(site, "deliveries") == {"refused": 2})
        assert "make a disc of the files that are meant with `storestow disc`" in rows(site)[1].reason
    assert discs(folder) == []


def test_earlier_instances_that_can_be_on_no_disc_are_listed_on_the_one_the_late_instances_make(
    folder, files, tmp_path
):
    study = pydicom.dcmread(files[0]).StudyInstanceUID
    private = instance(
        tmp_path, "private", StudyInstanceUID=study, PatientID="P1", SOPClassUID="1.3.12.2.1107.5.9.1"
    )
    with working(settings(folder)) as (site, worker):
        arrive(site.spool, private)
        rounds(worker, until=lambda: states(site, "deliveries") == {"refused": 1})
        arrive(site.spool, files[0])
        rounds(worker, until=lambda: states(site, "deliveries") == {"refused": 1, "delivered": 1})
    assert discs(folder) == [(1, None)]
    readme = (taken_apart(folder / "A1.iso", tmp_path / "x") / "README.TXT").read_text("utf-8-sig")
    assert pydicom.dcmread(private).SOPInstanceUID in readme


def test_what_waits_for_a_person_since_the_ledger_was_lost_is_on_the_disc_and_still_waits(folder, files):
    with working(settings(folder)) as (site, worker):
        pause(site)
        arrive(site.spool, *files[:2])
        rounds(worker, until=lambda: rows(site))
        with site.ledger.transaction() as change:
            change.execute(update(delivery).values(held=True, reason="the ledger was lost"))
        pause(site, paused=False)
        arrive(site.spool, files[2])
        rounds(worker, until=lambda: states(site, "deliveries").get("delivered"))
        assert [(one.state, one.held) for one in rows(site)] == [("waiting", True), ("delivered", False)]
        assert discs(folder) == [(3, None)]
        retry(site.ledger, None, "burner", release_guard=False)
        rounds(worker, until=all_settled(site))
        assert states(site, "deliveries") == {"delivered": 2}
    assert discs(folder) == [(3, None)]


def test_late_instances_with_a_slot_of_their_own_wait_for_what_is_still_being_looked_at(
    folder, files, monkeypatch
):
    claimed, go = threading.Event(), threading.Event()

    def hold(point: str) -> None:
        if point == point_of("claimed") and not claimed.is_set():
            claimed.set()
            assert go.wait(30)

    with working(settings(folder, slots=2)) as (site, worker):
        monkeypatch.setattr(crash_points, "observer", hold)
        arrive(site.spool, *files[:2])
        while not claimed.wait(0.05):
            worker.round()
        arrive(site.spool, files[2])
        deadline = time.monotonic() + 30
        while len(rows(site)) < 2 and time.monotonic() < deadline:
            worker.round()
            time.sleep(0.02)
        for _ in range(3):
            worker.round()
        assert [one.state for one in rows(site)] == ["sending", "waiting"]
        go.set()
        rounds(worker, until=all_settled(site))
        assert states(site, "deliveries") == {"delivered": 2}
    assert discs(folder) == [(3, None)]


def test_no_disc_is_made_while_the_file_of_one_instance_is_not_at_hand(folder, files, full):
    with working(settings(folder)) as (site, worker):
        name = arrive(site.spool, *files[:2])
        rounds(worker, until=lambda: states(site, "deliveries") == {"deferred": 1})
        full.fails = False
        away = site.spool.find(name, "CT.X.00001")
        shutil.move(away, folder.parent / "away")
        arrive(site.spool, files[2])
        rounds(worker, until=lambda: len(rows(site)) == 2 and rows(site)[1].attempts)
        assert "is not at hand" in rows(site)[1].reason
        assert discs(folder) == []


def test_an_orders_disc_interrupted_while_its_receipts_were_written_is_made_again_of_everything(folder, files):
    reaches = itertools.count(1)

    def die_at_the_first(point: str) -> None:
        if point == point_of("deliver-receipt") and next(reaches) == 1:
            raise Killed

    with working(settings(folder)) as (site, worker):
        pause(site)
        send(site.ledger, site.settings, files, "burner")
        while not rows(site):
            worker.round()
            time.sleep(0.02)
        (row,), burner = rows(site), site.settings.destination_named("burner")
        with mock.patch.object(crash_points, "observer", die_at_the_first), pytest.raises(Killed):
            deliver(DueDelivery(row.id, burner), site)
        with site.ledger.transaction() as connection:
            deliveries.resume(connection, [row.id], time.time())  # as the next start does
        assert verify(deliver(DueDelivery(row.id, burner), site), site) is None
        assert rows(site)[0].state == "delivered"
        assert objects_on(Path(rows(site)[0].made_path)) == 3
        rounds(worker, until=lambda: True)
