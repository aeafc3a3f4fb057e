"""Decoding to Explicit VR Little Endian: pixels as they were before encoding, every other value as it is."""

import warnings
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from pydicom import DataElement, Dataset
from pydicom._uid_dict import UID_dictionary
from pydicom.data import get_testdata_file
from pydicom.dataelem import RawDataElement
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.tag import Tag
from pydicom.uid import UID, RLELossless
from support.studies.native_images import BIG, EXPLICIT, IMPLICIT, Native, written

from pipeline.cstore.contexts import DECODABLE
from pipeline.dicom.decoding import Decoded, DecodingTask, NotDecoded, decode

JPEG, JPEG_LS = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.80"
OTHERS = {
    "1.2.840.10008.1.2.4.70": imagecodecs.jpegsof3_decode,
    JPEG_LS: imagecodecs.jpegls_decode,
    "1.2.840.10008.1.2.4.81": imagecodecs.jpegls_decode,
}
LOSSY_MARKS = {0x00282110, 0x00282112, 0x00282114}
Array = npt.NDArray[Any]


@pytest.fixture(autouse=True)
def _pydicom_may_warn():
    """pydicom warns of what real objects get wrong; in the pool nobody hears it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def decoded(source: Path, tmp_path: Path, *, implicit: bool = False) -> tuple[Dataset, Decoded]:
    result = decode(DecodingTask(source, tmp_path / "decoded.dcm", tmp_path, implicit=implicit))
    assert result.size == result.path.stat().st_size
    return pydicom.dcmread(result.path), result


def values(data_set: Dataset) -> dict[int, object]:
    return {e.tag: (e.VR, e.value) for e in data_set if e.tag != 0x7FE00010 and e.tag.element}


COMPRESSED = [
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_RLE.dcm",
    "J2K_pixelrep_mismatch.dcm",
    "JPEG2000.dcm",
    "JPEGLSNearLossless_16.dcm",
    "SC_rgb_jpeg_gdcm.dcm",  # lossless JPEG
    "SC_rgb_rle_16bit_2frame.dcm",
    "examples_jpeg2k.dcm",  # YBR_RCT
    "rtdose_rle.dcm",  # fifteen frames of 32 bits
]


@pytest.mark.parametrize("name", COMPRESSED)
@pytest.mark.parametrize("implicit", [False, True])
def test_the_pixels_are_what_another_reader_decodes_and_every_other_value_stays(tmp_path, name, implicit):
    source = Path(get_testdata_file(name))
    before = pydicom.dcmread(source)
    after, result = decoded(source, tmp_path, implicit=implicit)
    assert after.file_meta.TransferSyntaxUID == (IMPLICIT if implicit else EXPLICIT)
    assert result.transfer_syntax_before == before.file_meta.TransferSyntaxUID
    assert after.file_meta.MediaStorageSOPInstanceUID == before.SOPInstanceUID
    frames = [frame for frame, _ in _other_reader(before)]
    assert after.PixelData == b"".join(frame.tobytes() for frame in frames)
    changed = {tag for tag, value in values(before).items() if values(after).get(tag) != value}
    names = {pydicom.datadict.keyword_for_tag(tag) for tag in changed} if not implicit else set()
    assert names <= {"PhotometricInterpretation"}
    assert set(values(after)) - LOSSY_MARKS == set(values(before)) - LOSSY_MARKS


def _other_reader(data_set: Dataset):
    if data_set.file_meta.TransferSyntaxUID in OTHERS:
        return [(frame, None) for frame in _by_another_library(data_set)]
    return get_decoder(data_set.file_meta.TransferSyntaxUID).iter_array(data_set, raw=True)


def _by_another_library(data_set: Dataset):
    """pydicom alone decodes none of these; DCMTK, which does, is asked in tests/integration."""
    decode_frame = OTHERS[data_set.file_meta.TransferSyntaxUID]
    frames = generate_frames(data_set.PixelData, number_of_frames=int(data_set.get("NumberOfFrames") or 1))
    return [decode_frame(frame).astype(f"<u{data_set.BitsAllocated // 8}") for frame in frames]


@pytest.mark.parametrize("implicit", [False, True])
def test_an_odd_number_of_samples_is_padded(tmp_path, implicit):
    after, _ = decoded(Path(get_testdata_file("SC_rgb_small_odd_jpeg.dcm")), tmp_path, implicit=implicit)
    assert len(after.PixelData) == 3 * 3 * 3 + 1
    assert after.PixelData[-1] == 0


def test_the_same_input_gives_the_same_bytes(tmp_path):
    source = Path(get_testdata_file("JPEG2000.dcm"))
    first = decoded(source, tmp_path)[1].sha256
    content = (tmp_path / "decoded.dcm").read_bytes()
    assert decoded(source, tmp_path)[1].sha256 == first
    assert (tmp_path / "decoded.dcm").read_bytes() == content


def native_file(tmp_path: Path, native: Native) -> Path:
    data_set = native.header
    data_set.add(DataElement("PixelData", native.vr, native.pixels))
    path = tmp_path / "source.dcm"
    path.write_bytes(written(data_set))
    return path


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
def test_uncompressed_instances_change_their_encoding_and_nothing_else(tmp_path, syntax, implicit):
    native = Native(syntax=syntax, frames=2)
    source = native_file(tmp_path, native)
    after, _ = decoded(source, tmp_path, implicit=implicit)
    assert np.array_equal(after.pixel_array, native.array)
    assert values(after) == values(pydicom.dcmread(source))


def test_private_elements_sequences_and_odd_texts_keep_their_bytes_without_their_vr(tmp_path):
    data_set = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    item = Dataset()
    item.CodeMeaning = "inner"
    item.ReferencedSOPSequence = [Dataset()]
    item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3"
    data_set.ProcedureCodeSequence = [item, Dataset()]
    data_set.add(RawDataElement(Tag(0x00104000), "LT", 6, b"\xff\xfe\x00ab ", 0, False, True))  # PatientComments
    block = data_set.private_block(0x0029, "SOMEBODY", create=True)
    block.add_new(1, "OB", b"\x01\x02")
    source = tmp_path / "source.dcm"
    data_set.save_as(source)
    after, result = decoded(source, tmp_path, implicit=True)
    assert after.ProcedureCodeSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3"
    assert len(after.ProcedureCodeSequence) == 2
    raw = pydicom.dcmread(result.path)
    assert raw.get_item("PatientComments").value == b"\xff\xfe\x00ab "
    assert raw[block.get_tag(1)].value == b"\x01\x02"
    assert after.PixelData == data_set.PixelData
    assert b"OB\0\0" not in result.path.read_bytes()[400:]


def colour_jpeg(tmp_path: Path, photometric: str, *, frames: int = 2, markers: bool = False) -> tuple[Path, Array]:
    """Return a file of lossy JPEG frames of one strong colour, encoded in `photometric`, and that colour."""
    rgb = np.zeros((16, 16, 3), "u1")
    rgb[..., 0], rgb[..., 1] = 200, 30
    space = "RGB" if photometric == "RGB" else "YCBCR"
    frame = imagecodecs.jpeg8_encode(rgb, level=95, colorspace="RGB", outcolorspace=space)
    if not markers:  # many modalities write none: then Photometric Interpretation alone says what it is
        while frame[2:3] == b"\xff" and frame[3] in {0xE0, 0xEE}:
            frame = frame[:2] + frame[4 + int.from_bytes(frame[4:6], "big") - 2 + 2 - 2 :]
    native = Native(rows=16, columns=16, samples=3, frames=frames, allocated=8, stored=8, photometric=photometric)
    data_set = native.header
    data_set.add(DataElement("PixelData", "OB", encapsulate([frame] * frames)))
    data_set["PixelData"].is_undefined_length = True
    data_set.file_meta.TransferSyntaxUID = UID(JPEG)
    path = tmp_path / "source.dcm"
    data_set.save_as(path, enforce_file_format=True)
    return path, rgb


@pytest.mark.parametrize("markers", [False, True])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL", "YBR_FULL_422"])
def test_every_frame_of_a_colour_jpeg_has_its_colours(tmp_path, photometric, markers):
    source, rgb = colour_jpeg(tmp_path, photometric, frames=3, markers=markers)
    after, result = decoded(source, tmp_path)
    assert (after.PhotometricInterpretation, after.PlanarConfiguration) == ("RGB", 0)
    assert result.is_lossy
    frames = after.pixel_array.astype(int)
    assert frames.shape == (3, 16, 16, 3)
    assert np.abs(frames - rgb).max() <= 6


@pytest.mark.parametrize(("encoded", "said"), [("YBR_FULL_422", "RGB"), ("RGB", "YBR_FULL")])
def test_markers_of_who_encoded_it_outweigh_a_stale_photometric_interpretation(tmp_path, encoded, said):
    source, rgb = colour_jpeg(tmp_path, encoded, markers=True)
    data_set = pydicom.dcmread(source)
    data_set.PhotometricInterpretation = said
    data_set.save_as(source)
    after, _ = decoded(source, tmp_path)
    assert np.abs(after.pixel_array.astype(int) - rgb).max() <= 6


def test_a_marker_that_says_rgb_is_believed_where_nothing_else_tells(tmp_path):
    source = Path(get_testdata_file("SC_jpeg_no_color_transform_2.dcm"))  # Adobe's marker, components 0, 1, 2
    right = decoded(source, tmp_path)[0].PixelData
    data_set = pydicom.dcmread(source)
    data_set.PhotometricInterpretation = "YBR_FULL"
    after, _ = decoded(written_as(tmp_path, data_set), tmp_path)
    assert after.PixelData == right
    assert after.PhotometricInterpretation == "RGB"


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_a_lossless_process_leaves_the_colours_what_they_are(tmp_path, photometric):
    native = Native(rows=8, columns=8, samples=3, allocated=8, stored=8, photometric=photometric)
    frame = imagecodecs.jpegls_encode(native.array[0])
    jfif = frame[:2] + b"\xff\xe0\x00\x10JFIF\x00\x01\x01\0\0\x01\0\x01\0\0" + frame[2:]  # some encoders do
    data_set = native.header
    data_set.add(DataElement("PixelData", "OB", encapsulate([jfif])))
    data_set["PixelData"].is_undefined_length = True
    data_set.file_meta.TransferSyntaxUID = UID(JPEG_LS)
    after, _ = decoded(written_as(tmp_path, data_set), tmp_path)
    assert (after.PhotometricInterpretation, after.PlanarConfiguration) == (photometric, 0)
    assert after.PixelData == native.array.tobytes()


def test_what_was_lost_is_marked_with_method_and_ratio_where_nobody_had(tmp_path):
    source, _ = colour_jpeg(tmp_path, "YBR_FULL")
    after, _ = decoded(source, tmp_path)
    assert after.LossyImageCompression == "01"
    assert after.LossyImageCompressionMethod == "ISO_10918_1"
    assert after.LossyImageCompressionRatio > 1


@pytest.mark.parametrize(
    ("name", "mark"), [("JPEG2000.dcm", "01"), ("JPEGLSNearLossless_16.dcm", "01"), ("MR_small_RLE.dcm", None)]
)
def test_a_mark_is_set_only_where_something_was_lost(tmp_path, name, mark):
    data_set = pydicom.dcmread(get_testdata_file(name))
    if "LossyImageCompression" in data_set:
        del data_set.LossyImageCompression
    after, result = decoded(written_as(tmp_path, data_set), tmp_path)
    assert after.get("LossyImageCompression") == mark
    assert result.is_lossy == (mark == "01")


def written_as(tmp_path: Path, data_set: Dataset) -> Path:
    path = tmp_path / "source.dcm"
    data_set.save_as(path, enforce_file_format=True)
    return path


def test_what_a_lossy_process_threw_out_of_range_is_put_back_into_it(tmp_path):
    """A value over Bits Stored would show as black where a viewer masks it."""
    native = Native(rows=8, columns=8, allocated=16, stored=12)
    bright = np.full((8, 8), 4170, "u2")
    frame = imagecodecs.jpeg2k_encode(bright, level=60, codecformat="J2K", reversible=False, bitspersample=16)
    data_set = native.header
    data_set.add(DataElement("PixelData", "OB", encapsulate([frame])))
    data_set["PixelData"].is_undefined_length = True
    data_set.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.91")
    after, _ = decoded(written_as(tmp_path, data_set), tmp_path)
    assert np.frombuffer(after.PixelData, "<u2").max() == 4095


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.90", JPEG_LS, RLELossless])
def test_a_planar_configuration_left_from_before_compression_does_not_mix_the_colours(tmp_path, syntax):
    """Colours by plane would be a picture of stripes: the codestream decides, not the attribute (PS3.5 8.2)."""
    is_rle = syntax == RLELossless  # which is by plane whatever the attribute says
    native = Native(rows=8, columns=6, samples=3, allocated=8, stored=8, planar=int(not is_rle))
    data_set = native.header
    if is_rle:
        data_set.add(DataElement("PixelData", "OB", native.pixels))
        data_set.compress(RLELossless, generate_instance_uid=False)
        data_set.PlanarConfiguration = 0
    else:
        encode = imagecodecs.jpegls_encode if syntax == JPEG_LS else imagecodecs.jpeg2k_encode
        options = {} if syntax == JPEG_LS else {"codecformat": "J2K", "reversible": True}
        data_set.add(DataElement("PixelData", "OB", encapsulate([encode(native.array[0], **options)])))
        data_set["PixelData"].is_undefined_length = True
    data_set.file_meta.TransferSyntaxUID = UID(syntax)
    after, _ = decoded(written_as(tmp_path, data_set), tmp_path)
    assert after.PlanarConfiguration == 0
    assert after.PixelData == native.array.tobytes()


@pytest.mark.parametrize("signed", [False, True])
def test_bits_beside_the_stored_ones_survive_a_lossless_process(tmp_path, signed):
    native = Native(rows=8, columns=8, allocated=16, stored=12, signed=signed)
    overlay = np.full((8, 8), 0x8123, "u2")  # an overlay in an unused bit, PS3.3 C.9.2 (retired)
    data_set = native.header
    data_set.add(DataElement("PixelData", "OB", encapsulate([imagecodecs.jpegls_encode(overlay)])))
    data_set["PixelData"].is_undefined_length = True
    data_set.file_meta.TransferSyntaxUID = UID(JPEG_LS)
    after, _ = decoded(written_as(tmp_path, data_set), tmp_path)
    assert after.PixelData == overlay.tobytes()


def broken(tmp_path: Path, **attributes: object) -> Path:
    data_set = pydicom.dcmread(get_testdata_file("rtdose_rle.dcm"))
    for keyword, value in attributes.items():
        if value is None:
            delattr(data_set, keyword)
        else:
            setattr(data_set, keyword, value)
    return written_as(tmp_path, data_set)


IMPOSSIBLE = [
    ({"NumberOfFrames": 11}, "frames|decoded"),
    ({"NumberOfFrames": 9}, "frames|decoded"),
    ({"Rows": None}, "missing or absurd"),
    ({"Rows": 63}, "frames|decoded"),
    ({"Rows": 65535, "Columns": 65535}, "fit no element"),
    ({"BitsAllocated": 1}, "1 bits"),
    ({"BitsStored": None}, "missing or absurd"),
    ({"SamplesPerPixel": 3}, "frames|decoded"),
]


@pytest.mark.parametrize(("attributes", "words"), IMPOSSIBLE)
def test_what_contradicts_itself_is_not_decoded(tmp_path, attributes, words):
    with pytest.raises(NotDecoded, match=words):
        decoded(broken(tmp_path, **attributes), tmp_path)


def test_a_transfer_syntax_nobody_knows_is_not_decoded(tmp_path):
    data_set = pydicom.dcmread(get_testdata_file("MR_small_RLE.dcm"))
    data_set.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.103")
    with pytest.raises(NotDecoded, match="MPEG-4"):
        decoded(written_as(tmp_path, data_set), tmp_path)


def test_garbage_is_not_decoded(tmp_path):
    path = tmp_path / "garbage.dcm"
    path.write_bytes(b"\x08\x00" * 500)
    with pytest.raises(NotDecoded, match="cannot be decoded"):
        decoded(path, tmp_path)


def test_a_colour_jpeg_of_another_size_than_its_data_set_says_is_not_decoded(tmp_path):
    source, _ = colour_jpeg(tmp_path, "RGB")
    data_set = pydicom.dcmread(source)
    data_set.Rows, data_set.Columns = 8, 32  # as many bytes
    with pytest.raises(NotDecoded):
        decoded(written_as(tmp_path, data_set), tmp_path)


def test_what_is_said_to_be_decodable_has_a_decoder_here_and_nothing_else_has(tmp_path):
    data_set = pydicom.dcmread(get_testdata_file("MR_small_RLE.dcm"))
    knows = set()
    for syntax, (_, kind, *_) in UID_dictionary.items():
        if kind != "Transfer Syntax" or not UID(syntax).is_compressed or "1.2.840.10008.1.2.1.9" in syntax:
            continue
        data_set.file_meta.TransferSyntaxUID = UID(syntax)
        try:
            decoded(written_as(tmp_path, data_set), tmp_path)
        except NotDecoded as error:
            if str(error).endswith("is not decoded here"):
                continue  # others only do not know this frame
        knows.add(syntax)
    uncompressed = {EXPLICIT, IMPLICIT, BIG, "1.2.840.10008.1.2.1.99"}
    assert knows | uncompressed == DECODABLE
