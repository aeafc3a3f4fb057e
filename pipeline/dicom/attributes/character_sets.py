"""Specific Character Set (0008,0005): what a data set declares, read and written strictly.

pydicom replaces characters it cannot decode or encode. Here such a character is an error, because the caller must
then choose another way. Text that cannot be read is never re-encoded.

Nothing here imports pydicom, so that processes that only ask whose a file is start without it.
"""

import re
from dataclasses import dataclass

from pipeline.dicom.attributes.code_extensions import ASCII, ESC, ROMAJI, SETS, CodeElement, Extensions

SPECIFIC_CHARACTER_SET = 0x00080005
# These VRs follow Specific Character Set, PS3.5 6.1.2.3.
TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
STRING_VRS = TEXT_VRS | {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"}
ONE_TEXT_VRS = frozenset({"LT", "ST", "UR", "UT"})  # In these VRs a backslash is an ordinary character, PS3.5 6.2.
UTF_8 = "ISO_IR 192"
STAND_ALONE = {UTF_8: "utf-8", "GB18030": "gb18030", "GBK": "gbk"}  # PS3.5 6.1.2.5.4: without code extensions
_SPELLING = re.compile(r"(?:ISO)?[ _-]*(2022)?[ _-]*IR[ _-]*([0-9]+)")  # ISO-IR 100, ISO_2022_IR_6, ISO_IR192
_OTHER_NAMES = {
    **dict.fromkeys(("UTF8", "ISO192", "192"), UTF_8),  # Decoding proves UTF-8, so these names may be believed.
    **dict.fromkeys(("GB2312", "CP936"), "GBK"),  # GBK contains both sets.
    "GB18030": "GB18030",
    "GBK": "GBK",
    "USASCII": "ISO_IR 6",
    "ASCII": "ISO_IR 6",
    **{f"LATIN{part}": f"ISO_IR {number}" for part, number in ((1, 100), (2, 101), (3, 109), (4, 110), (5, 148))},
    **{
        f"ISO8859{part}": f"ISO_IR {number}"  # The ISO 8859 part number names the same set, PS3.3 table C.12-2.
        for part, number in (
            *((1, 100), (2, 101), (3, 109), (4, 110), (5, 144)),
            *((6, 127), (7, 126), (8, 138), (9, 148), (15, 203)),
        )
    },
}  # Keys are names without separators.


@dataclass(frozen=True, slots=True)
class CharacterSet:
    """The values of one Specific Character Set as declared; an empty attribute means ISO_IR 6."""

    terms: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str) -> "CharacterSet":
        """Return the set that the attribute's text declares."""
        terms = tuple(term.strip(" \0") for term in text.split("\\"))
        return cls(terms if any(terms) else ())

    @property
    def is_utf_8(self) -> bool:
        """Tell whether the text is UTF-8, the one character set that decoding can prove."""
        return self._stand_alone(forgiving=True) == "utf-8"

    @property
    def is_defined(self) -> bool:
        """Tell whether every value is a defined term (PS3.3 C.12.1.1.2)."""
        return all(term in STAND_ALONE or (_number(term) is not None) for term in self.terms if term)

    def corrected(self) -> "CharacterSet":
        """Return the character set with its defined terms; none if one of the values is not known."""
        found = CharacterSet(tuple(map(_corrected, self.terms)))
        return found if found.is_defined else CharacterSet()

    def __str__(self) -> str:
        return "\\".join(self.terms) or "ISO_IR 6 (none is declared)"

    def decode(self, data: bytes, vr: str) -> str:
        """Return the text of a value; raises UnicodeDecodeError if a byte is not of this character set."""
        if data.isascii() and ESC not in data:
            return data.decode("ascii")
        if codec := self._stand_alone(forgiving=True):
            return data.decode(codec)
        return self._extensions(forgiving=True).decode(data, _delimiters(vr).encode("ascii"))

    def decode_anyhow(self, data: bytes, vr: str) -> str:
        """Return the text of a value; other bytes are read as UTF-8 if they are valid UTF-8, else as Latin-1."""
        try:
            return self.decode(data, vr)
        except UnicodeDecodeError:
            return data.decode("utf-8" if reads_as_utf_8(data) else "latin-1")

    def encode(self, text: str, vr: str) -> bytes:
        """Return the bytes of `text`; raises UnicodeEncodeError if this set lacks one of its characters."""
        if text.isascii():
            # All declared sets begin with ASCII, so ASCII text needs no correct declaration.
            return text.encode("ascii")
        if codec := self._stand_alone():
            data = text.encode(codec)
        else:
            data = self._extensions().encode(text, _delimiters(vr))
        if vr not in ONE_TEXT_VRS and data.count(b"\\") != text.count("\\"):
            # The second byte of some Chinese and Japanese characters is a backslash, at which readers split.
            raise UnicodeEncodeError("iso2022", text, 0, len(text), "a backslash within a character")
        return data

    def _stand_alone(self, *, forgiving: bool = False) -> str | None:
        terms = [_corrected(term) for term in self.terms] if forgiving else list(self.terms)
        if forgiving and UTF_8 in terms and not any(term for term in terms if term != UTF_8):
            return STAND_ALONE[UTF_8]  # UTF-8 may stand as a later value, too.
        return STAND_ALONE.get(terms[0]) if terms else None

    def _extensions(self, *, forgiving: bool = False) -> Extensions:
        """Return the code extensions these values declare; if `forgiving`, an unknown value declares ASCII."""
        terms = [_corrected(term) for term in self.terms] if forgiving else list(self.terms)
        if not all(_number(term) is not None for term in terms if term):
            return Extensions(ASCII, None, ())
        sets = [SETS.get(_number(term) or "") for term in terms]
        first = sets[0] if sets else None
        declared = tuple(s for s in sets if s is not None)
        g0 = ROMAJI if first is SETS["13"] else ASCII
        return Extensions(g0, _g1(first), declared if self._extends(terms) else ())

    @staticmethod
    def _extends(terms: list[str]) -> bool:
        return len(terms) > 1 or any(term.startswith("ISO 2022") for term in terms)


def reads_as_utf_8(data: bytes) -> bool:
    """Tell whether bytes beyond ASCII make valid UTF-8, which text of a single-byte set hardly ever does."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return not data.isascii()


def _number(term: str) -> str | None:
    """Return the ISO registration number in a defined term, None if it has none."""
    for prefix in ("ISO_IR ", "ISO 2022 IR "):
        number = term.removeprefix(prefix)
        if number != term and (number in SETS or number == "6"):
            return number
    return None


def _corrected(term: str) -> str:
    """Return the defined term behind a spelling that can mean nothing else, any other term as it is.

    `ISO-IR 100`, `ISO_2022_IR_6` and `ISO IR 192` have other separators, `utf-8` and `latin1` are other names.
    """
    name = term.upper()
    if found := _SPELLING.fullmatch(name):
        extends, number = found.groups()
        if f"ISO_IR {number}" == UTF_8:
            return UTF_8  # UTF-8 has no code extensions.
        return f"ISO 2022 IR {number}" if extends else f"ISO_IR {number}"
    return _OTHER_NAMES.get(re.sub("[ _-]", "", name), term)


def _g1(first: CodeElement | None) -> CodeElement | None:
    """Return the code element that value 1 puts into G1; multi-byte sets need an escape sequence first."""
    return first if first is not None and first.slot == 1 and first.width == 1 else None


def _delimiters(vr: str) -> str:
    if vr == "PN":
        return "\\^="
    return "" if vr in ONE_TEXT_VRS else "\\"
