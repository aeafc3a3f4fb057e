import io
import mmap
import struct
import time
import tracemalloc
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file

from pipeline.dicom import part10, reading
from pipeline.dicom import walk as walk_module
from pipeline.dicom.part10 import Malformed
from pipeline.dicom.walk import walk
from pipeline.dicom.walker import Walker


def read(name: str) -> bytes:
    return Path(get_testdata_file(name)).read_bytes()


def test_every_element_is_where_pydicom_finds_it():
    data = read("CT_small.dcm")
    layout = walk(data)
    dataset = pydicom.dcmread(io.BytesIO(data))
    assert set(layout.elements) == {int(tag) for tag in dataset.keys()}  # noqa: SIM118
    raws = {tag: dataset.get_item(tag) for tag in layout.elements}
    for tag, raw in raws.items():
        element = layout.elements[tag]
        if tag == 0x00080005:
            continue  # pydicom has decoded it already
        assert element.value == raw.value_tell, f"{tag:08x}"
        assert element.end - element.value == raw.length, f"{tag:08x}"


@pytest.mark.parametrize(
    "name", ["MR_small_bigendian.dcm", "MR_small_implicit.dcm", "JPEG2000.dcm", "reportsi.dcm"]
)
def test_every_encoding_is_walked_to_its_end(name):
    data = read(name)
    layout = walk(data)
    assert layout.end == len(data)


