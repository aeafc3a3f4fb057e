"""Query the PACS by C-FIND: studies by accession number, then series by study, then instances by series.

An archive may answer with more than the query asked for (an empty value asks for everything). Every answer is
therefore compared with its query.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.dicom.accession import AccessionNumber, spellings
from pipeline.dicom.patient import Patient, patient_in
from pipeline.orders.pacs_query import (
    LONGEST_UID,
    Answer,
    asked,
    number_of,
    question_of,
    read_answers,
    require_whole,
    text_of,
    uid_of,
)
from pipeline.site.settings import Settings

LONGEST_MODALITY = 16  # Characters of a CS, PS3.5 6.2.


@dataclass(frozen=True, slots=True)
class StudyAnswer:
    """A study that the PACS has under one of the requested accession numbers.

    `accession_number` is the requested one; `instances` and `series` are the PACS's counts for the study, None if
    it does not say.
    """

    study_instance_uid: str
    accession_number: AccessionNumber
    patient: Patient
    instances: int | None
    series: int | None = None


@dataclass(frozen=True, slots=True)
class Studies:
    """The PACS's studies for some accession numbers; `unclear` says why the answers to a number are unusable.

    One study may have several of the numbers: one acquisition for two orders (PS3.17 annex J).
    """

    answers: tuple[StudyAnswer, ...]
    unclear: Mapping[AccessionNumber, str]


@dataclass(frozen=True, slots=True)
class SeriesAnswer:
    """A series of a study; `modality` is empty and `instances` None if the PACS does not say."""

    series_instance_uid: str
    modality: str
    instances: int | None


@dataclass(frozen=True, slots=True)
class Series:
    """The series of a study, as far as the PACS names them.

    `nameless` are answers without a valid Series Instance UID, as the text in its place and the modality: such a
    series cannot be retrieved. `is_whole` says that the PACS has answered to the end.
    """

    answers: tuple[SeriesAnswer, ...]
    nameless: tuple[tuple[str, str], ...]
    is_whole: bool

    @property
    def all_told(self) -> tuple[SeriesAnswer, ...]:
        """Return the series if the PACS has named all of them, otherwise an empty tuple."""
        return self.answers if self.is_whole and not self.nameless else ()

    def of(self, modalities: Collection[str]) -> list[SeriesAnswer]:
        """Return the series of these modalities."""
        return [answer for answer in self.answers if set(answer.modality.split("\\")).intersection(modalities)]

    def untold(self, modalities: Collection[str], study: StudyAnswer) -> str:
        """Return in words why it is not known which series have these modalities; "" if it is known."""
        told = len(self.answers) + len(self.nameless)
        if not self.is_whole or not told:
            return "it does not tell its series"
        if study.series is not None and study.series > told and not self._hold_all(study):
            return f"it tells {told} of {study.series} series"
        without = [answer.series_instance_uid for answer in self.answers if not answer.modality]
        wrong = [text for text, modality in self.nameless if not modality or modality in modalities]
        return "; ".join(
            [f"series {uid} has no modality" for uid in without]
            + [f"a series has the Series Instance UID {text}, which is none" for text in wrong]
        )

    def _hold_all(self, study: StudyAnswer) -> bool:
        """Say whether the known series have together as many instances as the study, by the PACS's counts."""
        figures = [answer.instances for answer in self.answers]
        return None not in figures and sum(figure or 0 for figure in figures) == study.instances


