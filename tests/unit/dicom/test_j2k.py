"""JPEG 2000, classic and high-throughput, by clinical situation.

What is encoded, and what passes through and why.
"""

import hashlib
from types import ModuleType

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.encaps import generate_frames, parse_basic_offsets
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless
from support.studies.native_images import BIG, EXPLICIT, IMPLICIT, Native, encoded, reread, seen

from pipeline.dicom.encodings import NotEncoded, htj2k, j2k
from pipeline.dicom.pixels import jpeg2000

SITUATIONS = {
    "a CT slice: 16 bits signed": Native(64, 64, stored=16, signed=True),
    "a CT slice: 12 bits of 16": Native(64, 64, stored=12),
    "a signed slice of 12 bits, its sign extended": Native(33, 40, stored=12, signed=True),
    "a radiograph: 10 bits of 16, MONOCHROME1": Native(70, 31, stored=10, photometric="MONOCHROME1"),
    "a bone scan: 8 bits": Native(32, 32, allocated=8, stored=8),
    "7 bits of 8": Native(32, 32, allocated=8, stored=7),
    "signed 8 bits": Native(9, 9, allocated=8, stored=8, signed=True),
    "one pixel": Native(1, 1, allocated=8, stored=8),
    "one row": Native(1, 300),
    "odd sides, odd length, a padding byte": Native(3, 3, allocated=8, stored=8),
    "ultrasound in colour by pixel": Native(40, 33, samples=3, allocated=8, stored=8),
    "ultrasound in colour by plane": Native(40, 33, samples=3, allocated=8, stored=8, planar=1),
    "an ultrasound loop by plane": Native(20, 33, samples=3, frames=3, allocated=8, stored=8, planar=1),
    "colour of 16 bits": Native(20, 20, samples=3, stored=16),
    "YBR_FULL": Native(20, 20, samples=3, allocated=8, stored=8, photometric="YBR_FULL"),
    "PALETTE COLOR": Native(20, 20, allocated=8, stored=8, photometric="PALETTE COLOR"),
    "an angiogram: many frames": Native(64, 64, frames=7, allocated=8, stored=8),
    "odd frames of odd length": Native(3, 3, frames=3, allocated=8, stored=8),
    "implicit VR": Native(64, 64, syntax=IMPLICIT, stored=16, signed=True),
    "deflated": Native(64, 64, syntax=DeflatedExplicitVRLittleEndian),
    "big endian, 16 bits": Native(64, 64, syntax=BIG, stored=16, signed=True),
    "big endian, 8 bits in words": Native(20, 33, syntax=BIG, allocated=8, stored=8, vr="OW"),
    "big endian, 8 bits in bytes": Native(20, 33, syntax=BIG, allocated=8, stored=8, vr="OB"),
    "big endian, odd frames in words": Native(3, 3, frames=3, syntax=BIG, allocated=8, stored=8, vr="OW"),
    "big endian colour by plane in words": Native(5, 7, 3, 2, syntax=BIG, allocated=8, stored=8, planar=1),
}


