"""README.TXT, INDEX.HTM and SHA256.TXT: for people who have never heard of DICOM, in English and Spanish.

The template engine escapes everything a peer sent; characters that XML forbids are removed.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from pipeline import __version__
from pipeline.dicom.part10 import EXPLICIT_VR_BIG_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from pipeline.dicom.same_patient import UNDISPUTED, Attribute, Judgement
from pipeline.disc.model import DiscOptions, DiscPatient, LeftOut, Medium, SeriesUIDs, StudyOnDisc
from pipeline.disc.pages.summary import readable_date, readable_name
from pipeline.model import LeftOutCode

README, INDEX, SUMS = "README.TXT", "INDEX.HTM", "SHA256.TXT"
# Characters that XML 1.0, 2.2 forbids, and those in names that reverse the direction of all text after them.
_ILLEGAL = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u202a-\u202e\u2066-\u2069]")
_KIND_OF_ERROR = re.compile(r" \(\w+Error\)$")
_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")  # A name becomes one line.
_UNCOMPRESSED = {IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN}
_PROFILES = {"cd": "STD-GEN-CD", "dvd": "STD-GEN-DVD-J2K", "usb": "STD-GEN-USB-J2K", "any": ""}
_KINDS = {
    "CR": "X-ray / Radiografía",
    "DX": "X-ray / Radiografía",
    "CT": "CT / TC",
    "MR": "MRI / RM",
    "US": "Ultrasound / Ecografía",
    "MG": "Mammography / Mamografía",
    "NM": "Nuclear medicine / Medicina nuclear",
    "PT": "PET",
    "XA": "Angiography / Angiografía",
    "RF": "Fluoroscopy / Fluoroscopia",
    "SR": "Report / Informe",
    "DOC": "Document / Documento",
    "KO": "Key images / Imágenes clave",
    "PR": "Presentation / Presentación",
    "ECG": "ECG",
    "OT": "Other / Otro",
    "SC": "Screen capture / Captura",
    "SEG": "Segmentation / Segmentación",
}


@dataclass(frozen=True, slots=True)
class PageData:
    """Everything the pages tell: `whose` maps a study's UID to its patient, `pictures` are paths on the disc.

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
    has_film: bool = False  # None of the profiles allows video.


def pages(story: PageData) -> dict[str, bytes]:
    """Return README.TXT and INDEX.HTM; lines end as Windows expects, after a byte order mark of UTF-8."""
    words = _words(story)
    readme = _environment.get_template(f"{README}.jinja").render(words)
    index = _environment.get_template(f"{INDEX}.jinja").render(words)
    return {
        README: _ILLEGAL.sub("", readme).replace("\n", "\r\n").encode("utf-8-sig"),
        INDEX: _ILLEGAL.sub("", index).encode(),
    }


def checksums(hashes: Iterable[tuple[str, str]]) -> bytes:
    """Return the list of (path, SHA-256) in the format of `sha256sum -c`."""
    return "".join(f"{sha256}  {path}\n" for path, sha256 in hashes).encode("ascii")


def _words(story: PageData) -> dict[str, Any]:
    options = story.options
    is_disc = story.medium.name in {"cd", "dvd"}
    return {
        "carrier": "disc" if is_disc else "folder",
        "soporte": "disco" if is_disc else "directorio",
        "patients": story.patients,
        "studies": story.studies,
        "whose": story.whose,
        "series_count": sum(len(study.series) for study in story.studies),
        "objects": sum(study.instances for study in story.studies),
        "left_out": story.left_out,
        "left_out_groups": _grouped(story.left_out),
        "left_out_are_objects": all(one.key for one in story.left_out),
        "converted": sum(one in _UNCOMPRESSED for one in story.decoded_from),
        "decompressed": sum(one not in _UNCOMPRESSED for one in story.decoded_from),
        "pictures": defaultdict(str, story.pictures),
        "volume_id": story.volume_id,
        "profile": "" if story.has_film else _PROFILES[story.medium.name],
        "partial": options.partial,
        "counted": options.counted,
        "only": ", ".join(options.only),
        "unknown": ", ".join(options.unknown),
        "identity_allowed": options.identity_allowed,
        "is_by_name": story.judgement.is_by_name,
        "has_two_names": Attribute.NAME in story.judgement.noted,
        "replaces": options.replaces,
        "viewer": options.viewer_at if options.viewer else "",
        "may_start": options.viewer_autorun,
        "contact": options.contact,
        "institution": ", ".join(dict.fromkeys(study.institution for study in story.studies if study.institution)),
        "made_at": options.made_at.strftime("%Y-%m-%d %H:%M %Z").strip(),
        "version": __version__,
    }


def _grouped(left_out: Sequence[LeftOut]) -> list[dict[str, Any]]:
    """Group left-out files by reason, objects by their UIDs.

    A file that is no object is not named: its name may be a person's, and the reader of the disc lacks the file.
    """
    groups: dict[str, list[LeftOut]] = defaultdict(list)
    for one in left_out:
        groups[_in_words(one)].append(one)
    return [
        {"reason": reason, "count": len(group), "uids": [uid for one in group if (uid := one.sop_instance_uid)]}
        for reason, group in groups.items()
    ]


def _in_words(left_out: LeftOut) -> str:
    """Return a reason without parts for programmers; the log and the result have the whole."""
    if left_out.code == LeftOutCode.NOT_CONVERTED:
        return "it could not be converted for this medium"
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
    "modality": lambda modality: _KINDS.get(modality, modality),
}
