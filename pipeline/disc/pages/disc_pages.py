"""README.TXT, INDEX.HTM and SHA256.TXT: for people who have never heard of DICOM, in the languages of the site.

`patient_of`, `study_of` and `series_of` describe what is on a disc, for its pages and for its result.

The template engine escapes everything a peer sent; characters that XML forbids are removed.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from pipeline import __version__
from pipeline.dicom.part10 import EXPLICIT_VR_BIG_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from pipeline.dicom.same_patient import UNDISPUTED, Attribute, Judgement
from pipeline.disc.model import (
    DiscOptions,
    DiscPatient,
    InstanceOnDisc,
    LeftOut,
    Medium,
    SeriesOnDisc,
    SeriesUIDs,
    StudyOnDisc,
)
from pipeline.disc.objects import records
from pipeline.disc.objects.arrangement import PatientNode, SeriesNode, StudyNode, placed
from pipeline.disc.objects.entry import Entry
from pipeline.languages import Translation, languages
from pipeline.model import LeftOutCode

README, INDEX, SUMS = "README.TXT", "INDEX.HTM", "SHA256.TXT"
# Characters that XML 1.0, 2.2 forbids, and those in names that reverse the direction of all text after them.
_ILLEGAL = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u202a-\u202e\u2066-\u2069]")
_KIND_OF_ERROR = re.compile(r" \(\w+Error\)$")
_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")  # A name becomes one line.
_OF_REASONS = "en"  # The language in which the exact reasons are written.
_UNCOMPRESSED = {IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN}
_PROFILES = {"cd": "STD-GEN-CD", "dvd": "STD-GEN-DVD-J2K", "usb": "STD-GEN-USB-J2K", "any": ""}


def patient_of(entry: Entry) -> DiscPatient:
    """Return the patient that one object names."""
    return DiscPatient(
        name=entry.text(records.PATIENT_NAME),
        patient_id=entry.text(records.PATIENT_ID),
        issuer=entry.text(records.ISSUER),
        birth_date=entry.text(records.BIRTH_DATE),
        sex=entry.text(records.SEX),
    )


def study_of(node: StudyNode) -> StudyOnDisc:
    """Return a study of the disc."""
    entries = [placed_object.entry for series in node.series for placed_object in series.objects]
    return StudyOnDisc(
        study_instance_uid=node.first.key.study_instance_uid,
        accession_number=_told(entries, records.ACCESSION),
        date=_told(entries, records.STUDY_DATE),
        description=_told(entries, records.STUDY_DESCRIPTION),
        institution=_told(entries, records.INSTITUTION),
        series=tuple(series_of(series) for series in node.series),
    )


def series_of(node: SeriesNode) -> SeriesOnDisc:
    """Return a series of the disc."""
    first = node.objects[0].entry
    return SeriesOnDisc(
        series_instance_uid=first.key.series_instance_uid,
        number=first.text(records.SERIES_NUMBER),
        modality=first.text(records.MODALITY),
        description=first.text(records.SERIES_DESCRIPTION),
        instances=len(node.objects),
    )


def instances_of(patients: Sequence[PatientNode]) -> tuple[InstanceOnDisc, ...]:
    """Return every object of the disc, in order."""
    return tuple(
        InstanceOnDisc(
            key=placed_object.entry.key,
            path=placed_object.path,
            sha256=placed_object.entry.sha256,
            source_sha256=placed_object.entry.source_sha256,
            transfer_syntax_uid=placed_object.entry.transfer_syntax_uid,
            decoded_from=placed_object.entry.decoded_from,
        )
        for placed_object in placed(patients)
    )


def _told(entries: Sequence[Entry], tag: int) -> str:
    """Return the first value of an attribute that is not empty: reports and derived objects often have none."""
    return next((text for entry in entries if (text := entry.text(tag))), "")


def readable_name(name: str) -> str:
    """Return a person name as people write it: `DOE, JOHN` for `DOE^JOHN`, further groups in brackets."""
    groups = [[part.strip() for part in group.split("^") if part.strip()] for group in name.split("=")]
    first, *rest = [group for group in groups if group] or [[]]
    plain = ", ".join(filter(None, (" ".join(first[:1]), " ".join(first[1:]))))
    return f"{plain} ({', '.join(' '.join(group) for group in rest)})" if rest else plain


def readable_date(date: str) -> str:
    """Return a DICOM date with dashes, other text unchanged."""
    found = re.fullmatch(r"(\d{4})\.?(\d{2})\.?(\d{2})", date)
    return "-".join(found.groups()) if found else date


@dataclass(frozen=True, slots=True)
class PageData:
    """All data of the pages. `whose` maps a Study Instance UID to its patient, `pictures` are paths on the disc.

    `decoded_from` has the former transfer syntax of each object that had to be decoded.
    """

    patients: tuple[DiscPatient, ...]
    studies: tuple[StudyOnDisc, ...]
    left_out: tuple[LeftOut, ...]
    decoded_from: tuple[str, ...]
    whose: Mapping[str, DiscPatient]
    pictures: Mapping[SeriesUIDs, str]
    volume_id: str
    medium: Medium
    options: DiscOptions
    judgement: Judgement = UNDISPUTED
    has_film: bool = False  # The pages then name no application profile, because none allows video.
    logo: str = ""  # Its path on the disc.


def pages(data: PageData) -> dict[str, bytes]:
    """Return the bytes of README.TXT and INDEX.HTM by name, both in UTF-8.

    For Windows, README.TXT begins with a byte order mark, and its lines end with CR LF.
    """
    words = _words(data)
    readme = _environment.get_template(f"{README}.jinja").render(words)
    index = _environment.get_template(f"{INDEX}.jinja").render(words)
    return {
        README: _ILLEGAL.sub("", readme).replace("\n", "\r\n").encode("utf-8-sig"),
        INDEX: _ILLEGAL.sub("", index).encode(),
    }


def load_templates() -> None:
    """Compile the templates, and read every language, before a disc needs them."""
    for name in (README, INDEX):
        _environment.get_template(f"{name}.jinja")
    languages()


def checksums(hashes: Iterable[tuple[str, str]]) -> bytes:
    """Return the list of (path, SHA-256) in the format of `sha256sum -c`."""
    return "".join(f"{sha256}  {path}\n" for path, sha256 in hashes).encode("ascii")


def _words(data: PageData) -> dict[str, Any]:
    options = data.options
    is_disc = data.medium.name in {"cd", "dvd"}
    return {
        "languages": [languages()[code] for code in options.languages],
        "carrier": lambda words: words.say("disc.carrier_disc" if is_disc else "disc.carrier_folder"),
        "notices": list(_notices(data)),
        "missing": "objects_missing" if all(omission.key for omission in data.left_out) else "files_missing",
        "replaced": lambda words: _replaced(options, words),
        "hospital": options.hospital,
        "logo": data.logo,
        "patients": data.patients,
        "studies": data.studies,
        "whose": data.whose,
        "series_count": sum(len(study.series) for study in data.studies),
        "objects": sum(study.instances for study in data.studies),
        "left_out": data.left_out,
        "left_out_groups": _grouped(data.left_out),
        "converted": sum(syntax in _UNCOMPRESSED for syntax in data.decoded_from),
        "decompressed": sum(syntax not in _UNCOMPRESSED for syntax in data.decoded_from),
        "pictures": defaultdict(str, data.pictures),
        "volume_id": data.volume_id,
        "profile": "" if data.has_film else _PROFILES[data.medium.name],
        "replaces": options.replaces,
        "viewer": options.viewer_at if options.viewer else "",
        "may_start": options.viewer_autorun,
        "contact": options.contact,
        "institution": ", ".join(dict.fromkeys(study.institution for study in data.studies if study.institution)),
        "made_at": options.made_at.strftime("%Y-%m-%d %H:%M %Z").strip(),
        "version": __version__,
    }


def _notices(data: PageData) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the notices that a reader of the disc must see first, as key of the text and values in it."""
    options = data.options
    if options.partial:
        yield "partial", {"received": options.partial[0], "expected": options.partial[1]}
    if options.counted:
        yield "counted", {"received": options.counted[0], "expected": options.counted[1]}
    if options.only:
        yield "only", {"modalities": _one_line(", ".join(options.only))}
    if options.unknown:
        yield "unknown", {"accessions": _one_line(", ".join(options.unknown))}
    if options.identity_allowed:
        yield "identity_allowed", {"reason": _one_line(options.identity_allowed)}
    if data.judgement.is_by_name:
        yield "is_by_name", {}
    if Attribute.NAME in data.judgement.noted:
        yield "has_two_names", {}


