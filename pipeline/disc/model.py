"""The types of the room disc: media, sources, options, and the finished disc with its `.json`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pipeline import __version__
from pipeline.config.program_tables import ProgramsTable
from pipeline.dicom.part10 import EXPLICIT_VR_LITTLE_ENDIAN
from pipeline.dicom.placeholders import PLACEHOLDERS
from pipeline.model import InstanceKey, LeftOutCode

EXPLICIT = EXPLICIT_VR_LITTLE_ENDIAN
JPEG_2000 = frozenset({"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"})

# MPEG-2, MPEG-4 and HEVC, also fragmentable. A disc never decodes video, and players play it as it is.
VIDEO = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in range(100, 109))


VIDEO |= frozenset(f"1.2.840.10008.1.2.4.{number}.1" for number in range(100, 107))


Container = Literal["iso", "zip"]


Media = Literal["auto", "cd", "dvd", "usb"]


Progress = Callable[[str, int, int], None]  # Called with the stage, and how much of it is done and in total.


SeriesUIDs = tuple[str, str]  # Study and Series Instance UID: careless machines repeat series UIDs in every study.


@dataclass(frozen=True, slots=True)
class Medium:
    """A kind of medium: its capacity, and the transfer syntaxes of its application profile.

    `capacity_bytes` is None if there is no limit.
    """

    name: str
    capacity_bytes: int | None
    allows: frozenset[str]


CD = Medium("cd", 737_280_000, frozenset({EXPLICIT}))  # STD-GEN-CD, PS3.11 D; 360,000 sectors of 2,048 bytes


DVD = Medium("dvd", 4_700_372_992, JPEG_2000 | VIDEO | {EXPLICIT})  # STD-GEN-DVD-J2K, PS3.11 H


USB = Medium("usb", None, JPEG_2000 | VIDEO | {EXPLICIT})  # STD-GEN-USB-J2K, PS3.11 J


ANY = Medium("any", None, VIDEO | {EXPLICIT})  # ZIP for an unknown medium: uncompressed only, readable everywhere.


MEDIA = {medium.name: medium for medium in (CD, DVD, USB, ANY)}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file for the disc.

    `key` and `sha256` come from the ledger; with them the file need not be hashed first.
    """

    path: Path
    key: InstanceKey | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class ReplacedDisc:
    """The earlier disc that a new one replaces."""

    name: str
    volume_id: str
    made_at: str  # The date and time as the pages show it.


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that is not on the disc, and why. `reason` is a text for README.TXT.

    `key` is None if the file's UIDs are not known.
    """

    source: Path
    key: InstanceKey | None
    code: LeftOutCode
    reason: str

    @property
    def sop_instance_uid(self) -> str | None:
        """Return its SOP Instance UID, None if it has none."""
        return self.key.sop_instance_uid if self.key else None


@dataclass(frozen=True, slots=True)
class DiscOptions:
    """Everything about a disc that is not in its objects.

    `partial` is (received, expected) instances if an order ended incomplete; `counted` is (received, counted) if
    the PACS counts more and yet says that it has sent all; `only` are the modalities of an order for some;
    `unknown` are accession numbers without a study; `missing` are instances known to be left out before anything
    is read. `contact` tells the finder of the disc how to reach the hospital. `identity_allowed` is the reason why
    a person accepted that two sources name different patients. Only a person may set the two `allow_` fields.
    `capacity_bytes` is the capacity of a CD or DVD that differs from the standard media. `hashes_image` says
    whether to compute the SHA-256 of the whole file.
    """

    made_at: datetime  # With a time zone.
    media: Media = "auto"
    container: Container = "iso"
    pass_phrase: str | None = None
    viewer: Path | None = None
    viewer_at: Literal["VIEWER", "root"] = "VIEWER"
    viewer_autorun: bool = False  # Include the viewer's own AUTORUN.INF.
    partial: tuple[int, int] | None = None
    counted: tuple[int, int] | None = None
    only: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    identity_allowed: str | None = None
    missing: tuple[LeftOut, ...] = ()
    replaces: ReplacedDisc | None = None
    contact: str = ""
    languages: tuple[str, ...] = ("en", "es")  # The languages of the pages, the most important first.
    hospital: str = ""  # The hospital's name on the pages.
    logo: Path | None = None  # A PNG or SVG file of the site.
    allow_several_patients: bool = False
    allow_no_patient_id: bool = False
    placeholders: tuple[str, ...] = PLACEHOLDERS  # Patient IDs that prove nothing.
    programs: ProgramsTable = field(default_factory=ProgramsTable)
    capacity_bytes: int | None = None
    hashes_image: bool = True
    workers: int = 0  # Processes that decode; 0 means one for each core.

    def __repr__(self) -> str:
        """Leave the pass phrase out of the representation."""
        return f"DiscOptions({self.container}, {self.media})"


@dataclass(frozen=True, slots=True)
class DiscPatient:
    """The patient of a disc, as texts for a page; never for a log line."""

    name: str
    patient_id: str
    issuer: str
    birth_date: str
    sex: str


@dataclass(frozen=True, slots=True)
class InstanceOnDisc:
    """One object of the disc; `sha256` is of the file on it, `source_sha256` of its source file."""

    key: InstanceKey
    path: str
    sha256: str
    source_sha256: str
    transfer_syntax_uid: str
    decoded_from: str | None  # Its former transfer syntax, if it had to be decoded.


@dataclass(frozen=True, slots=True)
class SeriesOnDisc:
    """One series of the disc, as texts for a page."""

    series_instance_uid: str
    number: str
    modality: str
    description: str
    instances: int


@dataclass(frozen=True, slots=True)
class StudyOnDisc:
    """One study of the disc, as texts for a page."""

    study_instance_uid: str
    accession_number: str
    date: str
    description: str
    institution: str
    series: tuple[SeriesOnDisc, ...]

    @property
    def instances(self) -> int:
        """Count the study's objects."""
        return sum(series.instances for series in self.series)


