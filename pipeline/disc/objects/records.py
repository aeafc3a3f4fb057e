"""The directory records of a DICOMDIR (PS3.3 F.4, F.5): the record type for each SOP Class, and the record's keys.

They are a table, so that a new storage class is one line. A class that is not listed gets an IMAGE record.
"""

from typing import Literal, NamedTuple

from pydicom._uid_dict import UID_dictionary

Otherwise = Literal[
    "date", "time", "number", "patient id", "study id", "title", "mime", "stand-in", "empty", "leave out"
]


class RecordKey(NamedTuple):
    """A key of a directory record, and its substitute if the object has no value that the VR allows.

    `date`, `time`: another date or time of the object; `number`: its place in order; `title`: a general code for
    the type of document; `mime`: the type that its SOP Class implies; `stand-in`: the text in `stand_in`, for a
    key that needs a value; `empty`: no value, as type 2 allows; `leave out`: no element, as types 1C and 3 allow.
    """

    tag: int
    vr: str
    otherwise: Otherwise = "leave out"
    stand_in: str = ""


CHARACTER_SET = RecordKey(0x00080005, "CS")
PATIENT_NAME = 0x00100010
PATIENT_ID = 0x00100020
ISSUER = 0x00100021
BIRTH_DATE = 0x00100030
SEX = 0x00100040
STUDY_UID, SERIES_UID = 0x0020000D, 0x0020000E
SOP_CLASS, SOP_INSTANCE = 0x00080016, 0x00080018
STUDY_DATE, STUDY_TIME = 0x00080020, 0x00080030
ACCESSION, STUDY_DESCRIPTION, SERIES_DESCRIPTION = 0x00080050, 0x00081030, 0x0008103E
MODALITY, INSTITUTION = 0x00080060, 0x00080080
STUDY_ID, SERIES_NUMBER, INSTANCE_NUMBER = 0x00200010, 0x00200011, 0x00200013
ROWS, COLUMNS = 0x00280010, 0x00280011

DATES = (
    0x00080020,
    0x00080021,
    0x00080022,
    0x00080023,
    0x00080012,
)  # Study, Series, Acquisition, Content, Creation.
TIMES = (0x00080030, 0x00080031, 0x00080032, 0x00080033, 0x00080013)

PATIENT = (
    CHARACTER_SET,
    RecordKey(PATIENT_NAME, "PN", "empty"),
    RecordKey(PATIENT_ID, "LO", "patient id"),
    RecordKey(ISSUER, "LO"),
    RecordKey(BIRTH_DATE, "DA"),
    RecordKey(SEX, "CS"),
)
STUDY = (
    CHARACTER_SET,
    RecordKey(STUDY_DATE, "DA", "date"),
    RecordKey(STUDY_TIME, "TM", "time"),
    RecordKey(ACCESSION, "SH", "empty"),
    RecordKey(STUDY_DESCRIPTION, "LO", "empty"),
    RecordKey(STUDY_UID, "UI"),
    RecordKey(STUDY_ID, "SH", "study id"),
)
SERIES = (
    CHARACTER_SET,
    RecordKey(MODALITY, "CS", "stand-in", "OT"),
    RecordKey(INSTITUTION, "LO"),
    RecordKey(SERIES_DESCRIPTION, "LO"),
    RecordKey(SERIES_UID, "UI"),
    RecordKey(SERIES_NUMBER, "IS", "number"),
)

_NUMBER = RecordKey(INSTANCE_NUMBER, "IS", "number")
_CONTENT_DATE, _CONTENT_TIME = RecordKey(0x00080023, "DA", "date"), RecordKey(0x00080033, "TM", "time")
_CONTENT = (CHARACTER_SET, _CONTENT_DATE, _CONTENT_TIME, _NUMBER)
_LABELLED = (
    *_CONTENT,
    RecordKey(0x00700080, "CS", "stand-in", "UNNAMED"),  # Content Label
    RecordKey(0x00700081, "LO", "empty"),  # Content Description
    RecordKey(0x00700084, "PN", "empty"),  # Content Creator's Name
)
IMAGE_TYPE = 0x00080008
_IMAGE_TYPE, _FRAMES = RecordKey(IMAGE_TYPE, "CS"), RecordKey(0x00280008, "IS")
_ROWS, _COLUMNS = RecordKey(ROWS, "US"), RecordKey(COLUMNS, "US")
_REFERENCED_IMAGES = RecordKey(0x00089092, "SQ")  # Referenced Image Evidence Sequence
_CONCEPT_NAME, _CONTENT_SEQUENCE = RecordKey(0x0040A043, "SQ", "title"), RecordKey(0x0040A730, "SQ")
VERIFIED_AT, _VERIFICATION_FLAG = 0x0040A030, RecordKey(0x0040A493, "CS", "stand-in", "UNVERIFIED")
VERIFICATION_FLAG = _VERIFICATION_FLAG.tag
HL7_INSTANCE = 0x0040E001
CONCEPT_NAME, CONTENT_SEQUENCE = _CONCEPT_NAME.tag, _CONTENT_SEQUENCE.tag