def _replaced(options: DiscOptions, words: Translation) -> dict[str, str]:
    earlier = options.replaces
    assert earlier is not None
    name = _one_line(earlier.name) or words.say("disc.carrier_disc")
    return {"name": name, "volume": earlier.volume_id, "time": str(earlier.made_at)}


def _one_line(text: str) -> str:
    return _BREAKS.sub(" ", text)


def _grouped(left_out: Sequence[LeftOut]) -> list[dict[str, Any]]:
    """Group left-out files by reason, objects by their UIDs.

    A file that is no object is not named: its name may be a person's, and the reader of the disc has no such file.
    """
    groups: dict[tuple[LeftOutCode, str], list[LeftOut]] = defaultdict(list)
    for omission in left_out:
        groups[omission.code, _in_words(omission)].append(omission)
    return [
        {
            "code": code,
            "reason": reason,
            "count": len(group),
            "uids": [uid for omission in group if (uid := omission.sop_instance_uid)],
        }
        for (code, reason), group in groups.items()
    ]


def _why(group: Mapping[str, Any], words: Translation) -> str:
    """Return why objects are not on the disc; the exact reason is in English in every language."""
    reason = _one_line(group["reason"])
    if group["code"] == LeftOutCode.NOT_CONVERTED:
        return _word(group, words)
    return reason if words.code == _OF_REASONS else f"{_word(group, words)} ({reason})"


