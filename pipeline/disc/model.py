"""The words of the disc as types."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from pipeline.config.program_tables import ProgramsTable
from pipeline.dicom.part10 import EXPLICIT_VR_LITTLE_ENDIAN
from pipeline.dicom.same_patient import PLACEHOLDERS
from pipeline.model import InstanceKey

EXPLICIT = EXPLICIT_VR_LITTLE_ENDIAN
JPEG_2000 = frozenset({"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"})

# MPEG-2, MPEG-4 and HEVC, each fragmentable, too: nobody decodes a film for a disc, and players take it as it is
VIDEO = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in range(100, 109))
VIDEO |= frozenset(f"1.2.840.10008.1.2.4.{number}.1" for number in range(100, 107))

Container = Literal["iso", "zip"]
Media = Literal["auto", "cd", "dvd", "usb"]
Progress = Callable[[str, int, int], None]
SeriesUIDs = tuple[str, str]  # of the study, of the series: careless machines number series alike in every study


@dataclass(frozen=True, slots=True)
class Medium:
    """A kind of medium: how much it holds, and the transfer syntaxes its application profile allows.

    `capacity_bytes` is None where there is no limit.
    """

    name: str
    capacity_bytes: int | None
    allows: frozenset[str]


CD = Medium("cd", 737_280_000, frozenset({EXPLICIT}))  # STD-GEN-CD, PS3.11 D; 360,000 sectors of 2,048 bytes
DVD = Medium("dvd", 4_700_372_992, JPEG_2000 | VIDEO | {EXPLICIT})  # STD-GEN-DVD-J2K, PS3.11 H
USB = Medium("usb", None, JPEG_2000 | VIDEO | {EXPLICIT})  # STD-GEN-USB-J2K, PS3.11 J
ANY = Medium("any", None, VIDEO | {EXPLICIT})  # a ZIP file nobody knows the way of: what opens everywhere
MEDIA = {medium.name: medium for medium in (CD, DVD, USB, ANY)}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file for the disc.

    `key` and `sha256` are what the ledger knows of it: it need not be hashed first.
    """

    path: Path
    key: InstanceKey | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class ReplacedDisc:
    """The earlier disc that a new one takes the place of."""

    name: str
    volume_id: str
    made_at: str  # as its page says


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that is not on the disc, and why; the sentence stands in README.TXT. `key` is None if it has none."""

    source: Path
    key: InstanceKey | None
    reason: str

    @property
    def sop_instance_uid(self) -> str | None:
        """Return its SOP Instance UID, None where it has none."""
        return self.key.sop_instance_uid if self.key else None


@dataclass(frozen=True, slots=True)
class DiscOptions:
    """Everything about a disc that is not in its objects.

    `partial` is (received, expected) instances where an order ended before it was complete, `counted` (received,
    counted) where the PACS counts more and yet says that it has sent all, `only` the modalities
    it was for where it was not for all, `unknown` the accession numbers nothing was found of, `missing` what is
    known to be left out before anything is read. `contact` is the text by which the finder of the disc finds the
    hospital. `identity_allowed` is why a person let it through that two sources name different patients. The two
    permissions are a person's to give. `capacity_bytes` is what a CD or DVD holds where that is
    not what the standard media hold.
    """

    made_at: datetime  # aware
    media: Media = "auto"
    container: Container = "iso"
    pass_phrase: str | None = None
    viewer: Path | None = None
    viewer_at: Literal["VIEWER", "root"] = "VIEWER"
    viewer_autorun: bool = False  # the viewer's own AUTORUN.INF goes along
    partial: tuple[int, int] | None = None
    counted: tuple[int, int] | None = None
    only: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    identity_allowed: str | None = None
    missing: tuple[LeftOut, ...] = ()
    replaces: ReplacedDisc | None = None
    contact: str = ""
    allow_several_patients: bool = False
    allow_no_patient_id: bool = False
    placeholders: tuple[str, ...] = PLACEHOLDERS  # Patient IDs that prove nothing
    programs: ProgramsTable = field(default_factory=ProgramsTable)
    capacity_bytes: int | None = None
    workers: int = 0  # processes that decode; 0 = one a core

    def __repr__(self) -> str:
        """Leave the pass phrase out of whatever prints this."""
        return f"DiscOptions({self.container}, {self.media})"


@dataclass(frozen=True, slots=True)
class DiscPatient:
    """Whose disc it is, as texts for a page; never for a log line."""

    name: str
    patient_id: str
    issuer: str
    birth_date: str
    sex: str


@dataclass(frozen=True, slots=True)
class InstanceOnDisc:
    """One object of the disc; `sha256` is of the file on it, `source_sha256` of the file it was made from."""

    key: InstanceKey
    path: str
    sha256: str
    source_sha256: str
    transfer_syntax_uid: str
    decoded_from: str | None  # the transfer syntax it came in, where it had to be decoded


@dataclass(frozen=True, slots=True)
class SeriesOnDisc:
    """One series of the disc, in words for a page."""

    series_instance_uid: str
    number: str
    modality: str
    description: str
    instances: int


@dataclass(frozen=True, slots=True)
class StudyOnDisc:
    """One study of the disc, in words for a page."""

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
    """A disc that has been made, read back and given its name."""

    path: Path
    size: int
    sha256: str
    volume_id: str
    medium: Medium
    patient: DiscPatient
    studies: tuple[StudyOnDisc, ...]
    instances: tuple[InstanceOnDisc, ...]
    left_out: tuple[LeftOut, ...]
    duplicates: int  # the same object again, byte for byte; it is on the disc once
    replaces: ReplacedDisc | None
    made_at: datetime
