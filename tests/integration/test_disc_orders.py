"""kind = "iso" for an order: one file, what it lacks said by receipt and on it, nothing left of killed tries."""

import zipfile
from pathlib import Path
from typing import Any

import pydicom
import pytest
import requests
from support.machine.dicom_programs import free_port, wait_until
from support.peers.archives import orthanc_archive, study
from support.sites.orders_site import orders_site
from support.sites.shim_site import BROWSER
from support.studies.discs import an_object, assert_records_agree, item, taken_apart
from support.studies.small_studies import pinned

from pipeline.destinations import from_table
from pipeline.disc.errors import SeveralPatients
from pipeline.errors import Configuration
from pipeline.model import Consignment, ConsignmentAbout, InstanceKey, Item, LeftOutCode, OrderState, ReceiptState

pytestmark = [pytest.mark.programs, pytest.mark.filterwarnings("ignore::UserWarning")]

PRIVATE = {"SOPClassUID": "1.3.12.2.1107.5.9.1"}
RETIRED = "1.2.840.10008.5.1.4.1.1.8"  # Standalone Overlay Storage


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "discs"
    folder.mkdir()
    return folder


class Asked:
    """Deliver for orders, and remember what the destination said of it."""

    def __init__(self, folder: Path, **more: object) -> None:
        self.where = from_table({"name": "disc", "kind": "iso", "folder": str(folder), **more})
        self.said: list[str] = []
        self.path = Path()

    def deliver(self, *items: Item, order: int = 1, lost: int = 0, **more: Any):
        about = ConsignmentAbout(order, ("A1",), len(items) + lost, len(items), **more)
        consignment = Consignment(
            order,
            items[0].key.study_instance_uid,
            items,
            attempt=lambda _: self.said.append("attempt"),
            about=about,
            made=self._made,
        )
        return {one.key: one for one in self.where.deliver(consignment)}

    def _made(self, path: Path) -> None:
        assert path.is_file()  # complete, under its name, before anybody is told
        self.said.append("made")
        self.path = path


def hidden(folder: Path) -> list[str]:
    return sorted(one.name for one in (folder / ".orders").iterdir())


def words_on(path: Path, folder: Path) -> tuple[str, str]:
    root = taken_apart(path, folder)
    return (root / "README.TXT").read_text("utf-8-sig"), (root / "INDEX.HTM").read_text("utf-8")


def test_an_order_gets_one_hidden_file_under_its_number_and_names_nobody(tmp_path, folder):
    items = [item(an_object(tmp_path / "in", str(n), InstanceNumber=n)) for n in range(3)]
    asked = Asked(folder)
    receipts = asked.deliver(*items, order=7)
    assert {key: (one.state, one.verified) for key, one in receipts.items()} == {
        one.key: (ReceiptState.STORED, True) for one in items
    }
    assert asked.said == ["attempt", "made"]
    assert asked.path == folder / ".orders" / "7.iso"
    assert [one.name for one in folder.iterdir()] == [".orders"]
    assert hidden(folder) == ["7.iso"]
    assert_records_agree(taken_apart(asked.path, tmp_path / "x"), 3)
    readme, _ = words_on(asked.path, tmp_path / "x")
    assert "INCOMPLETE" not in readme
    assert "NOT HERE" not in readme


def test_what_an_order_s_disc_has_to_leave_out_is_warned_of_by_receipt_and_on_the_disc(tmp_path, folder):
    good = item(an_object(tmp_path / "in"))
    private = [item(an_object(tmp_path / "in", f"p{n}", **PRIVATE)) for n in range(2)]
    asked = Asked(folder)
    receipts = asked.deliver(good, *private)
    assert receipts[good.key].state is ReceiptState.STORED
    for one in private:
        assert receipts[one.key].state is ReceiptState.WARNED
        assert receipts[one.key].left_out is LeftOutCode.KIND
        assert receipts[one.key].message == "private SOP class: no reader knows what it is"
    readme, page = words_on(asked.path, tmp_path / "x")
    assert "NOT HERE: 2 objects could not be put on this disc" in readme
    assert "2 objects could not be put on this disc" in page.replace("<strong>", "").replace("</strong>", "")
    for one in private:
        assert one.key.sop_instance_uid in readme
        assert one.key.sop_instance_uid in page


