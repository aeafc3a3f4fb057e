"""A study is complete as far as anybody can know: what has come in and was not looked at may belong to it."""

import os
import shutil
import time
from pathlib import Path

import pytest
from pydicom.uid import generate_uid
from support.sites.line_site import all_settled, arrive, instance, rounds, settings_for, states, working

from pipeline.line import line
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
