"""Tell, without pydicom, whether an uncompressed image holds as many pixels as its attributes describe."""

from pipeline.dicom.part10 import NATIVE, PIXEL_DATA, Bytes, DataSetLayout, text_of

_SAMPLES, _PHOTOMETRIC, _FRAMES = 0x00280002, 0x00280004, 0x00280008
_ROWS, _COLUMNS, _BITS = 0x00280010, 0x00280011, 0x00280100
_SAMPLES_OF_422 = 2  # Samples a pixel; in other colour spaces there are three (PS3.3 C.7.6.3.1.2).


def lacks_pixels(data: Bytes, layout: DataSetLayout) -> bool:
    """Tell whether native Pixel Data is missing, or shorter or longer than Rows, Columns and the others say.

    An object without Rows is no image; compressed and floating point pixels are not judged.
    """

    def number(tag: int, otherwise: int) -> int:
        element = layout.elements.get(tag)
        value = bytes(data[element.value : element.end]) if element else b""
        return int.from_bytes(value, "little" if layout.little_endian else "big") if value else otherwise

    pixels = layout.pixels
    if layout.transfer_syntax_uid not in NATIVE or not (number(_ROWS, 0) and number(_COLUMNS, 0)):
        return False
    if pixels is None or pixels.tag != PIXEL_DATA or pixels.undefined_length:
        return pixels is None
    is_422 = text_of(data, layout.elements.get(_PHOTOMETRIC)) == "YBR_FULL_422"
    samples = _SAMPLES_OF_422 if is_422 else number(_SAMPLES, 1)
    frames = text_of(data, layout.elements.get(_FRAMES))
    bits = number(_ROWS, 0) * number(_COLUMNS, 0) * samples * number(_BITS, 8)
    described = (bits * (int(frames) if frames.isdecimal() else 1) + 7) // 8
    return pixels.end - pixels.value not in {described, described + described % 2}
