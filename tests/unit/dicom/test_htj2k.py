"""High-Throughput JPEG 2000: what differs from the classic one, and what is not believed of its encoder."""

import imagecodecs
import numpy as np
import pytest
from pydicom.uid import HTJ2KLossless
from support.studies.native_images import Native, encoded

from pipeline.dicom.encodings import NotEncoded, htj2k, j2k
from pipeline.dicom.pixels import jpeg2000

BLOCK_STYLE = 12  # offset from the marker COD (ISO/IEC 15444-1 table A.12)


def encoder_that_answers(monkeypatch: pytest.MonkeyPatch, frame: bytes) -> None:
    monkeypatch.setattr(htj2k, "htj2k_encode", lambda *_, **__: frame)


def frame_of(native: Native) -> bytes:
    return htj2k.encode(native.header, native.pixels, native.vr).frames[0]


def test_the_file_says_htj2k_lossless():
    _, viewed = encoded(Native(), htj2k)

    assert viewed.file_meta.TransferSyntaxUID == HTJ2KLossless == "1.2.840.10008.1.2.4.201"


@pytest.mark.parametrize("allocated", [8, 16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("samples", [1, 3])
def test_every_number_of_bits_comes_back_from_both_decoders(allocated, signed, samples):
    for stored in range(2 if allocated == 8 else 9, allocated + 1):
        if signed and samples == 3:
            continue  # left alone: PS3.5 table 8.2.4-1
        native = Native(33, 40, samples, allocated=allocated, stored=stored, signed=signed)
        native.array[0, 0, 0], native.array[0, -1, -1] = native.array.min(), native.array.max()

        frame = frame_of(native)  # proven by OpenJPEG

        assert np.array_equal(imagecodecs.htj2k_decode(frame), native.array[0])
        assert jpeg2000.read_codestream(frame).components == ((stored, signed),) * samples


def test_the_lowest_and_the_highest_value_of_every_range_come_back():
    for stored in (9, 12, 15, 16):
        native = Native(2, 2, stored=stored)
        native.array[0] = [[0, (1 << stored) - 1], [(1 << stored) - 1, 0]]

        assert np.array_equal(imagecodecs.htj2k_decode(frame_of(native)), native.array[0])


def test_an_encoder_that_changes_one_pixel_is_not_believed(monkeypatch):
    native, other = Native(40, 40, stored=16), Native(40, 40, stored=16)
    other.array[0, 17, 3] ^= 1
    encoder_that_answers(monkeypatch, frame_of(other))

    with pytest.raises(NotEncoded, match=r"^not reversible: decoded pixels differ"):
        htj2k.encode(native.header, native.pixels)


def test_samples_that_were_not_moved_to_the_middle_of_their_range_are_not_believed(monkeypatch):
    native = Native(40, 40, stored=12)
    encoder_that_answers(monkeypatch, imagecodecs.htj2k_encode(native.array[0], reversible=True))

    with pytest.raises(NotEncoded, match=r"^not reversible: decoded pixels differ"):
        htj2k.encode(native.header, native.pixels)


def test_a_classic_codestream_is_not_taken_for_a_high_throughput_one(monkeypatch):
    native = Native(40, 40, stored=16)
    encoder_that_answers(monkeypatch, j2k.encode(native.header, native.pixels).frames[0])

    with pytest.raises(NotEncoded, match=r"^not reversible: the codestream says .*high_throughput=False"):
        htj2k.encode(native.header, native.pixels)


def test_an_irreversible_codestream_is_not_believed_even_where_it_happens_to_be_right(monkeypatch):
    native = Native(40, 40, stored=16)
    native.array[:] = 0
    encoder_that_answers(monkeypatch, imagecodecs.htj2k_encode(native.array[0], reversible=False))

    with pytest.raises(NotEncoded, match=r"^not reversible: the codestream"):
        htj2k.encode(native.header, native.pixels)


def test_an_encoder_that_refuses_leaves_the_instance_alone(monkeypatch):
    def refuse(*_: object, **__: object) -> bytes:
        raise imagecodecs.Htj2kError("ojph", "no")

    monkeypatch.setattr(htj2k, "htj2k_encode", refuse)

    with pytest.raises(NotEncoded, match=r"^the encoder refused: "):
        htj2k.encode(Native().header, Native().pixels)


@pytest.mark.parametrize("cut", [0, 10, 60, 150, -3])
def test_a_cut_codestream_is_not_believed(monkeypatch, cut):
    native = Native(40, 40, stored=16)
    encoder_that_answers(monkeypatch, frame_of(native)[:cut] + jpeg2000.EOC.to_bytes(2))

    with pytest.raises(NotEncoded, match=r"^not reversible:"):
        htj2k.encode(native.header, native.pixels)


def changed(frame: bytes, marker: int, offset: int, value: int) -> bytes:
    whole = bytearray(frame)
    whole[whole.index(marker.to_bytes(2)) + offset] = value
    return bytes(whole)


@pytest.mark.parametrize(
    ("marker", "offset", "value"),
    [
        (jpeg2000.COD, BLOCK_STYLE, 0xC0),  # blocks of both kinds
        (jpeg2000.COD, BLOCK_STYLE, 0x00),  # classic blocks under a capability that says otherwise
        (jpeg2000.CAP, 4, 0x80),  # another extension
        (jpeg2000.CAP, 8, 0xC0),  # blocks may be of both kinds
        (jpeg2000.CAP, 9, 0x2A),  # irreversible
    ],
)
def test_blocks_and_capabilities_must_say_the_same(marker, offset, value):
    with pytest.raises(ValueError, match="capabilities"):
        jpeg2000.read_codestream(changed(frame_of(Native(40, 40, stored=16)), marker, offset, value))


def test_high_throughput_blocks_without_the_capability_are_refused():
    whole = frame_of(Native(40, 40, stored=16))
    at = whole.index(jpeg2000.CAP.to_bytes(2))

    with pytest.raises(ValueError, match="capabilities"):
        jpeg2000.read_codestream(whole[:at] + whole[at + 10 :])