KEYS: dict[str, tuple[RecordKey, ...]] = {
    "IMAGE": (CHARACTER_SET, _IMAGE_TYPE, _NUMBER),
    "RT DOSE": (
        CHARACTER_SET,
        _NUMBER,
        RecordKey(0x30040006, "LO"),
        RecordKey(0x3004000A, "CS", "stand-in", "PLAN"),
    ),
    "RT STRUCTURE SET": (
        CHARACTER_SET,
        _NUMBER,
        RecordKey(0x30060002, "SH", "stand-in", "UNNAMED"),
        RecordKey(0x30060008, "DA", "empty"),
        RecordKey(0x30060009, "TM", "empty"),
    ),
    "RT PLAN": (
        CHARACTER_SET,
        _NUMBER,
        RecordKey(0x300A0002, "SH", "stand-in", "UNNAMED"),
        RecordKey(0x300A0006, "DA", "empty"),
        RecordKey(0x300A0007, "TM", "empty"),
    ),
    "RT TREAT RECORD": (
        CHARACTER_SET,
        _NUMBER,
        RecordKey(0x30080250, "DA", "empty"),
        RecordKey(0x30080251, "TM", "empty"),
    ),
    "PRESENTATION": (
        CHARACTER_SET,
        RecordKey(0x00081115, "SQ"),  # Referenced Series Sequence
        _NUMBER,
        RecordKey(0x00700080, "CS", "stand-in", "UNNAMED"),
        RecordKey(0x00700081, "LO", "empty"),
        RecordKey(0x00700082, "DA", "date"),  # Presentation Creation Date
        RecordKey(0x00700083, "TM", "time"),
        RecordKey(0x00700084, "PN", "empty"),
        RecordKey(0x00700402, "SQ"),  # Blending Sequence
    ),
    "WAVEFORM": _CONTENT,
    "RAW DATA": _CONTENT,
    "SR DOCUMENT": (
        CHARACTER_SET,
        _CONTENT_DATE,
        _CONTENT_TIME,
        _NUMBER,
        RecordKey(VERIFIED_AT, "DT"),
        _CONCEPT_NAME,
        RecordKey(0x0040A491, "CS", "stand-in", "PARTIAL"),  # Completion Flag
        _VERIFICATION_FLAG,
        _CONTENT_SEQUENCE,
    ),
    "KEY OBJECT DOC": (
        CHARACTER_SET,
        _CONTENT_DATE,
        _CONTENT_TIME,
        _NUMBER,
        _CONCEPT_NAME,
        _CONTENT_SEQUENCE,
    ),
    "SPECTROSCOPY": (
        CHARACTER_SET,
        _IMAGE_TYPE._replace(otherwise="stand-in", stand_in="ORIGINAL\\PRIMARY\\SPECTROSCOPY\\NONE"),
        _CONTENT_DATE,
        _CONTENT_TIME,
        _REFERENCED_IMAGES,
        _NUMBER,
        _FRAMES._replace(otherwise="stand-in", stand_in="1"),
        _ROWS,
        _COLUMNS,
        RecordKey(0x00289001, "UL"),  # Data Point Rows
        RecordKey(0x00289002, "UL"),
    ),
    "ENCAP DOC": (
        CHARACTER_SET,
        RecordKey(0x00080023, "DA", "empty"),
        RecordKey(0x00080033, "TM", "empty"),
        _NUMBER,
        RecordKey(0x0040A043, "SQ", "empty"),
        RecordKey(HL7_INSTANCE, "ST"),
        RecordKey(0x00420010, "ST", "empty"),  # Document Title
        RecordKey(0x00420012, "LO", "mime"),  # MIME Type of Encapsulated Document
    ),
    **dict.fromkeys(("REGISTRATION", "FIDUCIAL", "VALUE MAP", "MEASUREMENT", "SURFACE", "TRACT"), _LABELLED),
    "STEREOMETRIC": (CHARACTER_SET, _NUMBER, *_LABELLED[-3:]),
    "PLAN": (CHARACTER_SET,),
    "SURFACE SCAN": (CHARACTER_SET, _CONTENT_DATE, _CONTENT_TIME, _NUMBER),
    "ANNOTATION": _LABELLED,
    "ASSESSMENT": (
        CHARACTER_SET,
        RecordKey(0x00080012, "DA", "date"),
        RecordKey(0x00080013, "TM", "empty"),
        _NUMBER,
    ),
    "RADIOTHERAPY": (
        CHARACTER_SET,
        _NUMBER,
        RecordKey(0x00700081, "LO", "empty"),
        RecordKey(0x00700084, "PN", "empty"),
        RecordKey(0x30100033, "SH"),  # User Content Label
        RecordKey(0x30100034, "LO"),
    ),
}