def test_the_disc_of_some_modalities_or_of_fewer_accession_numbers_than_asked_for_says_so(tmp_path, folder):
    asked = Asked(folder)
    asked.deliver(item(an_object(tmp_path / "in")), modalities=("CT", "SR"), missing=("A<2>",))
    readme, page = words_on(asked.path, tmp_path / "x")
    assert "A PART ONLY: this was made of CT, SR alone" in readme
    assert "NOT FOUND: nothing was found under the accession number A<2>." in readme
    assert "made of CT, SR alone" in page
    assert "accession number A&lt;2&gt;" in page
    asked.deliver(item(an_object(tmp_path / "in", "all")), order=2)
    for text in words_on(asked.path, tmp_path / "y"):
        assert "alone" not in text
        assert "was found under" not in text


def test_a_file_that_holds_another_object_than_its_item_is_never_called_stored(tmp_path, folder):
    good = item(an_object(tmp_path / "in"))
    other = item(an_object(tmp_path / "in", "other"))
    unlike = InstanceKey(other.key.study_instance_uid, other.key.series_instance_uid, "1.2.3.4")
    mixed_up = pinned(other.path, unlike)
    receipts = Asked(folder).deliver(good, mixed_up)
    assert receipts[good.key].state is ReceiptState.STORED
    assert receipts[mixed_up.key].state is ReceiptState.WARNED
    assert "another object than the one it is known for" in receipts[mixed_up.key].message


def test_a_zip_is_made_where_one_was_asked_for_with_the_same_tree(tmp_path, folder):
    items = [item(an_object(tmp_path / "in", str(n), InstanceNumber=n)) for n in range(2)]
    asked = Asked(folder, media="cd")
    assert {one.state for one in asked.deliver(*items, order=4, container="zip").values()} == {ReceiptState.STORED}
    assert hidden(folder) == ["4.zip"]
    with zipfile.ZipFile(asked.path) as archive:
        assert archive.testzip() is None
        assert {"DICOMDIR", "README.TXT", "INDEX.HTM", "SHA256.TXT"} <= set(archive.namelist())
    assert_records_agree(taken_apart(asked.path, tmp_path / "x"), 2)


def test_an_incomplete_order_says_so_on_its_disc_in_both_languages_with_the_counts(tmp_path, folder):
    asked = Asked(folder)
    asked.deliver(*(item(an_object(tmp_path / "in", str(n))) for n in range(2)), lost=3)
    readme, page = words_on(asked.path, tmp_path / "x")
    assert "INCOMPLETE: 2 of 5 objects" in readme
    assert "INCOMPLETO: se habían recibido 2 de 5 objetos" in readme
    assert "Incomplete: 2 of 5 objects." in page
    assert "Incompleto: se habían recibido 2 de 5 objetos" in page


class Killed(BaseException):
    pass


def test_a_killed_attempt_leaves_nothing_that_the_next_one_trips_over(tmp_path, folder, monkeypatch):
    items = [item(an_object(tmp_path / "in", str(n))) for n in range(2)]
    asked = Asked(folder)

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.disc.make.make.proven", killed)
        with pytest.raises(Killed):
            asked.deliver(*items)
    assert asked.said == ["attempt"]
    assert hidden(folder) == []
    with monkeypatch.context() as patch:
        patch.setattr(asked, "_made", killed)  # dead between the file's name and the ledger's
        with pytest.raises(Killed):
            asked.deliver(*items)
    assert hidden(folder) == ["1.iso"]
    (folder / ".orders" / "1.iso").write_bytes(b"half an image")  # whatever it was, nobody was told of it
    assert len(asked.deliver(*items)) == 2
    assert hidden(folder) == ["1.iso"]
    assert_records_agree(taken_apart(asked.path, tmp_path / "x"), 2)


