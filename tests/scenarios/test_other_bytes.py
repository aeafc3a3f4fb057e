"""A disk that silently gives other bytes than it was given: they do not leave, and what can be made again does."""

import hashlib
import os
from pathlib import Path

from support.peers.fake_dcm4chee import FakeDcm4chee
from support.sites.line_site import RECEIVER, all_settled, arrive, instance, rounds, settings_for, states, working

from pipeline.line.delivery_scheduler import DeliveryScheduler
from pipeline.operate.trace import trace
from pipeline.spool.hashed_files import state_of

STUDY = "1.2.840.78"


def rot(path: Path, site) -> None:
    """Flip one byte of the pixels; size, time of writing and kept hash stay, as if only the disk knew of it."""
    times, content = path.stat(), bytearray(path.read_bytes())
    sha256 = hashlib.sha256(content).hexdigest()
    content[-1000] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    site.hashed.keep(state_of(path.stat()), sha256)


def archived(folder: Path, monkeypatch, *, coerces: bool) -> tuple[dict[str, int], list[str], dict, str]:
    """Return the states of the deliveries, the hashes the archive saw, what is told, and the hash of the pin."""
    file = instance(folder, StudyInstanceUID=STUDY, InstitutionName="")
    receiver = {**RECEIVER, "to": ["archive"], "coerce": coerces}
    with FakeDcm4chee() as archive:
        destination = {"name": "archive", "kind": "stow", "url": archive.url}
        (folder / "mapping.json").write_text('{"modalities": "Example Hospital"}')
        settings = settings_for(
            folder, destinations=[destination], receivers=[receiver], institution_mapping="mapping.json"
        )
        with working(settings) as (site, worker):
            with monkeypatch.context() as patch:
                patch.setattr(DeliveryScheduler, "_fill_slots", lambda *_: None)
                name = arrive(site.spool, file)
                rounds(worker, until=lambda: states(site, "deliveries") == {"waiting": 1})
            made = list((site.spool.outputs / name).rglob("*.dcm"))
            assert bool(made) is coerces
            (original,) = (path for path in (site.spool.arrivals / name).iterdir() if path.suffix != ".json")
            sent = made[0] if made else original
            pin = hashlib.sha256(sent.read_bytes()).hexdigest()
            rot(sent, site)
            rounds(worker, until=all_settled(site))
            assert (site.spool.settled / name / original.name).exists()
            (told,) = trace(STUDY, site.ledger)["studies"][0]["instances"]
            return states(site, "deliveries"), [sha256 for _, sha256 in archive.received], told, pin


def test_an_original_that_has_rotted_is_refused_with_that_reason_and_kept(tmp_path, monkeypatch):
    ended, received, told, _ = archived(tmp_path, monkeypatch, coerces=False)
    assert (ended, received) == ({"refused": 1}, [])
    assert "the file has changed since it was taken in" in told["deliveries"][0]["message"]


def test_a_made_file_that_has_rotted_is_made_again_and_arrives_as_it_was_pinned(tmp_path, monkeypatch):
    ended, received, _, pin = archived(tmp_path, monkeypatch, coerces=True)
    assert (ended, received) == ({"delivered": 1}, [pin])
