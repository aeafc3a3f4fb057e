"""Every key of every kind of record, with values that no VR allows: validators find nothing wrong with it."""

from itertools import count, zip_longest
from pathlib import Path

import pytest
from support.studies.discs import an_object, assert_sound, dciodvfy_errors, options

from pipeline.disc.dicomdir.dicomdir import dicomdir
from pipeline.disc.make.make import make_disc
from pipeline.disc.model import SourceFile
from pipeline.disc.objects import records
from pipeline.disc.objects.arrangement import arranged
from pipeline.disc.objects.entry import Entry
from pipeline.disc.verify.inspection import inspect
from pipeline.model import InstanceKey

pytestmark = [pytest.mark.programs, pytest.mark.filterwarnings("ignore::UserWarning")]

NEWER_THAN_DCIODVFY = {"TRACT", "PLAN", "SURFACE SCAN", "ANNOTATION", "ASSESSMENT"}
WITH_SEQUENCES = {"PRESENTATION", "SPECTROSCOPY"}  # what these must refer to, nobody can invent
CLASSES = {kind: sop_class for sop_class, kind in reversed(list(records._OF_CLASS.items()))}
UIDS = {records.STUDY_UID, records.SERIES_UID}
WRONG = {
    "IS": (b"1.0", b"A12", b"1\\2", b"99999999999999", b"2147483648", b"1e3", b"1,5", b"\xff", b"1 2", b"--", b""),
    "DA": (
        b"1970-01-01",
        b"05.01.2024",
        b"20241301",
        b"20240105120000",
        b"2024",
        b"1\\2",
        b"Jan 5",
        b"\xff",
        b"0",
    ),
    "TM": (b"10:15", b"101", b"256000", b"10:15 AM", b"101530,5", b"xx", b"101560", b"10.15.30", b"1\\2", b"-1"),
    "CS": (b"ct", b"male", b"TOO_LONG_FOR_A_CODE_STRING", b"A-B", b"CT\\MR", b"\xc4", b"M/F", b"Utf-8", b""),
    "SH": (b"OF-MORE-THAN-SIXTEEN-CHARACTERS", b"A\\B", b"A\tB", b"A\0B", b"A\x1bB", b"M\xc4", b"A\nB", b"A" * 17),
    "LO": (b"X" * 70, b"A\\B", b"A\tB", b"A\nB", b"M\xc4", b"A\x07B"),
    "PN": (b"X" * 70, b"A^B^C^D^E^F", b"A=B=C=D", b"A\\B", b"M\xdcLLER^J", b"A\tB", b"A\nB", b"=", b"^^^^=^^^^="),
    "ST": (b"X" * 1100, b"A\tB", b"M\xc4", b"A\x07B"),
    "DT": (b"2024-01-05T10:15", b"yesterday", b"20240105 101500", b"20241350", b"20240105"),
    "US": (b"\1", b"\1\2\3"),
    "UL": (b"\1", b"\1\2"),
}


def entry(folder: Path, kind: str, number: int, values: dict[int, bytes]) -> Entry:
    study = f"1.2.3.{number}"
    told = {records.PATIENT_ID: b"P%d" % number, records.STUDY_UID: study.encode()} | values
    return Entry(
        source=folder,
        path=folder,
        size=1,
        source_sha256="0",
        sha256="0",
        key=InstanceKey(study, f"{study}.1", f"{study}.1.1"),
        sop_class_uid=CLASSES.get(kind, "1.2.840.10008.5.1.4.1.1.2"),
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        is_part_10=True,
        data_set=0,
        pixel_bytes=0,
        values={**told, records.SERIES_UID: f"{study}.1".encode()},
        kind=kind,
    )


@pytest.mark.parametrize("kind", sorted(records.KEYS.keys() - NEWER_THAN_DCIODVFY - WITH_SEQUENCES))
def test_no_value_of_an_object_makes_the_index_wrong(kind, tmp_path):
    keys = {
        key.tag: key
        for key in (*records.PATIENT, *records.STUDY, *records.SERIES, *records.KEYS[kind])
        if key.vr in WRONG and key.tag not in UIDS
    }
    numbers = count(1)
    alone = [{tag: value} for tag, key in keys.items() for value in WRONG[key.vr]]
    together = [
        {tag: value for tag, value in zip(keys, values, strict=True) if value}
        for values in zip_longest(*(WRONG[key.vr] for key in keys.values()))
    ]
    entries = [entry(tmp_path, kind, next(numbers), values) for values in ({}, *alone, *together)]
    file = tmp_path / "DICOMDIR"
    file.write_bytes(dicomdir(arranged(entries, one_patient=False), "DISC_1"))
    assert dciodvfy_errors(file) == []


def raw_value(path: Path, tag: int, vr: bytes, value: bytes) -> Path:
    """Write a value into a file as a careless machine does: no library would."""
    data = path.read_bytes()
    mark = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little") + vr
    at = data.index(mark, 132)
    end = at + 8 + int.from_bytes(data[at + 6 : at + 8], "little")
    value += b" " * (len(value) % 2)
    path.write_bytes(data[: at + 6] + len(value).to_bytes(2, "little") + value + data[end:])
    return path


def test_a_disc_of_objects_with_wrong_values_is_sound_and_the_objects_are_as_they_came(tmp_path):
    paths = [an_object(tmp_path / "in", str(number), InstanceNumber=number) for number in range(3)]
    raw_value(paths[0], 0x00200013, b"IS", b"1.0")
    raw_value(paths[1], 0x00100040, b"CS", b"female")
    for path in paths:
        raw_value(path, 0x00080030, b"TM", b"10:15")
        raw_value(path, 0x00100030, b"DA", b"1970-01-01")
        raw_value(path, 0x00200010, b"SH", b"A-STUDY-ID-OF-MORE-THAN-SIXTEEN-CHARACTERS")
        raw_value(path, 0x00100010, b"PN", b"Doe^Jane^^^^^")
    disc = make_disc([SourceFile(path) for path in paths], tmp_path / "disc.iso", options())
    root = assert_sound(disc, tmp_path / "x")
    assert sorted(file.read_bytes() for file in root.glob("DICOM/*/*/*")) == sorted(p.read_bytes() for p in paths)
    assert inspect(disc.path).findings == []
