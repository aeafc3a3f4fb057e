"""What a JPEG 2000 codestream says of itself."""

import numpy as np
import pytest
from imagecodecs import jpeg2k_encode

from pipeline.dicom.pixels import jpeg2000
from pipeline.dicom.pixels.jpeg2000 import Codestream

GREY = np.arange(35 * 40, dtype="<u2").reshape(35, 40)


def frame(array: np.ndarray = GREY, **options: object) -> bytes:
    return jpeg2k_encode(array, level=0, codecformat="J2K", **{"reversible": True, **options})


def with_marker(code: int) -> bytes:
    whole = frame()
    at = whole.index(jpeg2000.COMMENT.to_bytes(2))
    return whole[:at] + code.to_bytes(2) + b"\x00\x04\x00\x00" + whole[at:]


def test_the_header_is_read():
    assert jpeg2000.read_codestream(frame(bitspersample=11)) == Codestream(
        35, 40, ((11, False),), reversible=True, colour_transform=False
    )


def test_signed_samples_are_seen():
    assert jpeg2000.read_codestream(frame(GREY.astype("<i2"))).components == ((16, True),)


def test_the_colour_transform_is_seen():
    colour = np.zeros((20, 30, 3), "u1")

    assert jpeg2000.read_codestream(frame(colour, mct=True)).colour_transform
    assert not jpeg2000.read_codestream(frame(colour, mct=False)).colour_transform
    assert jpeg2000.read_codestream(frame(colour)).components == ((8, False),) * 3


def test_the_irreversible_wavelet_is_seen():
    assert not jpeg2000.read_codestream(frame(reversible=False)).reversible


@pytest.mark.parametrize(("marker", "offset", "value"), [(jpeg2000.COD, 13, 0), (jpeg2000.QCD, 4, 0x42)])
def test_wavelet_and_quantization_must_both_be_reversible(marker, offset, value):
    whole = bytearray(frame())
    whole[whole.index(marker.to_bytes(2)) + offset] = value  # tables A.20 and A.28

    assert not jpeg2000.read_codestream(bytes(whole)).reversible


def test_a_file_in_boxes_is_no_codestream():
    boxed = jpeg2k_encode(GREY, level=0, codecformat="JP2", reversible=True)

    with pytest.raises(ValueError, match="does not begin"):
        jpeg2000.read_codestream(boxed)


def test_a_codestream_without_an_end_is_refused():
    with pytest.raises(ValueError, match="does not end"):
        jpeg2000.read_codestream(frame()[:-2])


@pytest.mark.parametrize("cut", range(2, 90, 7))
def test_a_cut_header_is_refused(cut):
    with pytest.raises(ValueError, match=r"cut|holds marker"):
        jpeg2000.read_codestream(frame()[:cut] + b"\xff\xd9")


@pytest.mark.parametrize("code", [0xFF53, 0xFF5D, 0xFF5E, 0xFF5F], ids=["COC", "QCC", "RGN", "POC"])
def test_a_marker_that_overrules_the_others_is_refused(code):
    with pytest.raises(ValueError, match="holds marker"):
        jpeg2000.read_codestream(with_marker(code))


def test_subsampled_components_are_refused():
    whole = bytearray(frame())
    whole[43] = 2  # XRsiz of the first component, after SOC and the 38 bytes of SIZ (table A.9)

    with pytest.raises(ValueError, match="subsampled"):
        jpeg2000.read_codestream(bytes(whole))


def test_an_image_off_its_origin_is_refused():
    whole = bytearray(frame())
    whole[19] = 1  # XOsiz

    with pytest.raises(ValueError, match="origin"):
        jpeg2000.read_codestream(bytes(whole))
