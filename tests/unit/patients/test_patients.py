"""[patients]: what the study or the HIS says a patient is called is served over HTTP, and nobody keeps it."""

import logging

import pytest
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from support.peers.patient_sources import his_api, his_databases
from support.sites.shim_site import FOUND, KEY, running_shim

from pipeline.config.order_tables import PatientsTable
from pipeline.dicom.accession import AccessionNumber
from pipeline.dicom.same_patient import Attribute
from pipeline.model import OrderState
from pipeline.orders.compare_sources import IdentitySource, SourceDifference
from pipeline.patients import PatientUnknown, from_table

A1 = AccessionNumber("A1")
DONE = {"state": OrderState.DONE, "found": FOUND, "sent": 5}
PRINT = "/api/iso/print?accession_number=A1"


def instance(path, **values):
    data_set = Dataset()
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data_set.SOPClassUID, data_set.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    for keyword, value in values.items():
        setattr(data_set, keyword, value)
    dcmwrite(path, data_set, enforce_file_format=True)
    return path


@pytest.mark.parametrize(
    ("charset", "name", "read"),
    [
        (None, "DOE^JANE", "DOE^JANE"),
        ("ISO_IR 100", "NÚÑEZ^JOSÉ", "NÚÑEZ^JOSÉ"),
        ("ISO_IR 192", "山田^太郎=ヤマダ^タロウ", "山田^太郎"),
        ("ISO_IR 192", "=山田^太郎", "山田^太郎"),
        (None, "", None),
        (None, "^^^", None),
    ],
)
def test_the_study_says_the_name_in_its_own_characters(tmp_path, charset, name, read):
    values = {"SpecificCharacterSet": charset} if charset else {}
    file = instance(tmp_path / "1", PatientName=name, PatientID="4711", Modality="CT", **values)
    person = from_table(PatientsTable()).find(A1, [file])
    assert (person.patient_name, person.medrec_id, person.modality, person.reg_id) == (read, "4711", "CT", None)


def test_a_file_that_cannot_be_read_is_no_reason_to_know_no_name(tmp_path):
    (tmp_path / "broken").write_bytes(b"\0" * 200)
    files = [tmp_path / "gone", instance(tmp_path / "1", PatientName="DOE^JANE")]
    assert from_table(PatientsTable()).find(A1, files).patient_name == "DOE^JANE"


def test_without_files_nothing_is_known():
    with pytest.raises(PatientUnknown):
        from_table(PatientsTable()).find(A1, [])


def test_a_print_is_no_failure_because_nobody_knows_the_name_any_more(tmp_path, monkeypatch):
    with running_shim(tmp_path, monkeypatch) as shim:
        shim.orders.plan = DONE
        answer = shim.get(PRINT)
    assert (answer.status_code, answer.json()["patient_name"]) == (200, None)


@pytest.fixture
def api():
    with his_api() as api:
        yield api


@pytest.fixture
def databases(tmp_path):
    return his_databases(tmp_path)


def test_the_tables_are_served_as_json_to_those_with_the_key(tmp_path, monkeypatch, databases):
    with running_shim(tmp_path, monkeypatch, patients=databases) as shim:
        path = "/patient/by-accession?accession_number="
        answer = shim.get(path + "A1")
        assert (answer.status_code, answer.json()["patient_name"]) == (200, "PEREZ JUAN")
        unknown = shim.get(path + "A2")
        assert (unknown.status_code, unknown.json()["error"]) == (404, "accession_number not found")
        assert shim.get(path + "*").status_code == 400
        assert shim.get(path + "A1,B2").status_code == 400
        assert shim.get(path + "C3").json()["error"] == "more than one patient"
        assert shim.get(path + "A1", key=None).status_code == 401


def test_the_tables_are_served_to_nobody_where_there_is_no_key(tmp_path, monkeypatch, databases):
    with running_shim(tmp_path, monkeypatch, patients=databases, shim={"api_key": ""}) as shim:
        answer = shim.get("/patient/by-accession?accession_number=A1")
        assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")