@pytest.fixture(params=[j2k, htj2k], ids=["j2k", "htj2k"])
def codec(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


# pydicom compares lengths of tiny pictures and wonders; the pixels are compared below.
@pytest.mark.filterwarnings("ignore:The number of bytes of compressed pixel data matches")
@pytest.mark.parametrize("native", SITUATIONS.values(), ids=SITUATIONS)
def test_a_viewer_sees_the_pixels_that_were_sent(native, codec):
    result, viewed = encoded(native, codec)

    assert np.array_equal(seen(viewed, native), native.array)
    assert seen(viewed, native).dtype == native.array.dtype
    assert (viewed.BitsAllocated, viewed.BitsStored) == (native.allocated, native.stored)
    assert (viewed.HighBit, viewed.PixelRepresentation) == (native.stored - 1, int(native.signed))
    assert len(result.frames) == native.frames


def test_every_frame_is_one_fragment_found_by_the_offset_table(codec):
    _, viewed = encoded(Native(16, 16, frames=5), codec)

    offsets = parse_basic_offsets(viewed.PixelData)
    assert len(offsets) == 5
    items = 8 + 4 * 5  # the table is an item itself
    assert all(viewed.PixelData[items + at :][:4] == b"\xfe\xff\x00\xe0" for at in offsets)
    assert len(list(generate_frames(viewed.PixelData, number_of_frames=5))) == 5
    assert viewed["PixelData"].VR == "OB"
    assert viewed["PixelData"].is_undefined_length


@pytest.mark.parametrize("stored", [9, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_the_codestream_says_bits_stored_and_the_sign(stored, signed, codec):
    result, _ = encoded(Native(20, 30, stored=stored, signed=signed), codec)

    said = jpeg2000.read_codestream(result.frames[0])
    assert said == jpeg2000.Codestream(20, 30, ((stored, signed),), True, False, high_throughput=codec is htj2k)


def test_rgb_is_transformed_and_called_so_and_lies_by_pixel(codec):
    result, viewed = encoded(Native(20, 20, samples=3, allocated=8, stored=8, planar=1), codec)

    assert jpeg2000.read_codestream(result.frames[0]).colour_transform
    assert (viewed.PhotometricInterpretation, viewed.PlanarConfiguration) == ("YBR_RCT", 0)


def test_ybr_full_is_not_transformed_again(codec):
    result, viewed = encoded(Native(20, 20, 3, allocated=8, stored=8, photometric="YBR_FULL", planar=1), codec)

    assert not jpeg2000.read_codestream(result.frames[0]).colour_transform
    assert (viewed.PhotometricInterpretation, viewed.PlanarConfiguration) == ("YBR_FULL", 0)


def test_length_and_hashes_are_of_the_value_as_received_without_its_padding_byte():
    native = Native(3, 3, allocated=8, stored=8)

    result, _ = encoded(native)

    assert len(native.pixels) == 10
    assert result.pixel_length == 9
    assert result.pixel_md5 == hashlib.md5(native.pixels[:9]).hexdigest()
    assert result.pixel_sha256 == hashlib.sha256(native.pixels[:9]).hexdigest()


def test_in_swapped_words_the_padding_byte_is_the_last_but_one():
    native = Native(3, 3, allocated=8, stored=8, syntax=BIG)

    result, _ = encoded(native)

    assert native.pixels[8] == 0
    assert result.pixel_md5 == hashlib.md5(native.pixels[:8] + native.pixels[9:]).hexdigest()


def test_the_same_pixels_always_give_the_same_bytes(codec):
    native = Native(64, 64, frames=2)

    assert encoded(native, codec)[0] == encoded(native, codec)[0]


def changed(native: Native = Native(), **values: object) -> Dataset:  # noqa: B008 - read only
    header = native.header
    for keyword, value in values.items():
        setattr(header, keyword, value)
    return header


def with_overlay_in_the_pixels() -> Dataset:
    header = changed()
    header.add_new(0x60000100, "US", 16)
    header.add_new(0x60000102, "US", 12)
    return header


LENGTH = len(Native().pixels)
SIGNATURE = Sequence([Dataset()])
UNTOUCHED = {
    "already encapsulated: RLE Lossless": reread(Native().header, EXPLICIT),
    "1-bit pixels": changed(BitsAllocated=1, BitsStored=1, HighBit=0),
    "32-bit pixels": changed(BitsAllocated=32, BitsStored=32, HighBit=31),
    "12-bit pixels": changed(BitsAllocated=12),
    "floating point pixels": changed(FloatPixelData=b"\0" * 4),
    "YBR_FULL_422 of 3 samples": changed(Native(samples=3, allocated=8, stored=8, photometric="YBR_FULL_422")),
    "YBR_PARTIAL_420 of 3 samples": changed(
        Native(samples=3, allocated=8, stored=8, photometric="YBR_PARTIAL_420")
    ),
    "RGB of 1 samples": changed(PhotometricInterpretation="RGB"),
    "MONOCHROME2 of 3 samples": changed(Native(samples=3, photometric="MONOCHROME2")),
    "ARGB of 4": changed(SamplesPerPixel=4, PhotometricInterpretation="ARGB"),
    "signed RGB": changed(Native(samples=3, signed=True)),
    "High Bit is not": changed(HighBit=15),
    "HighBit is missing": changed(HighBit=None),
    "at most 8 of 16 bits": changed(BitsStored=8, HighBit=7),
    "BitsStored is missing or absurd": changed(BitsStored=17, HighBit=16),
    "Rows is missing or absurd": changed(Rows=0),
    "Columns is missing or absurd": changed(Columns=None),
    "PixelRepresentation is missing": changed(PixelRepresentation=None),
    "PlanarConfiguration is missing": changed(Native(samples=3), PlanarConfiguration=None),
    "Photometric Interpretation is missing": changed(PhotometricInterpretation=None),
    "NumberOfFrames is missing or absurd": changed(NumberOfFrames=0),
    f"Pixel Data is {LENGTH} bytes, its attributes describe {3 * LENGTH}": changed(NumberOfFrames=3),
    f"Pixel Data is {LENGTH} bytes, its attributes describe {65535 * 65535 * 2}": changed(
        Rows=65535, Columns=65535
    ),
    "an overlay lies in the unused bits": with_overlay_in_the_pixels(),
    "digitally signed": changed(MACParametersSequence=SIGNATURE),
}
UNTOUCHED["already encapsulated: RLE Lossless"].file_meta.TransferSyntaxUID = RLELossless
UNTOUCHED["ARGB of 4"].PlanarConfiguration = 0


@pytest.mark.parametrize("reason", UNTOUCHED)
def test_the_header_alone_says_why_an_instance_passes_through(reason, codec):
    header = UNTOUCHED[reason]
    if reason.startswith("ARGB"):
        reason = "SamplesPerPixel is missing or absurd"

    said = codec.why_not(header, LENGTH, "OW")

    assert said is not None
    assert said.startswith(reason)
    with pytest.raises(NotEncoded, match="^" + said[:20].replace("(", r"\(")):
        codec.encode(header, b"\0" * LENGTH, "OW")


def test_no_pixels_is_a_reason():
    assert j2k.why_not(Native().header, 0, None) == "no Pixel Data"


def test_more_than_can_be_held_is_not_even_read():
    said = j2k.why_not(Native().header, 600 * 2**20, "OW")

    assert said == "Pixel Data of 600 MiB is over the 512 MiB held in memory"


def test_a_transfer_syntax_nobody_knows_is_left_alone():
    header = Native().header
    header.file_meta.TransferSyntaxUID = "1.2.3.4"

    assert j2k.why_not(header, LENGTH, "OW") == "unknown transfer syntax 1.2.3.4"


def test_a_number_that_is_none_is_a_reason_and_not_a_crash():
    header = Native().header
    header.add_new(0x00280010, "FD", float("nan"))

    assert j2k.why_not(header, LENGTH, "OW") == "Rows is missing or absurd"


@pytest.mark.parametrize("value", [b"", b"\1", b"\1\2\3", b"\1\2\3\4"])
def test_a_number_of_half_a_word_is_a_reason_and_not_a_crash(value):
    file = reread(Native().header, EXPLICIT)
    file[0x00280010] = file.get_item("Rows")._replace(value=value, length=len(value))

    assert j2k.why_not(file, LENGTH, "OW") == "Rows is missing or absurd"


@pytest.mark.filterwarnings("ignore:.*1[.]5")  # which is the situation
def test_frames_given_as_nonsense_are_a_reason_and_not_a_crash():
    native = Native()
    file = reread(native.header, EXPLICIT)
    raw = file.get_item("Rows")
    file[0x00280008] = raw._replace(tag=type(raw.tag)(0x00280008), VR="IS", value=b"1.5 ", length=4)

    assert j2k.why_not(file, LENGTH, "OW") == "NumberOfFrames is missing or absurd"


def test_an_empty_number_of_frames_is_one_frame():
    header = changed(NumberOfFrames=None)

    assert len(j2k.encode(header, Native().pixels).frames) == 1


@pytest.mark.parametrize("more", [1, 2, 40])
def test_bytes_that_no_attribute_describes_are_not_dropped(more, codec):
    native = Native()

    with pytest.raises(NotEncoded, match="its attributes describe"):
        codec.encode(native.header, native.pixels + b"\1" * more)


def test_a_missing_last_byte_is_not_made_up():
    with pytest.raises(NotEncoded, match="its attributes describe"):
        j2k.encode(Native().header, Native().pixels[:-1])


def test_an_odd_value_without_its_padding_byte_is_encoded_all_the_same():
    native = Native(3, 3, allocated=8, stored=8)

    assert j2k.encode(native.header, native.pixels[:9]).pixel_length == 9


def test_swapped_words_of_odd_length_need_their_padding_byte():
    native = Native(3, 3, allocated=8, stored=8, syntax=BIG)

    assert j2k.why_not(native.header, 10, "OW") is None
    assert j2k.why_not(native.header, 9, "OW") == "Pixel Data is 9 bytes, its attributes describe 9"


@pytest.mark.parametrize("signed", [False, True])
def test_a_mark_in_the_bits_above_bits_stored_is_not_lost(signed, codec):
    native = Native(signed=signed)
    native.array = native.array & 0x07FF
    native.array[0, 1, 1] |= 0x4000

    with pytest.raises(NotEncoded, match="bits outside Bits Stored are in use"):
        codec.encode(native.header, native.pixels)


def test_a_sign_that_is_not_extended_is_not_lost(codec):
    native = Native(signed=True)
    native.array = native.array & 0x0FFF  # -1 as 0FFF, as some modalities write it

    with pytest.raises(NotEncoded, match="bits outside Bits Stored are in use"):
        codec.encode(native.header, native.pixels)


@pytest.mark.parametrize("native", [Native(syntax=BIG), Native(allocated=8, stored=8, syntax=BIG)])
def test_big_endian_pixels_of_unknown_order_are_left_alone(native):
    with pytest.raises(NotEncoded, match=r"big endian Pixel Data of .* in VR unknown"):
        j2k.encode(native.header, native.pixels)


def test_16_bit_samples_in_bytes_are_left_alone_in_big_endian():
    native = Native(syntax=BIG, vr="OB")

    with pytest.raises(NotEncoded, match="in VR OB"):
        j2k.encode(native.header, native.pixels, "OB")


def test_a_million_tiny_frames_do_not_fill_the_memory(codec):
    header = changed(Native(1, 1, allocated=8, stored=8), NumberOfFrames=1_000_000)

    with pytest.raises(NotEncoded, match="more than twice as large"):
        codec.encode(header, b"\0" * 1_000_000)
