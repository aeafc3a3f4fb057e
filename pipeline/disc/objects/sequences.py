"""The value of a sequence: check that it is well-formed before it goes into a directory record, and read it.

A fault in one object's sequence would make every record behind it unreadable (PS3.5 7.5).
"""

from struct import error, unpack_from

from pipeline.dicom.part10 import ITEM, ITEM_END, LONG_VRS, MAX_DEPTH, SEQUENCE_END, SHORT_VRS, UNDEFINED

Value = bytes | list["Item"]  # The value of an element, or the items of a sequence.
Item = list[tuple[int, str, Value]]  # The elements of an item: tag, VR and value.


class _Unsound(Exception):
    """Say that the encoding of a sequence is not well-formed."""


def is_sound(value: bytes) -> bool:
    """Tell whether a value in Explicit VR Little Endian consists of complete items of elements, to its very end.

    A value with an attribute of unknown VR, or of undefined length that is no sequence, is not sound, because not
    every reader could read it.
    """
    try:
        return _items(value, 0, len(value), 0, is_delimited=False) == len(value)
    except (_Unsound, error):
        return False


def _items(value: bytes, at: int, end: int, depth: int, *, is_delimited: bool) -> int:
    """Return the offset at which the items end: `end`, or after the delimiter."""
    if depth > MAX_DEPTH:
        raise _Unsound
    while at < end:
        tag, length = _item(value, at)
        at += 8
        if is_delimited and (tag, length) == (SEQUENCE_END, 0):
            return at
        if tag != ITEM:
            raise _Unsound
        if length == UNDEFINED:
            at = _elements(value, at, end, depth, is_delimited=True)
        elif _elements(value, at, at + length, depth, is_delimited=False) == at + length:
            at += length
        else:
            raise _Unsound
    if is_delimited:
        raise _Unsound
    return at


def _elements(value: bytes, at: int, end: int, depth: int, *, is_delimited: bool) -> int:
    """Return the offset at which the elements of an item end: `end`, or after the delimiter."""
    while at < end:
        if is_delimited and _item(value, at) == (ITEM_END, 0):
            return at + 8
        at = _element(value, at, end, depth)
    if is_delimited or at != end:
        raise _Unsound
    return at


def _element(value: bytes, at: int, end: int, depth: int) -> int:
    group, _, vr, short = unpack_from("<HH2sH", value, at)
    length: int = short
    at += 8
    if vr in LONG_VRS:
        (length,) = unpack_from("<L", value, at)
        at += 4
    elif vr not in SHORT_VRS or group == 0xFFFE:
        raise _Unsound
    if vr == b"SQ":
        if length == UNDEFINED:
            return _items(value, at, end, depth + 1, is_delimited=True)
        if at + length > end or _items(value, at, at + length, depth + 1, is_delimited=False) != at + length:
            raise _Unsound
    elif at + length > end:
        raise _Unsound
    return at + length


def _item(value: bytes, at: int) -> tuple[int, int]:
    group, number, length = unpack_from("<HHL", value, at)
    return group << 16 | number, length


def items_of(value: bytes) -> list[Item]:
    """Return the items of a value for which `is_sound` is true."""
    return _read_items(value, 0, len(value))[0]


def _read_items(value: bytes, at: int, end: int) -> tuple[list[Item], int]:
    """Return the items up to `end`, or up to the delimiter before it, and the offset after them."""
    items = []
    while at < end:
        tag, length = _item(value, at)
        at += 8
        if tag == SEQUENCE_END:
            break
        item, at = _read_elements(value, at, end if length == UNDEFINED else at + length)
        items.append(item)
    return items, at


def _read_elements(value: bytes, at: int, end: int) -> tuple[Item, int]:
    item: Item = []
    while at < end:
        group, number, vr, short = unpack_from("<HH2sH", value, at)
        at += 8
        if group << 16 | number == ITEM_END:
            break
        length: int = short
        if vr in LONG_VRS:
            (length,) = unpack_from("<L", value, at)
            at += 4
        content: Value
        if vr == b"SQ":
            content, at = _read_items(value, at, end if length == UNDEFINED else at + length)
        else:
            content, at = value[at : at + length], at + length
        item.append((group << 16 | number, vr.decode("ascii"), content))
    return item, at