def studies_of(accessions: Sequence[AccessionNumber], settings: Settings, scratch: Path) -> Studies:
    """Return every study that the PACS has under these accession numbers, and no other study.

    A number that differs from the requested one only in case or padding counts if no answer has the requested one.
    Raises PeerUnavailable if the PACS cannot be asked or does not answer to the end, PacsBusy if it may answer
    later. Temporary files are below `scratch`.
    """
    questions = [
        question_of(
            "STUDY",
            AccessionNumber=accession,
            StudyInstanceUID="",
            PatientName="",
            PatientID="",
            IssuerOfPatientID="",
            PatientBirthDate="",
            NumberOfStudyRelatedInstances="",
            NumberOfStudyRelatedSeries="",
        )
        for accession in accessions
    ]
    found: list[StudyAnswer] = []
    unclear: dict[AccessionNumber, str] = {}
    with asked(questions, settings, scratch) as answered:
        for accession, answers in zip(accessions, answered, strict=True):
            said = [answer for answer in read_answers(answers) if uid_of(answer, "StudyInstanceUID")]
            require_whole(answers, settings)
            known = spellings(accession, (number for answer in said for number in _numbers(answer)))
            if len(known) == 1:
                found += [_study(answer, accession) for answer in said if known[0] in _numbers(answer)]
            elif reason := _unclear(accession, known, said):
                unclear[accession] = reason
    return Studies(tuple(found), unclear)


def _study(answer: Answer, accession: AccessionNumber) -> StudyAnswer:
    counted = number_of(answer, "NumberOfStudyRelatedInstances")
    series = number_of(answer, "NumberOfStudyRelatedSeries")
    return StudyAnswer(uid_of(answer, "StudyInstanceUID"), accession, patient_in(*answer), counted, series)


def _numbers(answer: Answer) -> list[str]:
    """Return the accession numbers of an answer; some archives put two into one value, with a backslash."""
    return [number.strip(" \0") for number in text_of(answer, "AccessionNumber").split("\\")]


def _unclear(accession: AccessionNumber, known: Sequence[str], said: Sequence[Answer]) -> str:
    """Return why no answer to an accession number is usable, "" if the answers are for other numbers."""
    if known:
        return (
            f"the PACS spells {accession} in several ways, and it is not clear which is meant: {'; '.join(known)}"
        )
    if any(not any(_numbers(answer)) for answer in said):
        return f"the PACS answers {accession} with a study that bears an empty accession number in its answer"
    return ""


def series_of(study_instance_uid: str, settings: Settings, scratch: Path) -> Series:
    """Return the series of a study, each once.

    Raises PeerUnavailable if the PACS cannot be asked, PacsBusy if it may answer later.
    """
    question = question_of(
        "SERIES",
        StudyInstanceUID=study_instance_uid,
        SeriesInstanceUID="",
        Modality="",
        NumberOfSeriesRelatedInstances="",
    )
    with asked([question], settings, scratch) as (answers,):
        found: dict[str, SeriesAnswer] = {}
        nameless = []
        for answer in read_answers(answers):
            uid, modality = uid_of(answer, "SeriesInstanceUID"), _modality(answer)
            if uid:
                found[uid] = SeriesAnswer(uid, modality, number_of(answer, "NumberOfSeriesRelatedInstances"))
            else:
                nameless.append((ascii(text_of(answer, "SeriesInstanceUID")[:LONGEST_UID]), modality))
        return Series(tuple(found.values()), tuple(nameless), answers.is_whole)


def instances_of(
    study_instance_uid: str, series: Sequence[str], settings: Settings, scratch: Path
) -> list[tuple[str, str]] | None:
    """Return Series and SOP Instance UID of every instance of these series, None if the PACS lists none.

    A list that is truncated, holds an unreadable answer, or is empty for an existing series counts as none.
    """
    questions = [
        question_of("IMAGE", StudyInstanceUID=study_instance_uid, SeriesInstanceUID=series_uid, SOPInstanceUID="")
        for series_uid in series
    ]
    found: dict[tuple[str, str], None] = {}
    with asked(questions, settings, scratch) as answered:
        for series_uid, answers in zip(series, answered, strict=True):
            uids = [uid_of(answer, "SOPInstanceUID") for answer in read_answers(answers)]
            if not (answers.is_whole and uids and all(uids)):
                return None
            found |= dict.fromkeys((series_uid, uid) for uid in uids)
    return list(found) or None


def _modality(answer: Answer) -> str:
    """Return a printable modality in capitals, "" for any other value (CS, PS3.5 6.2)."""
    text = text_of(answer, "Modality").upper()
    return text if text.isascii() and text.isprintable() and len(text) <= LONGEST_MODALITY else ""
