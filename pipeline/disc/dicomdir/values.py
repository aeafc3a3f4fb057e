"""The values of a directory record's keys, as bytes: the object's own if valid, otherwise corrected.

A valid value is copied byte for byte, in the object's character set. If any value of a record must be written anew
and that set cannot hold it, or the set is unknown, the whole record is in UTF-8.
What is valid depends on the VR (PS3.5 6.2).
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from struct import pack

from pipeline.dicom.attributes.character_sets import UTF_8, CharacterSet
from pipeline.dicom.attributes.elements import ONE_TEXT_VRS, SPECIFIC_CHARACTER_SET, STRING_VRS, TEXT_VRS
from pipeline.dicom.part10 import LONG_VRS
from pipeline.dicom.patient import Patient
from pipeline.disc.objects import records
from pipeline.disc.objects.entry import number
from pipeline.disc.objects.records import RecordKey
from pipeline.disc.objects.sequences import Item, Value, items_of

_NUMBERS = {"US": 2, "UL": 4}  # Length in bytes.
_ITEM = b"\xfe\xff\x00\xe0"
_RELATIONSHIP_TYPE = 0x0040A010
_CODE_VALUES = (0x00080100, 0x00080119, 0x00080120)  # Code Value, Long Code Value, URN Code Value
_CODE_MEANING = 0x00080104
_LONGEST_CODE, _LONGEST_SHORT, _LONGEST_LINE, _LONGEST_PARAGRAPH = 16, 16, 64, 1024  # Characters.
_LARGEST_NUMBER = (1 << 31) - 1
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CODE = re.compile(r"[A-Z0-9 _]{1,16}")
_DATES = (
    re.compile(r"(\d{4})(\d\d)(\d\d)(?:[T ].*|\d{6}.*)?"),  # Also matches a date and time.
    re.compile(r"(\d{4})[-./](\d\d?)[-./](\d\d?)(?:[T ].*)?"),
)
_TIME = re.compile(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(?:[.,](\d+))?)?)?[Zz]?")
_MOMENT = re.compile(r"(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:\.\d{1,6})?(?:[+-]\d{4})?")
_MOMENT_BOUNDS = ((1, 9999), (1, 12), (1, 31), (0, 23), (0, 59), (0, 59))
_SEXES = {"MALE": "M", "FEMALE": "F", "OTHER": "O"}
_NAMED = frozenset({0x00700080, records.IMAGE_TYPE})  # Content Label and Image Type: unfit characters become `_`.


def right_values(values: Mapping[int, bytes], keys: Sequence[RecordKey]) -> dict[int, bytes]:
    """Return the value of each key that has one, and Specific Character Set if the record needs it."""
    declared = CharacterSet.of(values.get(SPECIFIC_CHARACTER_SET, b"").decode("latin-1"))
    try:
        return _right_values(values, keys, declared, declared.corrected())
    except UnicodeEncodeError:
        return _right_values(values, keys, declared, CharacterSet((UTF_8,)))


def _right_values(
    values: Mapping[int, bytes], keys: Sequence[RecordKey], declared: CharacterSet, written: CharacterSet
) -> dict[int, bytes]:
    """Return the values in the character set `written`; raises UnicodeEncodeError if it cannot hold a text."""
    found = {}
    for key in keys:
        raw = values.get(key.tag, b"")
        if key.vr == "SQ":
            value = _of_sequence(key.tag, raw, declared, written)
        else:
            value = _right(key, raw, declared, written, is_several=key.tag == records.IMAGE_TYPE)
        if value:
            found[key.tag] = value
    found.pop(SPECIFIC_CHARACTER_SET, None)
    if written.terms:
        found[SPECIFIC_CHARACTER_SET] = str(written).encode("ascii")
    if found.get(records.VERIFICATION_FLAG) != b"VERIFIED":
        # Type 1C: present if, and only if, somebody has verified the document.
        found.pop(records.VERIFIED_AT, None)
    return found


def _right(
    key: RecordKey, raw: bytes, declared: CharacterSet, written: CharacterSet, *, is_several: bool = False
) -> bytes:
    """Return the bytes of one value, or of several: unchanged if valid, corrected or empty otherwise."""
    if size := _NUMBERS.get(key.vr):
        return raw if len(raw) == size else b""
    if key.vr not in STRING_VRS or not raw or key.vr == "UI":
        return raw
    is_text = key.vr in TEXT_VRS
    text = declared.decode_anyhow(raw, key.vr) if is_text else raw.decode("latin-1")
    parts = text.split("\\") if is_several and key.vr not in ONE_TEXT_VRS else [text]
    made_right = "\\".join(rights) if any(rights := [right(key.tag, key.vr, part) for part in parts]) else ""
    if key.tag == records.IMAGE_TYPE and "\\" not in made_right:
        return b""  # The attribute needs two values at least (PS3.3 C.7.6.1.1.2).
    if not is_text:
        return made_right.encode("ascii")
    if made_right == text and written == declared and _is_of(declared, raw, key.vr):
        return raw
    return written.encode(made_right, key.vr)


def _is_of(declared: CharacterSet, raw: bytes, vr: str) -> bool:
    try:
        declared.decode(raw, vr)
    except UnicodeDecodeError:
        return False
    return True


def _of_sequence(tag: int, raw: bytes, declared: CharacterSet, written: CharacterSet) -> bytes:
    """Return the items of a sequence.

    Of a document's content, return only the modifiers of its title (PS3.3 F.5.25); of a title, the first code.
    """
    if not raw:
        return b""
    items = [_right_item(item, declared, written) for item in items_of(raw)]
    if tag == records.CONTENT_SEQUENCE:
        items = [item for item in items if _text_of(item, _RELATIONSHIP_TYPE) == b"HAS CONCEPT MOD"]
    if tag == records.CONCEPT_NAME:
        items = [item for item in items if _is_code(item)][:1]
    return b"".join(map(_item, items))


def _right_item(item: Item, inherited: CharacterSet, written: CharacterSet) -> Item:
    own = _text_of(item, SPECIFIC_CHARACTER_SET)
    declared = CharacterSet.of(own.decode("latin-1")) if own else inherited
    found: Item = []
    for tag, vr, value in item:
        if tag == SPECIFIC_CHARACTER_SET:
            continue  # The whole record is in one character set.
        if isinstance(value, list):
            found.append((tag, vr, [_right_item(one, declared, written) for one in value]))
        else:
            plain = value.rstrip(b" \0") if vr in STRING_VRS else value
            if changed := _right(RecordKey(tag, vr), plain, declared, written, is_several=True):
                found.append((tag, vr, changed))
    return found


def _text_of(item: Item, tag: int) -> bytes:
    return next((value.strip(b" \0") for at, _, value in item if at == tag and isinstance(value, bytes)), b"")


def _is_code(item: Item) -> bool:
    return any(_text_of(item, tag) for tag in _CODE_VALUES) and bool(_text_of(item, _CODE_MEANING))


def code_item(value: str, scheme: str, meaning: str) -> bytes:
    """Return an item of a code sequence (PS3.3 8.8)."""
    texts = ((0x00080100, "SH", value), (0x00080102, "SH", scheme), (_CODE_MEANING, "LO", meaning))
    return _item([(tag, vr, text.encode("ascii")) for tag, vr, text in texts])


def _item(elements: Item) -> bytes:
    body = b"".join(element(tag, vr, value) for tag, vr, value in elements)
    return _ITEM + pack("<L", len(body)) + body


def element(tag: int, vr: str, value: Value) -> bytes:
    """Return one element in Explicit VR Little Endian, padded to even length (PS3.5 7.1.2)."""
    if isinstance(value, list):
        value = b"".join(map(_item, value))
    if len(value) % 2:
        value += b"\0" if vr in {"UI", "OB", "UN"} else b" "
    if vr.encode() in LONG_VRS:
        return pack("<HH2s2xL", tag >> 16, tag & 0xFFFF, vr.encode(), len(value)) + value
    return pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(value)) + value


@functools.lru_cache(maxsize=4096)
def right(tag: int, vr: str, text: str) -> str:
    """Return the text of one value in a form that its VR allows, "" if the text cannot be understood."""
    text = text.rstrip(" \0")
    return _BY_VR.get(vr, _as_it_is)(tag, text) if text else ""


def _as_it_is(_tag: int, text: str) -> str:
    return text


def _code(tag: int, text: str) -> str:
    code = text.upper().split("\\")[0].strip()
    if tag in _NAMED:
        code = re.sub(r"[^A-Z0-9 _]", "_", code)[:_LONGEST_CODE].strip()
    if tag == records.SEX:
        code = _SEXES.get(code, code)
    return code if _CODE.fullmatch(code) else ""


def _date(tag: int, text: str) -> str:
    text = text.split("\\", maxsplit=1)[0].strip()
    if tag == records.BIRTH_DATE:  # A check compares it with the objects' values, which are read in this way.
        text = Patient.of("", "", text, "").birth_date
        if not re.fullmatch(r"\d{8}", text):
            return ""
    found = next((match for form in _DATES if (match := form.fullmatch(text))), None)
    if found is None:
        return ""
    try:
        day = date(*map(int, found.groups()))
    except ValueError:
        return ""
    return f"{day.year:04}{day.month:02}{day.day:02}"


def _time(_tag: int, text: str) -> str:
    found = _TIME.fullmatch(text.split("\\", maxsplit=1)[0].strip())
    if found is None:
        return ""
    hour, minute, second, fraction = found.groups()
    second = "59" if second == "60" else second  # A leap second, which few readers accept.
    if int(hour) > 23 or int(minute or 0) > 59 or int(second or 0) > 59:
        return ""
    return f"{hour}{minute or ''}{second or ''}" + (f".{fraction[:6]}" if fraction else "")


def _moment(tag: int, text: str) -> str:
    text = text.split("\\", maxsplit=1)[0].strip()
    if iso := re.fullmatch(r"(\d{4}-\d\d-\d\d)[T ](.+)", text):
        day, time = _date(tag, iso[1]), _time(tag, iso[2])
        return day + time if day and time else ""
    found = _MOMENT.fullmatch(text)
    if found is None:
        return ""
    parts = zip(found.groups(), _MOMENT_BOUNDS, strict=True)
    return text if all(part is None or low <= int(part) <= high for part, (low, high) in parts) else ""


def _integer(_tag: int, text: str) -> str:
    found = number(text.encode())
    return str(found) if found is not None and abs(found) <= _LARGEST_NUMBER else ""


def _line(longest: int) -> Callable[[int, str], str]:
    return lambda _tag, text: _CONTROL.sub(" ", text).replace("\\", "/")[:longest].rstrip()


def _paragraph(_tag: int, text: str) -> str:
    return re.sub(r"[\x00-\x09\x0b\x0e-\x1f\x7f-\x9f]", " ", text)[:_LONGEST_PARAGRAPH].rstrip()


def _name(_tag: int, text: str) -> str:
    """Return a name of at most three groups, of five components and 64 characters each (PS3.5 6.2)."""
    groups = [_group(group) for group in _CONTROL.sub(" ", text).replace("\\", "/").split("=")[:3]]
    return "=".join(groups) if any(group.strip("^ ") for group in groups) else ""


def _group(text: str) -> str:
    parts = text.split("^")
    return "^".join([*parts[:4], *([" ".join(parts[4:])] if parts[4:] else [])])[:_LONGEST_LINE].rstrip()


_BY_VR: dict[str, Callable[[int, str], str]] = {
    "CS": _code,
    "DA": _date,
    "DT": _moment,
    "IS": _integer,
    "LO": _line(_LONGEST_LINE),
    "PN": _name,
    "SH": _line(_LONGEST_SHORT),
    "ST": _paragraph,
    "TM": _time,
}