def test_two_orders_for_the_same_have_a_file_each_and_neither_touches_the_other(tmp_path, folder):
    one = item(an_object(tmp_path / "in"))
    asked = Asked(folder)
    asked.deliver(one, order=1)
    first = (folder / ".orders" / "1.iso").stat()
    asked.deliver(one, order=2)
    assert hidden(folder) == ["1.iso", "2.iso"]
    now = (folder / ".orders" / "1.iso").stat()
    assert (now.st_ino, now.st_mtime_ns, now.st_size) == (first.st_ino, first.st_mtime_ns, first.st_size)


def test_a_later_order_of_other_content_under_the_same_accession_is_a_disc_of_that_content_alone(tmp_path, folder):
    before = [item(an_object(tmp_path / "in", str(n))) for n in range(2)]
    after = [before[0], item(an_object(tmp_path / "in", "new")), item(an_object(tmp_path / "in", "newer"))]
    asked = Asked(folder)
    asked.deliver(*before, order=1)
    asked.deliver(*after, order=2)
    roots = [taken_apart(folder / ".orders" / f"{n}.iso", tmp_path / f"x{n}") for n in (1, 2)]
    held = [{str(pydicom.dcmread(one).SOPInstanceUID) for one in root.glob("DICOM/*/*/*")} for root in roots]
    assert held == [{one.key.sop_instance_uid for one in items} for items in (before, after)]
    assert pydicom.dcmread(roots[0] / "DICOMDIR").FileSetID != pydicom.dcmread(roots[1] / "DICOMDIR").FileSetID


def test_an_order_of_two_patients_leaves_no_file_and_nothing_is_said_to_be_made(tmp_path, folder):
    asked = Asked(folder)
    with pytest.raises(SeveralPatients):
        asked.deliver(item(an_object(tmp_path / "in")), item(an_object(tmp_path / "in", "b", PatientID="P2")))
    assert asked.said == ["attempt"]
    assert hidden(folder) == []


def test_a_folder_that_cannot_be_written_to_waits_for_a_person(tmp_path, folder):
    (folder / ".orders").write_text("in the way")
    with pytest.raises(Configuration):
        Asked(folder).deliver(item(an_object(tmp_path / "in")))


# --- a whole site ------------------------------------------------------------------------------------------


def is_up(url: str) -> bool:
    try:
        return requests.get(f"{url}/api/health", timeout=20).ok
    except requests.RequestException:
        return False


def test_a_download_from_a_real_archive_says_on_its_page_what_its_disc_had_to_leave_out(tmp_path, folder):
    door, http = free_port(), free_port()
    with orthanc_archive(tmp_path / "pacs", door) as pacs:
        files = study(tmp_path / "study", "A1", instances=4)
        overlay = pydicom.dcmread(files[3])
        overlay.SOPClassUID = overlay.file_meta.MediaStorageSOPClassUID = RETIRED
        overlay.save_as(files[3])
        pacs.store(*files)
        disc = {"name": "disc", "kind": "iso", "folder": str(folder)}
        shim = {"port": http, "download": "disc"}
        with orders_site(tmp_path / "site", pacs, door, destinations=[disc], shim=shim) as site:
            url = f"http://127.0.0.1:{http}"
            wait_until(lambda: is_up(url), what="the shim")
            answer = requests.get(f"{url}/mkiso.php?accession_number=A1", timeout=90)
            assert answer.status_code == 200, answer.text
            assert answer.headers["Content-Disposition"] == 'attachment; filename="A1.iso"'
            page = requests.get(f"{url}/mkiso.php?accession_number=A1", headers=BROWSER, timeout=20)
            body = requests.get(page.url, headers={"Accept": "application/json"}, timeout=20).json()
            view = site.view(body["id"])
    assert view.state is OrderState.DONE
    assert body["left_out"] == [
        {"reason": "its SOP class is retired and has no directory record any more", "instances": 1, "code": "kind"}
    ]
    assert (body["served"], body["complete"], body["received"], body["expected"]) == (True, False, 4, 4)
    assert "1 image that was received: of a kind that no disc can hold" in page.text
    assert 'http-equiv="refresh"' not in page.text
    (tmp_path / "A1.iso").write_bytes(answer.content)
    assert_records_agree(taken_apart(tmp_path / "A1.iso", tmp_path / "x"), 3)
