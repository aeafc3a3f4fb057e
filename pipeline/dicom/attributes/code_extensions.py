"""Read and write text that switches character sets by escape sequences (ISO 2022, PS3.5 6.1.2.5).

Japanese and Korean names switch so. Two code elements are active at any time: G0 for bytes below 0x80, G1 for
bytes above. At a delimiter both return to the sets of value 1 of Specific Character Set (0008,0005).
"""

from collections.abc import Iterator
from dataclasses import dataclass

ESC = 0x1B
C1_END = 0x9F  # 0x80 to 0x9F are control characters, which DICOM text may not hold (PS3.5 6.1.2.1)
CONTROLS = "\t\n\f\r"


@dataclass(frozen=True, slots=True)
class CodeElement:
    """One designated set: its escape sequence, where it is active, and how Python reads its bytes.

    `width` is the number of bytes of one character; `prefix` are bytes that Python's codec wants before them.
    """

    escape: bytes
    slot: int  # 0 for G0, 1 for G1
    codec: str
    width: int = 1
    prefix: bytes = b""

    def encoded(self, character: str) -> bytes | None:
        """Return the bytes of `character` in this set, None if the set lacks it."""
        try:
            data = character.encode(self.codec)
        except UnicodeEncodeError:
            return None
        if not data.startswith(self.prefix):
            return None
        data = data[len(self.prefix) :]
        if len(data) != self.width or (self.codec != "ascii" and min(data) <= C1_END):
            return None
        return bytes(b & 0x7F for b in data) if self.slot == 0 else data

    def decoded(self, data: bytes) -> str:
        """Return the text of one character's bytes; raises UnicodeDecodeError."""
        if self.codec == "ascii":
            return data.decode("ascii")
        high = bytes(b | 0x80 for b in data)
        if min(high) <= C1_END or (self.slot == 1) != (high == data):
            raise UnicodeDecodeError(self.codec, data, 0, len(data), "not a graphic character of this set")
        return (self.prefix + high).decode(self.codec)


ASCII = CodeElement(b"\x1b(B", 0, "ascii")
ROMAJI = CodeElement(b"\x1b(J", 0, "ascii")  # ISO-IR 14: ASCII except for yen and overline.
# The keys are the registration numbers in the defined terms (PS3.3 tables C.12-3 and C.12-4).
SETS = {
    "100": CodeElement(b"\x1b-A", 1, "iso8859_1"),
    "101": CodeElement(b"\x1b-B", 1, "iso8859_2"),
    "109": CodeElement(b"\x1b-C", 1, "iso8859_3"),
    "110": CodeElement(b"\x1b-D", 1, "iso8859_4"),
    "144": CodeElement(b"\x1b-L", 1, "iso8859_5"),
    "127": CodeElement(b"\x1b-G", 1, "iso8859_6"),
    "126": CodeElement(b"\x1b-F", 1, "iso8859_7"),
    "138": CodeElement(b"\x1b-H", 1, "iso8859_8"),
    "148": CodeElement(b"\x1b-M", 1, "iso8859_9"),
    "203": CodeElement(b"\x1b-b", 1, "iso8859_15"),
    "166": CodeElement(b"\x1b-T", 1, "iso8859_11"),
    "13": CodeElement(b"\x1b)I", 1, "shift_jis"),
    "87": CodeElement(b"\x1b$B", 0, "euc_jp", 2),
    "159": CodeElement(b"\x1b$(D", 0, "euc_jp", 2, b"\x8f"),
    "149": CodeElement(b"\x1b$)C", 1, "euc_kr", 2),
    "58": CodeElement(b"\x1b$)A", 1, "gb2312", 2),
}
_BY_ESCAPE = {element.escape: element for element in (ASCII, ROMAJI, *SETS.values())}


@dataclass(frozen=True, slots=True)
class Extensions:
    """The sets a multi-valued Specific Character Set declares; `g0` and `g1` are those of value 1."""

    g0: CodeElement
    g1: CodeElement | None
    declared: tuple[CodeElement, ...]

    def decode(self, data: bytes, delimiters: bytes) -> str:
        """Return the text of `data`; raises UnicodeDecodeError if a byte belongs to no declared set."""
        return "".join(_text(element, run, data) for element, run in self._runs(data, delimiters))

    def _runs(self, data: bytes, delimiters: bytes) -> Iterator[tuple[CodeElement, bytes]]:
        at, g0, g1 = 0, self.g0, self.g1
        while at < len(data):
            byte = data[at]
            if byte == ESC:
                element = next((e for s, e in _BY_ESCAPE.items() if data.startswith(s, at)), None)
                if element is None or element not in (ASCII, ROMAJI, *self.declared):
                    raise UnicodeDecodeError("iso2022", data, at, at + 1, "undeclared escape sequence")
                at += len(element.escape)
                g0, g1 = (element, g1) if element.slot == 0 else (g0, element)
                continue
            if byte < 0x20 or (byte in delimiters and g0.width == 1):
                g0, g1 = self.g0, self.g1
                yield ASCII, data[at : at + 1]
                at += 1
                continue
            active = g0 if byte < 0x80 else g1
            if active is None:
                raise UnicodeDecodeError("iso2022", data, at, at + 1, "no set is designated for this byte")
            yield active, data[at : at + active.width]
            at += active.width

    def encode(self, text: str, delimiters: str) -> bytes:
        """Return the bytes of `text`; raises UnicodeEncodeError if no declared set has a character."""
        out, g0, g1 = bytearray(), self.g0, self.g1
        for at, character in enumerate(text):
            if character in delimiters or character in CONTROLS:
                out += self._back(g0, g1)
                g0, g1 = self.g0, self.g1
                out += character.encode("ascii")
                continue
            element, data = self._placed(character, at, text, (g0, g1))
            if element not in (g0, g1):
                out += element.escape
                g0, g1 = (element, g1) if element.slot == 0 else (g0, element)
            out += data
        return bytes(out + self._back(g0, g1))

    def _placed(
        self, character: str, at: int, text: str, active: tuple[CodeElement | None, ...]
    ) -> tuple[CodeElement, bytes]:
        for element in (*active, self.g0, *self.declared):
            if element is not None and (data := element.encoded(character)) is not None:
                return element, data
        raise UnicodeEncodeError("iso2022", text, at, at + 1, "no declared character set has it")

    def _back(self, g0: CodeElement, g1: CodeElement | None) -> bytes:
        """Return the escapes that make the sets of value 1 active again (PS3.5 6.1.2.5.3)."""
        back = b"" if g0 is self.g0 else self.g0.escape
        return back + (b"" if g1 is self.g1 or self.g1 is None else self.g1.escape)


def _text(element: CodeElement, run: bytes, whole: bytes) -> str:
    try:
        return element.decoded(run)
    except UnicodeDecodeError as error:
        at = whole.find(run)
        raise UnicodeDecodeError("iso2022", whole, at, at + len(run), error.reason) from error
