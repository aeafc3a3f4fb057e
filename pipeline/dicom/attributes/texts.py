"""Check values in a configuration against their VR (PS3.5 6.2); received values are not checked here."""

import re
from datetime import date

from pydicom import config
from pydicom.valuerep import validate_value

from pipeline.dicom.attributes.elements import ONE_TEXT_VRS, STRING_VRS, TEXT_VRS

_LENGTHS = {"LT": 10240, "ST": 1024}  # Lengths in characters; pydicom's validation knows the shorter VRs.
_ALLOWED_CONTROLS = dict.fromkeys(("LT", "ST", "UT"), "\t\n\x0c\r")


def mistake(vr: str, text: str, vm: str) -> str | None:
    """Return what is wrong with `text` as the value of an attribute, None if it is valid.

    `vm` is the Value Multiplicity of the dictionary: `1`, `1-n`, `2-2n`. Backslashes separate values.
    """
    if vr not in STRING_VRS:
        return f"its VR is {vr}, which is no text"
    if any(_is_control(c) and c not in _ALLOWED_CONTROLS.get(vr, "") for c in text):
        return "it holds a control character"
    if any("\ud800" <= c <= "\udfff" for c in text):
        return "it holds half a character (a lone surrogate)"
    if vr not in TEXT_VRS and not text.isascii():
        return f"VR {vr} has ASCII characters only"
    values = [text] if vr in ONE_TEXT_VRS else text.split("\\")
    if text and not _multiplicity_fits(len(values), vm):
        return f"it has {len(values)} values, separated by backslashes, but its multiplicity is {vm}"
    return next((wrong for value in values if value and (wrong := _value_mistake(vr, value))), None)


def _value_mistake(vr: str, value: str) -> str | None:
    limit = _LENGTHS.get(vr)
    if limit and len(value) > limit:
        return f"it has {len(value)} characters, VR {vr} allows {limit}"
    if vr == "PN":
        return _name_mistake(value)
    try:
        validate_value(vr, value, config.RAISE)
        if vr == "DA":
            date.fromisoformat(value)
    except ValueError as error:
        return re.sub(r" Please see.*", "", str(error))
    return None


def _name_mistake(name: str) -> str | None:
    groups = name.split("=")
    if len(groups) > 3:
        return "a person name has at most three component groups"
    if any(len(group) > 64 for group in groups):
        return "a component group of a person name has at most 64 characters"
    if any(group.count("^") > 4 for group in groups):
        return "a person name has at most five components"
    return None


def _multiplicity_fits(count: int, vm: str) -> bool:
    lowest, _, highest = vm.partition("-")
    if not highest:
        return count == int(lowest)
    if highest.endswith("n"):
        step = int(highest[:-1] or 1)
        return count >= int(lowest) and count % step == 0
    return int(lowest) <= count <= int(highest)


def _is_control(character: str) -> bool:
    return character < " " or "\x7f" <= character <= "\x9f"
