"""The same instance however it is written, another one however alike, and what nobody here can tell."""

import io
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import DataElement, Dataset, Sequence
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless
from support.studies.native_images import BIG, EXPLICIT, IMPLICIT, Native

from pipeline.dicom import same_content
from pipeline.dicom.same_content import Incomparable, are_same

JPEG_LOSSLESS, JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"
JPEG_LS, JPEG_LS_NEAR, JPEG_2000 = (f"1.2.840.10008.1.2.4.{number}" for number in (80, 81, 90))
MPEG = "1.2.840.10008.1.2.4.102"


def lossless_jpeg(frame):
    return imagecodecs.jpeg8_encode(frame, lossless=True, predictor=1, bitspersample=None)


CODECS: dict[str, Callable[..., bytes]] = {
    JPEG_LOSSLESS: lossless_jpeg,
    JPEG_LOSSLESS_SV1: lossless_jpeg,
    JPEG_LS: imagecodecs.jpegls_encode,
    JPEG_LS_NEAR: imagecodecs.jpegls_encode,
    JPEG_2000: lambda frame: imagecodecs.jpeg2k_encode(frame, reversible=True, codecformat="j2k"),
}


@pytest.fixture(autouse=True)
def _pydicom_may_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def picture(**shape) -> tuple[Native, Dataset]:
    """An uncompressed image and the array in it."""
    native = Native(**{"rows": 16, "columns": 16, "allocated": 8, "stored": 8, "vr": "OB", **shape})
    header = pydicom.dcmread(io.BytesIO(whole(native.header, EXPLICIT)))
    header.PatientName, header.PatientID = "ROE^RICHARD", "P-1"
    header.add(DataElement("PixelData", native.vr, native.pixels))
    return native, header


def whole(data_set: Dataset, syntax: str) -> bytes:
    buffer = io.BytesIO()
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = syntax
    data_set.file_meta.MediaStorageSOPClassUID = data_set.SOPClassUID
    data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
    pydicom.dcmwrite(buffer, data_set, enforce_file_format=True)
    return buffer.getvalue()


def written(path: Path, data_set: Dataset, syntax: str = EXPLICIT) -> Path:
    path.write_bytes(whole(data_set, syntax))
    return path


def copy(data_set: Dataset, **changes) -> Dataset:
    new = pydicom.dcmread(io.BytesIO(whole(data_set, EXPLICIT)))
    for keyword, value in changes.items():
        setattr(new, keyword, value)
    return new


def compressed(path: Path, native: Native, header: Dataset, syntax: str, *, fragments: int = 1) -> Path:
    frames = [CODECS[syntax](frame.astype(f"u{frame.dtype.itemsize}")) for frame in native.array]
    new = copy(header)
    new.add(DataElement("PixelData", "OB", encapsulate(frames, fragments_per_frame=fragments)))
    new["PixelData"].is_undefined_length = True
    path.write_bytes(whole(new, syntax))
    return path


SHAPES = {
    "8 bits": {},
    "16 bits": {"allocated": 16, "stored": 16, "vr": "OW"},
    "12 of 16 bits": {"allocated": 16, "stored": 12, "vr": "OW"},
    "three frames": {"frames": 3},
    "colour": {"samples": 3},
    "colour by plane": {"samples": 3, "planar": 1},
}


@pytest.mark.parametrize("syntax", CODECS)
@pytest.mark.parametrize("shape", SHAPES)
def test_an_image_is_the_same_compressed_and_not_in_either_order(tmp_path, syntax, shape):
    native, header = picture(**SHAPES[shape])
    plain, packed = (
        written(tmp_path / "plain", header),
        compressed(tmp_path / "packed", native, header, syntax),
    )
    assert are_same((plain, packed))
    assert are_same((packed, plain))
    other = copy(header, PixelData=header.PixelData[:-1] + bytes([header.PixelData[-1] ^ 1]))
    assert not are_same((written(tmp_path / "other", other), packed))
    assert not are_same((packed, written(tmp_path / "named", copy(header, PatientName="DOE^JANE"))))


