"""`send`: files from disk, an order of their own; what the destination has already goes only by --again."""

import pydicom
import pytest
from fake_dcm4chee import FakeDcm4chee
from line_site import NULL, RECEIVER, all_settled, arrive, instance, rounds, settings_for, states, working

from pipeline.errors import Configuration, Usage
from pipeline.model import OrderError, OrderState
from pipeline.orders import view
from pipeline.quarantine import listed
from pipeline.send import send
from pipeline.trace import trace


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


@pytest.fixture
def site(site_and_worker):
    return site_and_worker[0]


@pytest.fixture
def worker(site_and_worker):
    return site_and_worker[1]


def sent(site, worker, *paths, to="archive", **keys):
    """Send, and return the order once it has ended."""
    number = send(site.ledger, site.settings, paths, to, **keys).order_id

    def look():
        with site.ledger.reading() as connection:
            return view(connection, number)

    rounds(worker, until=lambda: look().ended_at)
    rounds(worker, until=all_settled(site))
    return look()


def test_files_and_folders_are_sent_as_they_are(site, worker, archive, tmp_path):
    folder = tmp_path / "study"
    (folder / "deep").mkdir(parents=True)
    one, two = instance(folder, "one", ReferringPhysicianName=""), instance(folder / "deep", "two")
    ended = sent(site, worker, one, folder)
    assert (ended.state, ended.sent) == (OrderState.DONE, 2)
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
    assert sent(site, worker, kept, again=True).state == OrderState.DONE
    assert len(archive.received) == uploaded + 1, "what the archive makes of it is the archive's to decide"
    uid = str(other.SOPInstanceUID)
    instances = [one for s in trace(str(other.StudyInstanceUID), site.ledger)["studies"] for one in s["instances"]]
    states_of_it = [one["state"] for one in instances if one["sop_instance_uid"] == uid]
    assert states_of_it == ["passed", "conflict", "passed", "passed"]


def test_a_file_that_is_no_instance_is_named_and_the_others_go(site, worker, tmp_path):
    good = instance(tmp_path, "good")
    (tmp_path / "README").write_text("no DICOM")
    ended = sent(site, worker, good, tmp_path / "README", to="nowhere")
    assert (ended.state, ended.error_kind, ended.sent) == (OrderState.PARTIAL, OrderError.RELAY_INCOMPLETE, 1)
    assert "1 of 2 files cannot be sent" in ended.detail
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