def test_only_tables_are_served(tmp_path, monkeypatch, api):
    with running_shim(tmp_path, monkeypatch, patients=api.table()) as shim:
        answer = shim.get("/patient/by-accession?accession_number=A1")
        assert (answer.status_code, answer.json()["error"]) == (501, "not configured")
    assert not api.asked


@pytest.mark.parametrize("path", [PRINT, "/mkiso_multiple.php?accession_number=A1"])
def test_what_the_api_says_stops_an_order_before_it_is_placed(tmp_path, monkeypatch, api, path):
    with running_shim(tmp_path, monkeypatch, patients=api.table(retries=0)) as shim:
        api.answers = [(404, {})]
        answer = shim.get(path)
        assert (answer.status_code, answer.json()["error"]) == (404, "accession_number not found")
        api.answers = [(500, {})]
        answer = shim.get(path)
        assert (answer.status_code, answer.json()["error"]) == (502, "patient API unavailable")
        assert not shim.orders.asked


@pytest.mark.parametrize("path", ["/mkiso.php?accession_number=A1", "/mkiso2.php?accession_number=A1"])
def test_what_names_nobody_asks_nobody(tmp_path, monkeypatch, api, path):
    with running_shim(tmp_path, monkeypatch, patients=api.table()) as shim:
        shim.orders.plan = {**DONE, "result": shim.file()}
        assert shim.get(path).status_code == 200
    assert not api.asked


def test_two_patients_of_the_api_are_not_put_on_one_disc(tmp_path, monkeypatch, api):
    with running_shim(tmp_path, monkeypatch, patients=api.table()) as shim:
        api.answers = [(200, {"medrec_id": "4711"}), (200, {"medrec_id": "0815"})]
        answer = shim.get("/mkiso_multiple.php?accession_number=A1,B2")
        assert (answer.status_code, answer.json()["error"]) == (409, "more than one patient")
        assert not shim.orders.asked


def test_the_name_of_the_api_is_in_the_answer_and_asked_for_once(tmp_path, monkeypatch, api):
    with running_shim(tmp_path, monkeypatch, patients=api.table()) as shim:
        shim.orders.plan = DONE
        assert [shim.get(PRINT).json()["patient_name"] for _ in range(3)] == ["PEREZ JUAN"] * 3
    assert len(api.asked) == 1


def test_what_the_pacs_says_is_somebody_else_s_is_not_called_after_the_his(tmp_path, monkeypatch, api):
    differs = SourceDifference("A1", (IdentitySource.HIS, IdentitySource.PACS), (Attribute.NAME,))
    with running_shim(tmp_path, monkeypatch, patients=api.table()) as shim:
        shim.orders.plan = {**DONE, "noted": (differs,)}
        assert shim.get(PRINT).json()["patient_name"] is None
        assert "PEREZ" not in shim.get("/mkiso_multiple.php?accession_number=A1").headers.get(
            "content-disposition", ""
        )


def test_no_name_is_written_to_the_ledger_or_the_log(tmp_path, monkeypatch, databases, caplog):
    logging.getLogger("storestow").propagate = True
    with (
        caplog.at_level(logging.DEBUG),
        running_shim(tmp_path, monkeypatch, patients=databases) as shim,
    ):
        shim.orders.plan = DONE
        assert shim.get(PRINT).json()["patient_name"] == "PEREZ JUAN"
        assert "PEREZ" in shim.page(PRINT).text
        shim.get("/patient/by-accession?accession_number=A1", headers={"X-API-Key": KEY})
    kept = b"".join(path.read_bytes() for path in (tmp_path / "spool").rglob("*") if path.is_file())
    assert b"PEREZ" not in kept
    assert "PEREZ" not in caplog.text
    assert "4711" not in caplog.text