@dataclass(frozen=True, slots=True)
class Disc:
    """A disc that has been made, read back and named; `sha256` is "" if `hashes_image` was False."""

    path: Path
    size: int
    sha256: str
    volume_id: str
    medium: Medium
    patient: DiscPatient
    studies: tuple[StudyOnDisc, ...]
    instances: tuple[InstanceOnDisc, ...]
    left_out: tuple[LeftOut, ...]
    duplicates: int  # Files that repeat the data set of an object, which is on the disc once.
    replaces: ReplacedDisc | None
    made_at: datetime


def as_json(disc: Disc, name: str) -> dict[str, Any]:
    """Return the `.json` beside a disc named `name`, without patient; docs/disc.md explains each key."""
    return {
        "disc": name,
        "size": disc.size,
        "sha256": disc.sha256,
        "volume_id": disc.volume_id,
        "medium": disc.medium.name,
        "made_at": disc.made_at.isoformat(timespec="seconds"),
        "made_by": f"storestow {__version__}",
        "studies": [
            {
                "study_instance_uid": study.study_instance_uid,
                "accession_number": study.accession_number,
                "instances": study.instances,
            }
            for study in disc.studies
        ],
        "instances": [_instance(instance) for instance in disc.instances],
        "left_out": [
            {"sop_instance_uid": omission.sop_instance_uid, "code": omission.code, "reason": omission.reason}
            for omission in disc.left_out
        ],
        "duplicates": disc.duplicates,
        "replaces": {"disc": disc.replaces.name or None, "volume_id": disc.replaces.volume_id}
        if disc.replaces
        else None,
    }


def _instance(one: InstanceOnDisc) -> dict[str, Any]:
    return {
        "study_instance_uid": one.key.study_instance_uid,
        "series_instance_uid": one.key.series_instance_uid,
        "sop_instance_uid": one.key.sop_instance_uid,
        "path": one.path,
        "sha256": one.sha256,
        "source_sha256": one.source_sha256,
        "transfer_syntax_uid": one.transfer_syntax_uid,
        "decoded_from": one.decoded_from,
    }
