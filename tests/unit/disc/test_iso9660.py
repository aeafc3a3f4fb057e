"""Our reader of ISO 9660: what it makes of images that are cut, garbled or made to hurt."""

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.disc.formats.contents import IsoContents
from pipeline.disc.formats.iso9660 import SECTOR, NoIso, read_volume
from pipeline.disc.verify.inspection import inspect

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def record(name: bytes, sector: int, length: int, flags: int = 0) -> bytes:
    size = 33 + len(name) + (1 - len(name) % 2)
    head = struct.pack("<BBLxxxxLxxxx7sBBBHxxB", size, 0, sector, length, b"\0" * 7, flags, 0, 0, 1, len(name))
    return (head + name).ljust(size, b"\0")


def image(*entries: bytes, sectors: int = 24, root_length: int = SECTOR) -> bytearray:
    """An image with one directory in sector 18 and a terminator in 17."""
    data = bytearray(sectors * SECTOR)
    descriptor = bytearray(SECTOR)
    descriptor[0:6] = b"\x01CD001"
    descriptor[40:72] = b"VOL".ljust(32)
    struct.pack_into("<L", descriptor, 80, sectors)
    struct.pack_into("<H", descriptor, 128, SECTOR)
    descriptor[156 : 156 + 34] = record(b"\0", 18, root_length, 2)
    data[16 * SECTOR : 17 * SECTOR] = descriptor
    data[17 * SECTOR : 17 * SECTOR + 6] = b"\xffCD001"
    directory = record(b"\0", 18, root_length, 2) + record(b"\1", 18, root_length, 2) + b"".join(entries)
    data[18 * SECTOR : 18 * SECTOR + len(directory)] = directory
    return data


@pytest.fixture
def file(tmp_path):
    def write(data: bytes) -> Path:
        path = tmp_path / "x.iso"
        path.write_bytes(data)
        return path

    return write


def test_files_are_found_by_name_without_version_and_lie_where_they_are_said_to(file):
    data = image(record(b"B.TXT;1", 20, 5), record(b"A;1", 19, 3))
    data[19 * SECTOR : 19 * SECTOR + 3] = b"abc"
    contents = IsoContents(file(data))
    assert list(contents.files.items()) == [("A", 3), ("B.TXT", 5)]
    assert b"".join(contents.pieces("A")) == b"abc"
    assert contents.volume_id == "VOL"
    contents.close()


def test_a_file_in_several_extents_is_one_file(file):
    data = image(record(b"BIG;1", 19, SECTOR, 0x80), record(b"BIG;1", 21, 2))
    data[19 * SECTOR : 20 * SECTOR] = b"x" * SECTOR
    data[21 * SECTOR : 21 * SECTOR + 2] = b"yz"
    contents = IsoContents(file(data))
    assert b"".join(contents.pieces("BIG")) == b"x" * SECTOR + b"yz"
    contents.close()


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "no ISO 9660 volume descriptor"),
        (b"PK" * 40000, "no ISO 9660 volume descriptor"),
        (bytes(image(record(b"D", 18, SECTOR, 2))), "ring"),
        (bytes(image(record(b"D", 400, SECTOR, 2))), "truncated"),
        (bytes(image(root_length=1 << 30)), "truncated"),
        (bytes(image(b"\x05garbled")), "garbled"),
    ],
)
def test_an_image_that_is_none_is_refused_in_words(data, complaint, file):
    with pytest.raises(NoIso, match=complaint):
        read_volume(file(data))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 23 * SECTOR - 1), st.binary(min_size=1, max_size=8)), max_size=12))
def test_whatever_is_in_an_image_the_inspection_ends_with_words(file, changes):
    data = image(record(b"DICOMDIR;1", 19, 900), record(b"SUB", 21, SECTOR, 2))
    data[21 * SECTOR : 21 * SECTOR + 34] = record(b"\0", 21, SECTOR, 2)
    for at, noise in changes:
        data[at : at + len(noise)] = noise
    found = inspect(file(bytes(data[: 24 * SECTOR])))
    assert found.findings
