"""The elements of a walked data set as pydicom wants them, each made when somebody asks for it."""

from collections.abc import Iterator, KeysView, MutableMapping
from typing import Any, cast

from pydicom.dataelem import DataElement, RawDataElement, empty_value_for_VR
from pydicom.tag import BaseTag

from pipeline.dicom.part10 import LONG_VRS, SHORT_VRS, Element

_VR_NAMES = {vr: vr.decode("ascii") for vr in SHORT_VRS | LONG_VRS}
_SHORT_HEADER = 8  # Bytes of a header without the two reserved bytes, which shall be zero, PS3.5 7.1.2.
_new = tuple.__new__  # The same result as calling the class, in half the time.


class UnreadElements(MutableMapping[BaseTag, RawDataElement | DataElement]):
    """The elements of a data set as the walk found them; one becomes an element of pydicom when it is asked for.

    Nobody asks for most elements: rules look at a few, and the others are copied.
    """

    def __init__(self, values: bytes, start: int, found: dict[int, Element], encoding: tuple[bool, bool]) -> None:
        """`values` are the bytes of the file from `start` on, `encoding` is (implicit VR, little endian).

        `found` is changed: its elements are replaced by those of pydicom.
        """
        self._values, self._start = values, start
        self._implicit, self._little = encoding
        self._elements = cast("dict[int, Element | RawDataElement | DataElement]", found)

    def __getitem__(self, tag: int) -> RawDataElement | DataElement:
        element = self._elements[tag]
        if isinstance(element, Element):
            element = self._elements[tag] = self._raw(element)
        return element

    def get(self, tag: object, otherwise: Any = None) -> Any:
        """Return the element, `otherwise` if it is absent: the inherited way raises and catches a KeyError."""
        return self[tag] if tag in self._elements else otherwise

    def _raw(self, element: Element) -> RawDataElement:
        """Return the raw element that pydicom would read, of an element whose length is known."""
        number, vr, _, value, stop, _ = element
        name, at = None if self._implicit else _VR_NAMES[vr], value - self._start
        content = self._values[at : stop - self._start] or empty_value_for_VR(name, raw=True)
        encoding = (self._implicit, self._little)
        return _new(RawDataElement, (BaseTag(number), name, stop - value, content, at, *encoding, True, False))

    def __setitem__(self, tag: int, element: RawDataElement | DataElement) -> None:
        self._elements[tag] = element

    def __delitem__(self, tag: int) -> None:
        del self._elements[tag]

    def copied(self) -> "UnreadElements":
        """Return the same elements, to which others can be added without a change of these."""
        copy = UnreadElements(self._values, self._start, {}, self.encoding)
        copy._elements = dict(self._elements)
        return copy

    @property
    def encoding(self) -> tuple[bool, bool]:
        """Return (implicit VR, little endian) of the elements that nobody has asked for."""
        return self._implicit, self._little

    def asked_for(self) -> list[RawDataElement | DataElement]:
        """Return the elements that somebody has asked for, or put there."""
        return [element for element in self._elements.values() if not isinstance(element, Element)]

    def in_order(self) -> Iterator[tuple[int, RawDataElement | DataElement | bytes]]:
        """Yield the elements in the order of their tags; those nobody has asked for as bytes with headers."""
        for tag in sorted(map(int, self._elements)):
            element = self._elements[tag]
            if not isinstance(element, Element):
                yield tag, element
                continue
            received = self._values[element.start - self._start : element.end - self._start]
            is_reserved_empty = element.value - element.start == _SHORT_HEADER or received[6:8] == b"\0\0"
            yield tag, received if is_reserved_empty else self._raw(element)

    def numbers(self) -> KeysView[int]:
        """Return the tags, which are plain numbers as long as nobody has put an element there."""
        return self._elements.keys()

    def __contains__(self, tag: object) -> bool:
        return tag in self._elements

    def __iter__(self) -> Iterator[BaseTag]:
        return (tag if isinstance(tag, BaseTag) else BaseTag(tag) for tag in self._elements)

    def __len__(self) -> int:
        return len(self._elements)