def test_signs_that_no_codestream_holds_are_no_difference(tmp_path):
    native, header = picture(allocated=16, stored=12, signed=True, vr="OW")
    low = (native.array.astype("<i2") & 0xFFF).astype("<u2")
    frame = lossless_jpeg(low[0])
    packed = copy(header)
    packed.add(DataElement("PixelData", "OB", encapsulate([frame])))
    packed["PixelData"].is_undefined_length = True
    pair = written(tmp_path / "plain", header), tmp_path / "packed"
    pair[1].write_bytes(whole(packed, JPEG_LOSSLESS_SV1))
    assert are_same(pair)
    overlaid = native.array.astype("<i2").copy()
    overlaid[0, 0, 0] = (overlaid[0, 0, 0] & 0xFFF) | 0x5000  # neither nothing nor a sign: somebody's overlay
    written(tmp_path / "overlaid", copy(header, PixelData=overlaid.tobytes()))
    assert not are_same((tmp_path / "overlaid", pair[1]))


@pytest.mark.parametrize("syntax", [JPEG_LOSSLESS_SV1, JPEG_LS, MPEG])
def test_the_same_frames_in_other_fragments_are_the_same_whoever_can_decode_them(tmp_path, syntax):
    native, header = picture()
    CODECS.setdefault(MPEG, lossless_jpeg)
    one = compressed(tmp_path / "one", native, header, syntax)
    three = compressed(tmp_path / "three", native, header, syntax, fragments=3)
    assert one.read_bytes() != three.read_bytes()
    assert are_same((one, three))


def test_what_nobody_here_can_decode_is_not_called_different(tmp_path):
    native, header = picture()
    CODECS.setdefault(MPEG, lossless_jpeg)
    packed, plain = compressed(tmp_path / "packed", native, header, MPEG), written(tmp_path / "plain", header)
    with pytest.raises(Incomparable, match="not decoded here"):
        are_same((packed, plain))


def test_what_is_too_large_to_compare_is_not_called_different(tmp_path, monkeypatch):
    _, header = picture()
    pair = written(tmp_path / "one", header), written(tmp_path / "other", header)
    monkeypatch.setattr(same_content, "LARGEST", 500)
    with pytest.raises(Incomparable, match="larger than"):
        are_same(pair)


@pytest.mark.parametrize("syntax", [IMPLICIT, BIG, DeflatedExplicitVRLittleEndian])
def test_an_image_is_the_same_in_every_uncompressed_syntax(tmp_path, syntax):
    native, header = picture(allocated=16, stored=12, vr="OW")
    header.RequestAttributesSequence = [Dataset()]
    header.RequestAttributesSequence[0].ScheduledProcedureStepID = "S1"
    block = header.private_block(0x0009, "NOBODY KNOWS", create=True)
    block.add_new(1, "LO", "text")
    block.add_new(2, "US", 7)
    block.add_new(3, "SQ", [Dataset()])
    block[3].value[0].PatientComments = "within"
    plain = written(tmp_path / "plain", header)
    there = copy(header)
    if syntax == BIG:
        there.PixelData = native.array.astype(">u2").tobytes()
    other = written(tmp_path / "other", there, syntax)
    assert are_same((plain, other))
    there[0x0009, 0x1001].value = "texu"
    assert not are_same((plain, written(tmp_path / "changed", there, syntax)))


def test_run_lengths_are_compared_decoded(tmp_path):
    _, header = picture(samples=3)
    packed = copy(header)
    packed.compress(RLELossless, generate_instance_uid=False)
    written(tmp_path / "packed", packed, RLELossless)
    assert are_same((written(tmp_path / "plain", header), tmp_path / "packed"))


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    long = struct.pack("<HI", 0, len(value)) if vr in {b"OB", b"SQ", b"UN"} else struct.pack("<H", len(value))
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr + long + value


