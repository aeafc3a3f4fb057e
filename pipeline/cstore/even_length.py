"""Make the length of a data set even: a PDV carries even lengths only (PS3.8 E.2), and peers abort otherwise.

A value of odd length violates PS3.5 7.1, a deflated data set of odd length PS3.5 A.5; both occur.
"""

from pydicom.uid import DeflatedExplicitVRLittleEndian

from pipeline.dicom.attributes.elements import STRING_VRS
from pipeline.dicom.part10 import LONG_VRS, DataSetLayout, Element, Malformed
from pipeline.dicom.walk import walk
from pipeline.errors import Permanent

_ODD = "its data set has an odd number of bytes, which cannot be carried, and not because of its last value"


def padded(content: bytes, start: int, end: int) -> bytes:
    """Return the data set at `start` with its last value padded by one byte, as its writer should have done.

    Raises Permanent if one byte would not make the length even.
    """
    if _is_deflated(content, start):
        return content[start:end] + b"\0"
    try:
        layout = walk(content)
    except Malformed as error:
        raise Permanent(_ODD) from error
    last = max(layout.elements.values(), key=lambda element: element.end)
    length = last.end - last.value
    if last.undefined_length or length % 2 == 0:
        raise Permanent(_ODD)
    size = 4 if last.vr in LONG_VRS or not layout.explicit else 2
    longer = (length + 1).to_bytes(size, "little" if layout.little_endian else "big")
    return content[start : last.value - size] + longer + content[last.value : last.end] + _padding(last, layout)


def _padding(last: Element, layout: DataSetLayout) -> bytes:
    is_text = layout.explicit and last.vr.decode("ascii", "replace") in STRING_VRS - {"UI"}
    return b" " if is_text else b"\0"  # PS3.5 6.2


def _is_deflated(content: bytes, start: int) -> bool:
    at = content.find(b"\x02\x00\x10\x00UI", 0, start)
    length = int.from_bytes(content[at + 6 : at + 8], "little")
    return at >= 0 and content[at + 8 : at + 8 + length].strip(b" \0").decode("latin-1") == (
        DeflatedExplicitVRLittleEndian
    )