def judged(data: bytes, *, carefully: bool) -> part10.DataSetLayout | str:
    """What the walk says of it; `carefully`: of every element by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walk_module, "_known", walk_module._KnownLayouts())
        if carefully:
            patch.setattr(Walker, "_enter_usual", lambda _self, at, _end, _elements: at)
        return said(data)


def said(data: bytes) -> part10.DataSetLayout | str:
    try:
        return walk(data)
    except Malformed as malformed:
        return str(malformed)


NAMES = ["CT_small.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "JPEG2000.dcm", "reportsi.dcm"]
ODD = st.sampled_from([0, 1, 2, 8, 0x10, 0x4C, 0x55, 0x7F, 0xE0, 0xFE, 0xFF])
CHANGES = st.tuples(st.integers(120, 1500), st.integers(0, 9), st.lists(ODD, max_size=9).map(bytes))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(NAMES), st.lists(CHANGES, max_size=3))
def test_the_quick_way_through_usual_elements_says_what_the_careful_one_says(name, changes):
    data = read(name)
    for at, removed, put in changes:
        data = data[:at] + put + data[at + removed :]
    assert judged(data, carefully=False) == judged(data, carefully=True)


SAME_LENGTH = st.tuples(st.integers(120, 6500), st.lists(ODD, max_size=9).map(bytes))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([*NAMES, "examples_overlay.dcm"]), st.lists(SAME_LENGTH, max_size=3))
def test_of_a_file_as_long_as_an_earlier_one_the_walk_says_what_it_says_without_that(name, changes):
    known = data = read(name)
    for at, put in changes:
        data = (data[:at] + put + data[at + len(put) :])[: len(known)]
    alone = judged(data, carefully=True)
    walk(known)
    assert said(data) == alone


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "reportsi.dcm"]
)
def test_every_byte_that_says_where_an_element_is_counts_in_a_file_as_long_as_an_earlier_one(name):
    known = read(name)
    elements = walk(known).elements
    whole = [e for e in elements.values() if e.undefined_length]
    places = {at for e in elements.values() for at in range(e.start, e.value)}
    places |= {at for e in whole for at in range(e.value, e.end)}
    for at in sorted(places)[::3]:
        data = known[:at] + bytes([known[at] ^ 1]) + known[at + 1 :]
        alone = judged(data, carefully=True)
        walk(known)
        assert said(data) == alone, at


def test_slices_that_differ_in_values_only_are_walked_once(monkeypatch):
    walked = []
    monkeypatch.setattr(walk_module, "_known", walk_module._KnownLayouts())
    real = Walker.top_level
    monkeypatch.setattr(Walker, "top_level", lambda self, at: walked.append(at) or real(self, at))
    data = read("CT_small.dcm")
    first, second = walk(data), walk(data.replace(b"1CT1", b"2CT2"))
    assert len(walked) == 1
    assert first.elements is second.elements
    for number in range(walk_module._MOST_KNOWN + 1):  # others, of which too many are not kept
        walk(data + b"\xfc\xff\xfd\xff" + b"LO" + (2 * number).to_bytes(2, "little") + b" " * 2 * number)
    walk(data)
    assert len(walked) == walk_module._MOST_KNOWN + 3
    assert len(walk_module._known._known) == walk_module._MOST_KNOWN


def test_a_file_that_claims_another_transfer_syntax_is_walked_by_itself(monkeypatch):
    walked = []
    monkeypatch.setattr(walk_module, "_known", walk_module._KnownLayouts())
    real = Walker.top_level
    monkeypatch.setattr(Walker, "top_level", lambda self, at: walked.append(self.syntax) or real(self, at))
    data = read("CT_small.dcm")
    walk(data)
    walk(data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0", 1))
    assert walked == ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"], "what has to be mended depends on it"


@pytest.mark.parametrize("cut", [1, 2, 100, 5000])
def test_a_file_cut_anywhere_is_truncated(cut):
    with pytest.raises(Malformed, match="truncated"):
        walk(read("CT_small.dcm")[:-cut])


def test_a_cut_within_compressed_pixels_is_found():
    with pytest.raises(Malformed):
        walk(read("JPEG2000.dcm")[:-20])


@pytest.mark.parametrize("zeros", [4, 512, 1 << 20, (1 << 20) + 4])
def test_zeros_after_the_last_element_are_padding(zeros):
    data = read("CT_small.dcm")
    assert walk(data + b"\0" * zeros).end == len(data)
    with pytest.raises(Malformed):
        walk(data + b"\0" * zeros + b"\1")


def test_much_padding_takes_little_time_and_memory(tmp_path):
    path = tmp_path / "padded"
    path.write_bytes(read("CT_small.dcm"))
    with path.open("r+b") as file:
        file.truncate(1 << 28)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            began = time.process_time()
            tracemalloc.start()
            assert walk(data).end == len(read("CT_small.dcm"))
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    assert peak < 8 << 20
    assert time.process_time() - began < 3  # byte by byte it takes ten seconds


def test_other_bytes_after_the_last_element_are_not():
    with pytest.raises(Malformed):
        walk(read("CT_small.dcm") + b"\0\0\0\0\1\0\0\0garbage!")


def test_an_attribute_that_appears_twice_makes_the_identity_ambiguous():
    data = read("CT_small.dcm")
    uid = walk(data).elements[0x00080018]
    end = walk(data).end
    with pytest.raises(Malformed, match=r"\(0008,0018\) appears twice"):
        walk(data[:end] + data[uid.start : uid.end])


def test_an_enhanced_object_of_millions_of_elements_is_an_object():
    head = read("CT_small.dcm")[: walk(read("CT_small.dcm")).data_set]
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + b"\x09\0\x10\x10LO\0\0" * 300 + b"\xfe\xff\x0d\xe0\0\0\0\0"
    frames = b"\x09\0\x10\x10SQ\0\0\xff\xff\xff\xff" + item * 3_400 + b"\xfe\xff\xdd\xe0\0\0\0\0"
    began = time.process_time()
    assert walk(head + frames).end == len(head + frames)
    assert time.process_time() - began < 10


def test_a_header_beyond_all_measure_is_refused_and_a_large_document_is_not(monkeypatch):
    head = read("CT_small.dcm")[: walk(read("CT_small.dcm")).data_set]
    monkeypatch.setattr("pipeline.dicom.walk.MAX_HEADER", 1 << 16)
    large = struct.pack("<L", 1 << 17) + bytes(1 << 17)
    assert walk(head + b"\x42\0\x11\0OB\0\0" + large).end
    for structured in (
        b"\x40\0\x30\xa7SQ\0\0" + large,
        b"\x09\0\x10\x10SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0" + large + b"\xfe\xff\xdd\xe0\0\0\0\0",
        b"".join(b"\x09\0" + struct.pack("<H", 0x1000 + number) + b"LO\0\0" for number in range(1 << 14)),
    ):
        with pytest.raises(Malformed, match="header is larger than"):
            walk(head + structured)


def test_the_end_of_the_header_is_told_without_looking_at_every_element():
    head = read("CT_small.dcm")[: walk(read("CT_small.dcm")).data_set]
    usual = b"".join(
        struct.pack("<HH2sH", 0x0009 + 2 * (n >> 16), n & 0xFFFF, b"LO", 0)
        for n in range(1, 300_000)
        if n & 0xFFFF
    )
    layout = walk(head + usual)
    began = time.process_time()
    assert sum(element.start < layout.header_end for element in layout.elements.values()) == len(layout.elements)
    assert time.process_time() - began < 2  # a walk for each would take hours


def test_sequences_nested_without_end_are_refused_and_cost_little():
    head = read("CT_small.dcm")[: walk(read("CT_small.dcm")).data_set]
    nested = b"\x09\x00\x10\x10SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 65_535
    with pytest.raises(Malformed, match="nested deeper"):
        walk(head + nested)


def test_a_length_of_four_gigabytes_is_refused_without_reading_it():
    head = read("CT_small.dcm")[: walk(read("CT_small.dcm")).data_set]
    with pytest.raises(Malformed, match="claims 4294967294 bytes"):
        walk(head + b"\x08\x00\x05\x00UN\0\0\xfe\xff\xff\xff")


def test_a_deflated_data_set_is_inflated_in_pieces(tmp_path):
    target = io.BytesIO()
    assert reading.is_deflated(read("image_dfl.dcm"))
    reading.inflate(read("image_dfl.dcm"), target)
    layout = walk(target.getvalue())
    assert part10.text_of(target.getvalue(), layout.elements[0x00080016]) == "1.2.840.10008.5.1.4.1.1.7"


def test_a_deflated_data_set_that_inflates_without_bound_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MAX_INFLATED", 1 << 16)
    with pytest.raises(Malformed, match="inflates to more than"):
        reading.inflate(read("image_dfl.dcm"), io.BytesIO())


def test_a_truncated_deflated_data_set_is_named_so():
    with pytest.raises(Malformed, match=r"truncated|cannot be inflated"):
        reading.inflate(read("image_dfl.dcm")[:-500], io.BytesIO())
