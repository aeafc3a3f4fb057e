"""Correct values for a directory record by their VR (PS3.5 6.2).

A value that cannot be corrected counts as absent.

The DICOMDIR is our own file, and strict readers refuse all of it for one invalid value. The objects stay
unchanged.
"""

import functools
import re
from collections.abc import Callable
from datetime import date

from pipeline.dicom.patient import Patient
from pipeline.disc.objects import records
from pipeline.disc.objects.entry import number

_LONGEST_CODE, _LONGEST_SHORT, _LONGEST_LINE, _LONGEST_PARAGRAPH = (
    16,
    16,
    64,
    1024,
)  # Lengths in characters.
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
_NAMED = frozenset({0x00700080, records.IMAGE_TYPE})  # Content Label and Image Type, whose letters decide nothing.


@functools.lru_cache(maxsize=4096)
def right(tag: int, vr: str, text: str) -> str:
    """Return the text of one value as its VR allows it, "" if its meaning is unknown."""
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
    if tag == records.BIRTH_DATE:  # It is compared with the objects' values, so it must be read alike.
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
