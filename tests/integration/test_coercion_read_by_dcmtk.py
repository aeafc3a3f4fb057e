"""Another reader, DCMTK, reads in every coerced object the same text, in every character set of the corpus."""

import json
import subprocess
from pathlib import Path

import pytest
from support.machine import dicom_programs
from support.sites import coercing
from support.studies import geiis

from pipeline.coercions import coerce, rules_of

pytestmark = pytest.mark.programs

INSTITUTIONS = ["Clínica São José", "Ελληνικό Νοσοκομείο", "東京病院", "Клиника"]


def read(file: Path) -> dict:
    """The data set as DCMTK converts it to UTF-8."""
    argv = [dicom_programs.program("dcm2json"), str(file)]
    done = subprocess.run(argv, capture_output=True, check=False, env=dicom_programs.ENVIRONMENT, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def is_beyond_dcmtk(file: Path) -> bool:
    """Whether DCMTK with GNU's iconv, as in Debian, cannot convert the character set: Japanese by escapes."""
    return b"ISO 2022 IR 87" in file.read_bytes()[:1024]


def dumped(file: Path) -> str:
    argv = [dicom_programs.program("dcmdump"), "+U8", "+L", str(file)]
    done = subprocess.run(argv, capture_output=True, check=False, env=dicom_programs.ENVIRONMENT, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.parametrize("institution", INSTITUTIONS)
def test_dcmtk_reads_the_coerced_text_and_the_patient_s_name_as_before(corpus, tmp_path, institution):
    files = sorted((corpus / "charset").glob("*.dcm")) if (corpus / "charset").is_dir() else []
    files = files or sorted((corpus.parent / "charset_files").glob("chr*.dcm"))
    assert len(files) >= 8
    (tmp_path / "map.json").write_text(json.dumps({"CT1": institution}))
    rules, confirmed = rules_of(coercing.site(tmp_path, institution_mapping="map.json")), 0
    for file in files:
        header = coercing.header(file)
        name = str(coercing.header(file).get("PatientName", ""))
        received, sent = tmp_path / "received.dcm", tmp_path / "sent.dcm"
        received.write_bytes(coercing.as_file(header))
        coerce(header, coercing.origin(), rules)
        sent.write_bytes(coercing.as_file(header))
        reread = coercing.header(sent)
        assert reread.InstitutionName == institution, file.name
        assert str(reread.get("PatientName", "")) == name, file.name
        if is_beyond_dcmtk(sent):
            continue
        after = read(sent)
        confirmed += 1
        assert after["00080080"]["Value"] == [institution], file.name
        if not is_beyond_dcmtk(received):
            assert after.get("00100010") == read(received).get("00100010"), file.name
        assert "=".join(after["00100010"]["Value"][0].values() if name else ()) == name
    assert confirmed >= 11


def test_dcmtk_reads_an_object_whose_thumbnail_was_removed(tmp_path):
    header = coercing.header(geiis.file_of(geiis.with_thumbnail(0x11)))
    coerce(header, coercing.origin(), rules_of(coercing.site()))
    sent = tmp_path / "sent.dcm"
    sent.write_bytes(coercing.as_file(header))
    dump = dumped(sent)
    assert "(0009,0011) LO [GEIIS]" in dump
    assert dump.count("(0009,1110)") == 1  # in Original Attributes Sequence, without value
    assert "(7fe0,0010)" not in dump
    item = read(sent)["04000561"]["Value"][0]
    assert item["04000565"]["Value"] == ["COERCE"]
    assert "Value" not in item["04000550"]["Value"][0]["00091110"]


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.2"])
def test_dcmtk_reads_every_encoding(tmp_path, syntax):
    (tmp_path / "map.json").write_text(json.dumps({"CT1": "Łódź"}))
    ct = geiis.ct()
    del ct.PixelData
    header = coercing.header(geiis.file_of(ct, syntax))
    coerce(header, coercing.origin(), rules_of(coercing.site(tmp_path, institution_mapping="map.json")))
    sent = tmp_path / "sent.dcm"
    sent.write_bytes(coercing.as_file(header))
    after = read(sent)
    assert after["00080080"]["Value"] == ["Łódź"]
    assert after["00100010"]["Value"] == [{"Alphabetic": "Müller^Jörg"}]
    before = after["04000561"]["Value"][0]["04000550"]["Value"][0]
    assert before["00080080"]["Value"] == ["Old Name"]


def test_dcmtk_reads_the_previous_values_of_a_widened_object(tmp_path):
    (tmp_path / "map.json").write_text(json.dumps({"CT1": "Łódź"}))
    ct = geiis.ct()
    ct.InstitutionName = "Köln"
    header = coercing.header(geiis.file_of(ct))
    coerce(header, coercing.origin(), rules_of(coercing.site(tmp_path, institution_mapping="map.json")))
    sent = tmp_path / "sent.dcm"
    sent.write_bytes(coercing.as_file(header))
    assert "Köln" in dumped(sent)
