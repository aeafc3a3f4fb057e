"""A disc whose objects move or go while it is made: nothing is made of the rest, and nothing is refused for it."""

import json
import shutil

import pytest
from pydicom.uid import generate_uid
from sqlalchemy import select
from support.sites.line_site import RECEIVER, all_settled, arrive, instance, rounds, settings_for, states, working
from support.studies.discs import a_disc, an_object

from pipeline.disc.errors import TooLarge
from pipeline.disc.make import plan
from pipeline.disc.objects import raw as raw_module
from pipeline.errors import Transient
from pipeline.ledger.tables import delivery
from pipeline.ledger.tables import instance as instances
from pipeline.line import quarantine
from pipeline.operate.retry import retry

pytestmark = [pytest.mark.programs, pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.mark.parametrize("at", [1, 2])
def test_a_release_that_moves_the_folder_under_a_retried_disc_puts_it_off_and_makes_none_of_a_part(
    at, tmp_path, monkeypatch
):
    folder = tmp_path / "discs"
    folder.mkdir()
    common = {"StudyInstanceUID": generate_uid(), "AccessionNumber": "A1", "PatientID": "P1"}
    files = [instance(tmp_path, f"i{n}", **common) for n in range(3)]
    (tmp_path / "broken").write_bytes(b"\0" * 200)
    disc = {"name": "burner", "kind": "iso", "folder": str(folder)}
    receiver = {**RECEIVER, "to": ["burner"], "coerce": False}

    def too_large(*_args: object) -> None:
        raise TooLarge("too large", needed_bytes=2, capacity_bytes=1)

    with working(settings_for(tmp_path, destinations=[disc], receivers=[receiver])) as (site, worker):
        with monkeypatch.context() as patch:
            patch.setattr(plan, "check_capacity", too_large)
            name = arrive(site.spool, *files, tmp_path / "broken")
            rounds(worker, until=all_settled(site))
        assert states(site, "deliveries") == {"refused": 1}
        with site.ledger.reading() as look:
            aside = look.scalar(select(instances.c.file).where(instances.c.state == "quarantined"))
        mended = instance(tmp_path, "mended", StudyInstanceUID=generate_uid(), AccessionNumber="B2")
        shutil.copyfile(mended, site.spool.find(name, aside))
        retry(site.ledger, name, None, release_guard=False)
        read, files_read = raw_module.data_set_of, []

        def reading(path, scratch=None):
            files_read.append(path)
            if len(files_read) == at:
                quarantine.release(f"{name}/{aside}", site.spool, site.ledger)
            return read(path, scratch)

        monkeypatch.setattr(raw_module, "data_set_of", reading)
        rounds(worker, until=lambda: len(files_read) >= at)
        with site.ledger.reading() as look:
            state, reason = look.execute(
                select(delivery.c.state, delivery.c.reason).where(delivery.c.id == 1)
            ).one()
        assert state in {"deferred", "delivered"}, reason
        rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 2})
    held = {one.name: json.loads(one.read_text())["instances"] for one in folder.glob("*.json")}
    assert {name: len(on_it) for name, on_it in held.items()} == {"A1.json": 3, "B2.json": 1}


def test_a_file_given_by_a_person_that_goes_before_it_is_read_makes_no_disc_of_the_rest(tmp_path):
    there = an_object(tmp_path / "in")
    with pytest.raises(Transient, match="gone cannot be read: No such file or directory; no disc is made without"):
        a_disc(tmp_path, there, tmp_path / "in" / "gone")
    assert [one.name for one in tmp_path.iterdir()] == ["in"]
