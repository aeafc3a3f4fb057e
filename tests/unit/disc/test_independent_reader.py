"""What an object claims is read on until all of it is found, however long its header."""

import subprocess
import sys

import pydicom
import pytest
from support.studies.discs import an_object

from pipeline.disc.formats.independent_reader import NoIdentity, ObjectIdentity, claims_in

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SOURCES = ["CT_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm", "JPEG2000.dcm"]


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("size", [300, 1000, 1021])
def test_the_claims_are_the_same_however_the_file_comes(source, size, tmp_path):
    path = an_object(tmp_path, source=source, IssuerOfPatientID="HOSPITAL", SeriesInstanceUID="1.2.3.4")
    data = path.read_bytes()
    whole = claims_in([data])
    assert (whole.patient_id, whole.issuer, whole.birth_date) == (b"P1", b"HOSPITAL", b"19700101")
    assert whole.series_instance_uid == b"1.2.3.4"
    assert claims_in(in_pieces(data, size)) == whole


@pytest.mark.parametrize("source", SOURCES)
def test_a_series_uid_behind_a_long_header_is_found(source, tmp_path):
    path = an_object(tmp_path, source=source, SeriesInstanceUID="1.2.3.4")
    data_set = pydicom.dcmread(path)
    data_set.add_new(0x00091010, "LO", "PRIVATE")
    data_set.add_new(0x00091011, "OB", bytes(range(256)) * 9000)
    data_set.save_as(path)
    claims = claims_in(in_pieces(path.read_bytes(), 1 << 20))
    assert (claims.series_instance_uid, claims.patient_id) == (b"1.2.3.4", b"P1")


def test_no_more_is_read_than_the_claims_take(tmp_path):
    data = an_object(tmp_path).read_bytes()
    pieces = iter([data, b"", b"behind"])
    assert isinstance(claims_in(pieces), ObjectIdentity)
    assert next(pieces) == b"behind"


def test_a_header_without_end_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.disc.formats.independent_reader._MOST_HEAD", 8 << 10)
    data = an_object(tmp_path).read_bytes()
    at = data.index(b"\x10\x00\x10\x00PN")
    endless = data[:at] + b"\x09\x00\x11\x10OB\x00\x00\xf0\xff\xff\xff"
    taken = []

    def pieces():
        yield endless
        while True:
            taken.append(1000)
            yield bytes(1000)

    with pytest.raises(NoIdentity, match="longer than"):
        claims_in(pieces())
    assert sum(taken) < 40_000


def test_a_deflated_object_that_is_garbled_is_no_object(tmp_path):
    data = an_object(tmp_path, source="image_dfl.dcm").read_bytes()
    with pytest.raises(NoIdentity, match="cannot be inflated"):
        claims_in([data[:400] + b"\xff" * 500])


def test_the_processes_that_read_discs_do_without_pydicom_also_where_headers_are_long(tmp_path):
    path = an_object(tmp_path)
    data_set = pydicom.dcmread(path)
    data_set.add_new(0x00091010, "LO", "PRIVATE")
    data_set.add_new(0x00091011, "OB", bytes(2 << 20))
    data_set.save_as(path)
    script = (
        "import sys\nfrom pipeline.disc.formats.independent_reader import look\n"
        "data = open(sys.argv[1], 'rb').read()\n"
        "look('DICOM/A', (data[at : at + (1 << 20)] for at in range(0, len(data), 1 << 20)))\n"
        "sys.exit('pydicom' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, path], check=True)
