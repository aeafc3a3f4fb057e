"""What an encoder returns is decoded and compared before it is believed, and the data set around it stays."""

import hashlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from pydicom import Dataset
from pydicom.uid import JPEG2000Lossless
from support.studies.native_images import EXPLICIT, IMPLICIT, Native, encoded, written

from pipeline.dicom.encodings import NotEncoded, htj2k, j2k
from pipeline.dicom.pixels import jpeg2000
from pipeline.dicom.pixels.encapsulation import attach


@pytest.fixture(params=[j2k, htj2k], ids=["j2k", "htj2k"])
def codec(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


def changed(native: Native = Native(), **values: object) -> Dataset:  # noqa: B008 - read only
    header = native.header
    for keyword, value in values.items():
        setattr(header, keyword, value)
    return header


def encoder_that_answers(monkeypatch: pytest.MonkeyPatch, frame: bytes) -> None:
    monkeypatch.setattr(j2k, "jpeg2k_encode", lambda *_, **__: frame)


def test_an_encoder_that_changes_one_pixel_is_not_believed(monkeypatch):
    native, other = Native(40, 40), Native(40, 40)
    other.array[0, 17, 3] ^= 1
    encoder_that_answers(monkeypatch, j2k.encode(other.header, other.pixels).frames[0])

    with pytest.raises(NotEncoded, match=r"^not reversible: decoded pixels differ"):
        j2k.encode(native.header, native.pixels)


def test_an_encoder_that_promises_another_precision_is_not_believed(monkeypatch):
    native, other = Native(40, 40), Native(40, 40, stored=13)
    other.array = native.array
    encoder_that_answers(monkeypatch, j2k.encode(other.header, other.pixels).frames[0])

    with pytest.raises(NotEncoded, match=r"^not reversible: the codestream says"):
        j2k.encode(native.header, native.pixels)


def test_a_frame_turned_on_its_side_is_not_believed(monkeypatch):
    native, other = Native(40, 30), Native(30, 40)
    other.array = native.array.reshape(1, 30, 40)
    encoder_that_answers(monkeypatch, j2k.encode(other.header, other.pixels).frames[0])

    with pytest.raises(NotEncoded, match=r"^not reversible: the codestream says"):
        j2k.encode(native.header, native.pixels)


@pytest.mark.parametrize("cut", [0, 10, 60, 150, -3])
def test_a_cut_codestream_is_not_believed(monkeypatch, cut):
    native = Native(40, 40)
    whole = j2k.encode(native.header, native.pixels).frames[0]
    encoder_that_answers(monkeypatch, whole[:cut] + jpeg2000.EOC.to_bytes(2))

    with pytest.raises(NotEncoded, match=r"^not reversible:"):
        j2k.encode(native.header, native.pixels)


def test_a_lossy_codestream_is_not_believed_even_where_it_happens_to_be_right(monkeypatch):
    native = Native(40, 40)
    native.array[:] = 0
    lossy = j2k.jpeg2k_encode(native.array[0], level=0, codecformat="J2K", reversible=False, bitspersample=12)
    encoder_that_answers(monkeypatch, lossy)

    with pytest.raises(NotEncoded, match=r"^not reversible: the codestream says .*reversible=False"):
        j2k.encode(native.header, native.pixels)


def test_the_private_block_tells_what_pixel_data_was():
    native = Native(20, 20, samples=3, allocated=8, stored=8, planar=1, syntax=IMPLICIT)

    result, viewed = encoded(native)

    block = viewed.private_block(0x0099, "STORESTOW 1.0")
    assert block[0x01].value == native.array.nbytes
    assert block[0x02].value == hashlib.md5(native.pixels).hexdigest() == result.pixel_md5
    assert block[0x03].value == IMPLICIT
    assert (block[0x04].value, block[0x05].value, block[0x06].value) == ("RGB", 1, "OW")


def test_nothing_else_in_the_data_set_changes(codec):
    more = Dataset()
    more.LossyImageCompression = "00"
    more.SmallestImagePixelValue = 3
    more.WindowCenter, more.WindowWidth = "40", "400"
    more.PixelPaddingValue = 0
    native = Native(syntax=EXPLICIT, more=more)

    _, viewed = encoded(native, codec)

    expected = native.header
    assert [e for e in viewed if e.tag.group not in {0x0099, 0x7FE0}] == list(expected)
    assert viewed.LossyImageCompression == "00"


def test_what_belongs_to_other_fragments_goes():
    header = changed(ExtendedOffsetTable=b"\0" * 8, ExtendedOffsetTableLengths=b"\0" * 8)

    result = attach(header, j2k.encode(header, Native().pixels))

    assert "ExtendedOffsetTable" not in result
    assert "ExtendedOffsetTableLengths" not in result


def test_an_attribute_that_a_codec_removes_goes():
    header = changed(WindowWidth="1")
    made = j2k.encode(header, Native().pixels)

    result = attach(header, replace(made, attributes={"WindowWidth": None, "WindowCenter": None}))

    assert "WindowWidth" not in result
    assert "WindowWidth" in header


def test_the_data_set_that_was_given_stays_as_it_is():
    native = Native(samples=3, allocated=8, stored=8)
    header = native.header
    before = header.to_json()

    attach(header, j2k.encode(header, native.pixels))

    assert header.to_json() == before
    assert header.file_meta.TransferSyntaxUID == EXPLICIT


def test_the_file_says_jpeg_2000_lossless():
    _, viewed = encoded(Native())

    assert viewed.file_meta.TransferSyntaxUID == JPEG2000Lossless


def test_the_check_in_the_documentation_holds(tmp_path, monkeypatch):
    header = Native(20, 20, samples=3, allocated=8, stored=8).header
    pixels = Native(20, 20, samples=3, allocated=8, stored=8).pixels
    (tmp_path / "instance.dcm").write_bytes(written(attach(header, j2k.encode(header, pixels))))
    page = (Path(__file__).parents[3] / "docs/private-block.md").read_text()
    monkeypatch.chdir(tmp_path)

    exec(page.split("```python")[1].split("```")[0], {})