# Code Value, Coding Scheme Designator and Code Meaning for a document without a title: general codes of PS3.16.
TITLES = {
    "SR DOCUMENT": ("18748-4", "LN", "Diagnostic Imaging Report"),
    "KEY OBJECT DOC": ("113000", "DCM", "Of Interest"),
}

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_DOCUMENTS = {"1": "application/pdf", "2": "text/XML", "3": "model/stl", "4": "model/obj", "5": "model/mtl"}
CLINICAL_DOCUMENT = f"{_STORAGE}104.2"  # The one class that has an HL7 Instance Identifier.
MIME_TYPES = {f"{_STORAGE}104.{ending}": mime for ending, mime in _DOCUMENTS.items()}
_ENDINGS = {
    "PRESENTATION": (
        "11.1",
        "11.2",
        "11.3",
        "11.4",
        "11.5",
        "11.6",
        "11.7",
        "11.8",
        "11.9",
        "11.10",
        "11.11",
        "11.12",
    ),
    "WAVEFORM": (
        *("9.1.1", "9.1.2", "9.1.3", "9.1.4", "9.2.1", "9.3.1", "9.4.1", "9.4.2", "9.5.1", "9.6.1", "9.6.2"),
        *("9.7.1", "9.7.2", "9.7.3", "9.7.4", "9.8.1"),
    ),
    "SR DOCUMENT": (
        *("88.1", "88.2", "88.3", "88.4", "88.11", "88.22", "88.33", "88.34", "88.35", "88.40", "88.50", "88.65"),
        *("88.67", "88.68", "88.69", "88.70", "88.71", "88.72", "88.73", "88.74", "88.75", "88.76"),
        *("78.6", "79.1"),  # Spectacle Prescription and Macular Grid Thickness: reports, by their modules.
    ),
    "KEY OBJECT DOC": ("88.59",),
    "SPECTROSCOPY": ("4.2",),
    "RAW DATA": ("66",),
    "REGISTRATION": ("66.1", "66.3"),
    "FIDUCIAL": ("66.2",),
    "SURFACE": ("66.5",),
    "TRACT": ("66.6",),
    "VALUE MAP": ("67",),
    "SURFACE SCAN": ("68.1", "68.2"),
    "STEREOMETRIC": ("77.1.5.3",),
    "MEASUREMENT": ("78.1", "78.2", "78.3", "78.4", "78.5", "78.7", "78.8", "80.1"),
    "ASSESSMENT": ("90.1",),
    "ANNOTATION": ("91.1",),
    "ENCAP DOC": ("104.1", "104.2", "104.3", "104.4", "104.5"),
    "RT DOSE": ("481.2",),
    "RT STRUCTURE SET": ("481.3",),
    "RT TREAT RECORD": ("481.4", "481.6", "481.7", "481.9"),
    "RT PLAN": ("481.5", "481.8"),
    "RADIOTHERAPY": tuple(f"481.{number}" for number in (*range(10, 23), 25)),
}
_OF_CLASS = {_STORAGE + ending: kind for kind, endings in _ENDINGS.items() for ending in endings}
_OF_CLASS |= dict.fromkeys(("1.2.840.10008.5.1.4.34.7", "1.2.840.10008.5.1.4.34.10"), "PLAN")
_RETIRED = frozenset(
    _STORAGE + ending for ending in ("8", "9", "9.1", "10", "11", "129")
)  # Curves, overlays, LUTs.


class NoRecord(Exception):
    """Say why objects of a class have no place in the DICOMDIR of a patient's disc."""


def kind_of(sop_class_uid: str, *, has_rows_and_columns: bool) -> str:
    """Return the directory record type of an object; raises NoRecord with the reason if there is none."""
    if sop_class_uid in _RETIRED:
        raise NoRecord("its SOP class is retired and has no directory record any more")
    if kind := _OF_CLASS.get(sop_class_uid):
        return kind
    if not sop_class_uid.startswith("1.2.840.10008."):
        raise NoRecord("private SOP class: no reader knows what it is")
    if not sop_class_uid.startswith(_STORAGE):
        raise NoRecord("its SOP class has no place on a patient's disc")  # Hanging protocols, palettes, implants.
    if has_rows_and_columns or sop_class_uid in UID_dictionary:
        return "IMAGE"
    raise NoRecord("its SOP class is unknown here and it is no image")