def item(content: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content


CODE = element(0x00080100, b"SH", b"X1") + element(0x00080104, b"LO", b"meaning ")
LENGTH = element(0x00080000, b"UL", struct.pack("<I", 99))
DEEPER = element(0x00081199, b"SQ", item(LENGTH + CODE))
PADDING = element(0xFFFCFFFC, b"OB", bytes(10))
SHALLOW = element(0x00081199, b"SQ", item(CODE))


def bytes_of(*, codes: bytes = CODE, first: bytes = b"", last: bytes = b"") -> bytes:
    _, header = picture()
    head = whole(header, EXPLICIT)
    at = head.index(element(0x00080016, b"UI", header["SOPClassUID"].value.encode() + b"\0")[:6])
    after = head.index(struct.pack("<HH", 0x0010, 0x0010), at)
    sequence = element(0x00081032, b"SQ", item(codes))
    return head[:at] + first + head[at:after] + sequence + head[after:] + last


MEANINGLESS = {
    "padding behind": {"last": PADDING},
    "more padding behind": {"last": element(0xFFFCFFFC, b"OB", bytes(64))},
    "a wrong group length": {"first": LENGTH},
    "the length to the end": {"first": element(0x00080001, b"UL", bytes(4))},
    "a group length in an item": {"codes": LENGTH + CODE},
}


@pytest.mark.parametrize("what", MEANINGLESS)
def test_what_has_no_meaning_makes_no_other_instance(tmp_path, what):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(bytes_of())
    other.write_bytes(bytes_of(**MEANINGLESS[what]))
    assert one.read_bytes() != other.read_bytes()
    assert are_same((one, other))
    assert are_same((other, one))


def test_a_group_length_two_levels_down_makes_no_other_instance(tmp_path):
    one, other, third = tmp_path / "one", tmp_path / "other", tmp_path / "third"
    one.write_bytes(bytes_of(codes=CODE + SHALLOW))
    other.write_bytes(bytes_of(codes=CODE + DEEPER))
    third.write_bytes(bytes_of(codes=CODE + DEEPER.replace(b"X1", b"X2")))
    assert are_same((one, other))
    assert not are_same((one, third))


def test_another_code_in_a_sequence_is_another_instance(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(bytes_of())
    other.write_bytes(bytes_of(codes=LENGTH + CODE.replace(b"X1", b"X2")))
    assert not are_same((one, other))


def test_a_text_is_compared_by_what_it_says_in_its_own_character_set(tmp_path):
    _, header = picture()
    header.SpecificCharacterSet, header.PatientName = "ISO_IR 100", "MÜLLER^ZOË"
    one = written(tmp_path / "one", header)
    assert are_same((one, written(tmp_path / "wide", copy(header, SpecificCharacterSet="ISO_IR 192"))))
    greek = one.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 126")
    (tmp_path / "greek").write_bytes(greek)
    assert not are_same((one, tmp_path / "greek")), "the same bytes, another name"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"PatientName": "ROE^RICHARD"}, {"PatientName": "ROE^RICHARD^^^"}),
        ({"SliceThickness": "1.0"}, {"SliceThickness": "1"}),
        ({"StudyDescription": "HEAD"}, {"StudyDescription": "HEAD "}),
    ],
)
def test_two_ways_to_write_one_value_make_one_instance(tmp_path, one, other):
    _, header = picture()
    assert are_same(
        (written(tmp_path / "one", copy(header, **one)), written(tmp_path / "other", copy(header, **other)))
    )


@pytest.mark.parametrize(
    "change",
    [
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PatientID": "P-2"},
        {"PatientComments": "more"},
        {"WindowWidth": "400"},
    ],
)
def test_another_value_or_meaning_makes_another_instance(tmp_path, change):
    native, header = picture()
    one = written(tmp_path / "one", header)
    assert not are_same((one, written(tmp_path / "other", copy(header, **change))))
    packed = compressed(tmp_path / "packed", native, copy(header, **change), JPEG_LS)
    assert not are_same((one, packed))


def test_floating_point_pixels_are_compared_as_numbers(tmp_path):
    _, header = picture()
    del header.PixelData
    header.BitsAllocated = 32
    header.FloatPixelData = np.arange(256, dtype="<f4").tobytes()
    one = written(tmp_path / "one", header)
    assert are_same((one, written(tmp_path / "implicit", copy(header), IMPLICIT)))
    other = copy(header, FloatPixelData=np.arange(1, 257, dtype="<f4").tobytes())
    assert not are_same((one, written(tmp_path / "other", other)))


def test_an_absent_item_makes_another_instance(tmp_path):
    _, header = picture()
    header.ProcedureCodeSequence = Sequence([Dataset(), Dataset()])
    one = written(tmp_path / "one", header)
    header.ProcedureCodeSequence = Sequence([Dataset()])
    assert not are_same((one, written(tmp_path / "other", header)))