def _word(group: Mapping[str, Any], words: Translation) -> str:
    return words.say(f"left_out.{group['code']}")


def _modality(modality: str, spoken: Sequence[Translation]) -> str:
    """Return a modality in words in each language, without repetition; an unknown modality stays as it is."""
    return " / ".join(dict.fromkeys(words.table["modality"].get(modality, modality) for words in spoken))


def _lines(text: str, prefix: str = "") -> Markup:
    """Return our own text as markup: `finalize` would join the lines of plain text into one."""
    return Markup("\n".join(prefix + line for line in text.split("\n")))  # noqa: S704  # README.TXT has no markup


def _loud(text: str, prefix: str) -> Markup:
    """Return the lines of a notice with its heading in capitals."""
    head, colon, rest = text.partition(":")
    return _lines(f"{head.upper()}{colon}{rest}", prefix)


def _head(text: str) -> str:
    """Return the heading of a notice and the first sentence after it; the whole text if it has no colon."""
    head, colon, rest = text.partition(":")
    sentence, stop, _ = rest.partition(".")
    return f"{head}{colon}{sentence}{stop}"


def _rest(text: str) -> str:
    return text.removeprefix(_head(text))


def _in_words(left_out: LeftOut) -> str:
    """Return a reason without the name of a Python error; the log and the `.json` have the whole reason."""
    if left_out.code == LeftOutCode.NOT_CONVERTED:
        return ""  # The text for the code is enough.
    return _KIND_OF_ERROR.sub(": damaged, or of a kind that is not known here", left_out.reason)


_environment = Environment(
    loader=PackageLoader("pipeline.disc.pages"),
    autoescape=select_autoescape(enabled_extensions=("htm.jinja",), default=False),
    undefined=StrictUndefined,
    keep_trailing_newline=True,
    trim_blocks=False,
    finalize=lambda value: _BREAKS.sub(" ", value) if type(value) is str else value,
)


_environment.filters |= {
    "name": readable_name,
    "date": readable_date,
    "modality": _modality,
    "why": _why,
    "word": _word,
    "lines": _lines,
    "loud": _loud,
    "head": _head,
    "rest": _rest,
}
