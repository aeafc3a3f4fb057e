"""A study is complete as far as anybody can know: what has come in and was not looked at may belong to it.

What is read for long holds up nobody, and of one study the arrivals are taken in in the order admitted.
"""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.uid import generate_uid
from support.machine.dicom_programs import wait_until
from support.sites.line_site import all_settled, arrive, instance, rounds, settings_for, states, working

from pipeline.errors import Transient
from pipeline.ledger import reports
from pipeline.line import identify_arrival, line
from pipeline.line.gather import UnreadArrivals, studies_in
from pipeline.line.identify import ReadAhead, read
from pipeline.spool.hashed_files import state_of
from pipeline.spool.spool import Spool, admit
from pipeline.worker import worker


@pytest.fixture(autouse=True)
def _a_receiver_is_running(monkeypatch):
    """Nobody but storescp's hook renames its folders then."""
    monkeypatch.setattr(worker, "sweep_abandoned", lambda *_: [])


def open_folder(spool: Spool, study: str, file: Path) -> Path:
    """Put a file where storescp would, in a study it has not announced yet."""
    folder = spool.prepare_receiver("modalities") / f"S_{study}"
    folder.mkdir()
    shutil.copyfile(file, folder / "CT.X.1")
    os.utime(folder / "CT.X.1", (time.time() - 60,) * 2)
    return folder


def some_rounds(walker: worker.Worker) -> None:
    for _ in range(20):
        walker.round()
    rounds(walker, until=lambda: True)


def test_a_study_waits_for_what_storescp_still_holds_of_it_and_goes_in_one_delivery(tmp_path):
    study = generate_uid()
    one, other = (instance(tmp_path, name, StudyInstanceUID=study) for name in ("one", "other"))
    with working(settings_for(tmp_path)) as (site, walker):
        folder = open_folder(site.spool, study, other)
        arrive(site.spool, one)
        some_rounds(walker)
        assert states(site, "deliveries") == {}
        admit(folder.parent, folder)
        rounds(walker, until=all_settled(site))
        assert states(site, "deliveries") == {"delivered": 1}
        assert states(site, "instances") == {"passed": 2}


def test_no_study_waits_for_another_ones_folder(tmp_path):
    one, other = (instance(tmp_path, name, StudyInstanceUID=generate_uid()) for name in ("one", "other"))
    with working(settings_for(tmp_path)) as (site, walker):
        open_folder(site.spool, generate_uid(), other)
        arrive(site.spool, one)
        rounds(walker, until=all_settled(site))
        assert states(site, "deliveries") == {"delivered": 1}


def test_a_study_waits_no_longer_than_gather_at_most(tmp_path):
    study = generate_uid()
    one, other = (instance(tmp_path, name, StudyInstanceUID=study) for name in ("one", "other"))
    with working(settings_for(tmp_path, gather_at_most="30s")) as (site, walker):
        open_folder(site.spool, study, other)
        arrive(site.spool, one, age=60)
        rounds(walker, until=all_settled(site))
        assert states(site, "deliveries") == {"delivered": 1}


def test_a_study_waits_for_arrivals_that_were_not_taken_in_yet(tmp_path, monkeypatch):
    study = generate_uid()
    one, other = (instance(tmp_path, name, StudyInstanceUID=study) for name in ("one", "other"))
    with working(settings_for(tmp_path)) as (site, walker):
        identify, put_off = line.identify_arrival, []

        def slowly(name, *others):
            if name == second and len(put_off) < 5:
                put_off.append(name)
                return
            identify(name, *others)

        monkeypatch.setattr(line, "identify_arrival", slowly)
        arrive(site.spool, one)
        second = arrive(site.spool, other)
        rounds(walker, until=all_settled(site))
        assert len(put_off) == 5
        assert states(site, "deliveries") == {"delivered": 1}


@pytest.mark.parametrize("stage", ["admit", "identify_arrival"])
def test_an_arrival_that_cannot_be_taken_in_holds_up_nobody(tmp_path, monkeypatch, stage):
    study = generate_uid()
    one, other = (instance(tmp_path, name, StudyInstanceUID=study) for name in ("one", "other"))
    with working(settings_for(tmp_path)) as (site, walker):
        bad = arrive(site.spool, other)
        works = getattr(line, stage)

        def fails(name, *others):
            if name == bad:
                raise OSError("a bad sector")
            works(name, *others)

        monkeypatch.setattr(line, stage, fails)
        arrive(site.spool, one)
        rounds(walker, until=lambda: states(site, "deliveries") == {"delivered": 1})
        assert (site.spool.arrivals / bad).is_dir()


def glanced(**studies) -> UnreadArrivals:
    unseen = UnreadArrivals()
    unseen._studies = {f"{number}": frozenset(held) for number, held in studies.items()}
    return unseen


def test_arrivals_of_different_studies_are_taken_in_together():
    assert list(glanced(a="1", b="2", c="3").in_order("abc", ())) == ["a", "b", "c"]


def test_an_arrival_waits_for_an_earlier_one_of_its_study_and_for_those_that_wait_for_it():
    assert list(glanced(a="1", b="12", c="2", d="3").in_order("abcd", ())) == ["a", "d"]


def test_what_cannot_be_taken_in_now_holds_up_nobody():
    assert list(glanced(a="1", b="1").in_order("ab", ["a"])) == ["a", "b"]


def test_nothing_passes_an_arrival_nobody_has_glanced_at():
    assert list(glanced(a="1", c="3").in_order("abc", ())) == ["a"]
    assert list(glanced(a="1", c="3").in_order("abc", ["b"])) == ["a", "b", "c"]


def test_of_a_study_the_first_is_taken_in_first_although_it_is_admitted_last(tmp_path, monkeypatch):
    one, other = (
        instance(tmp_path, name, StudyInstanceUID="1.2.3", SOPInstanceUID="1.2.9", PatientComments=name)
        for name in ("one", "other")
    )
    real, held = line.admit, set[str]()

    def admit_later(name: str, site, ahead) -> None:
        wait_until(lambda: name not in held)
        real(name, site, ahead)

    monkeypatch.setattr(line, "admit", admit_later)
    with working(settings_for(tmp_path)) as (site, walker):
        first = arrive(site.spool, one)
        held.add(first)
        second = arrive(site.spool, other)
        for _ in range(40):
            walker.round()
            time.sleep(0.01)
        assert states(site, "arrivals") == {"admitted": 1}
        held.clear()
        rounds(walker, until=all_settled(site))
        with site.ledger.reading() as look:
            kept = {name: [row.state for row in reports.instances_of(look, name)] for name in (first, second)}
        assert kept == {first: ["passed"], second: ["conflict"]}


def test_what_cannot_be_read_is_of_no_study_and_nothing_waits_for_it(tmp_path):
    (tmp_path / "garbage").write_bytes(b"\xff" * 5000)
    (tmp_path / "empty").touch()
    (tmp_path / ".envelope.json").write_text("{}")
    (tmp_path / "folder").mkdir()
    instance(tmp_path, "real", StudyInstanceUID="1.2.3")
    assert studies_in(tmp_path) == {"1.2.3"}
    assert studies_in(tmp_path / "gone") == frozenset()


def test_a_file_that_was_read_ahead_is_not_opened_again_until_it_is_written_to(tmp_path):
    file, ahead = instance(tmp_path, "a", StudyInstanceUID="1.2.3"), ReadAhead()
    found = read(file)
    ahead.keep(state_of(file.stat()), replace(found, key=replace(found.key, study_instance_uid="1.2.4")))
    assert studies_in(tmp_path, ahead) == {"1.2.4"}
    file.write_bytes(file.read_bytes() + b"\0\0")
    assert studies_in(tmp_path, ahead) == {"1.2.3"}


@pytest.fixture
def reading(monkeypatch):
    """Have chosen arrivals never read to their end, until told otherwise."""
    held: set[str] = set()
    real = identify_arrival.contents_of

    def contents_of(folder: Path, *arguments):
        if folder.name in held:
            raise Transient("the disk is slow")
        return real(folder, *arguments)

    monkeypatch.setattr(identify_arrival, "contents_of", contents_of)
    return held


def test_a_study_is_delivered_while_another_one_of_its_receiver_cannot_be_read(tmp_path, reading):
    one, other = (instance(tmp_path, name, StudyInstanceUID=generate_uid()) for name in ("one", "other"))
    with working(settings_for(tmp_path)) as (site, walker):
        reading.add(arrive(site.spool, one))
        arrive(site.spool, other)
        rounds(walker, until=lambda: states(site, "deliveries") == {"delivered": 1})
        reading.clear()
        walker._jobs._retry_at.clear()
        rounds(walker, until=all_settled(site))
        assert states(site, "deliveries") == {"delivered": 2}
