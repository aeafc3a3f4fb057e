"""Query the PACS by C-FIND: studies by accession number, then series by study, then instances by series.

An archive may match more than it was asked for (an empty value asks for everything), or stop in the middle, and
findscu ends with 0 whatever happened. Every answer is therefore compared with its query, and a query counts as
answered only after a final Success.
"""

import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from pydicom import DataElement, Dataset, config
from pydicom.datadict import dictionary_VR, tag_for_keyword

from pipeline import dcmtk
from pipeline.config.order_tables import PacsTable
from pipeline.config.program_tables import ProgramsTable
from pipeline.dcmtk import QueryAnswers
from pipeline.dicom import part10
from pipeline.dicom.accession import AccessionNumber, spellings
from pipeline.dicom.part10 import DataSetLayout, Malformed
from pipeline.dicom.patient import Patient, patient_in
from pipeline.dicom.reading import UID
from pipeline.dicom.walk import walk
from pipeline.errors import PeerUnavailable, StorestowError, Transient
from pipeline.site.settings import Settings

LONGEST_UID = 64  # PS3.5 9.1
LARGEST_ANSWER = 1 << 20  # Bytes; the wanted attributes take some hundred.
LONGEST_MODALITY = 16
LONGEST_NUMBER, MOST_INSTANCES = 12, 2**31 - 1  # Characters and largest value of an IS, PS3.5 6.2.
LONGEST_QUERY = 300.0  # Seconds for all answers to one query; each answer has `answer_timeout`.
PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0)  # Pauses before a busy archive is asked again.
SCRATCH = "query-"

Answer = tuple[bytes, DataSetLayout]  # The bytes of a file written by findscu, and their layout.


class PacsBusy(Transient):
    """Say that the archive accepts no association for now: the same query is sent again later."""


@dataclass(frozen=True, slots=True)
class StudyAnswer:
    """A study the PACS has under one of the requested numbers.

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
    """The PACS's studies for some accession numbers; `unclear` says why answers to a number are unusable.

    One study may be there under several of them: one acquisition for two orders (PS3.17 annex J).
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
    """The series of a study, as far as the PACS tells them.

    `nameless` are answers without a valid Series Instance UID, with what stands there and the modality: such a
    series cannot be retrieved. `is_whole` if the PACS has answered to the end.
    """

    answers: tuple[SeriesAnswer, ...]
    nameless: tuple[tuple[str, str], ...]
    is_whole: bool

    @property
    def all_told(self) -> tuple[SeriesAnswer, ...]:
        """Return the series if the PACS tells all of them, otherwise none."""
        return self.answers if self.is_whole and not self.nameless else ()

    def of(self, modalities: Collection[str]) -> list[SeriesAnswer]:
        """Return the series of these modalities."""
        return [answer for answer in self.answers if set(answer.modality.split("\\")).intersection(modalities)]

    def untold(self, modalities: Collection[str], study: StudyAnswer) -> str:
        """Return, in words, what the PACS does not tell of the series of these modalities; "" if it tells all."""
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
        """Say whether the known series hold as many instances as the study."""
        figures = [answer.instances for answer in self.answers]
        return None not in figures and sum(figure or 0 for figure in figures) == study.instances


def studies_of(accessions: Sequence[AccessionNumber], settings: Settings, scratch: Path) -> Studies:
    """Return every study the PACS has under these accession numbers and no other.

    A number that differs from the requested one only in case or padding counts if no answer has the requested one.
    Raises PeerUnavailable if the PACS cannot be asked or does not answer to the end, PacsBusy if it may answer
    later.
    """
    questions = [
        _identifier(
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
    with _asked(questions, settings, scratch) as answered:
        for accession, answers in zip(accessions, answered, strict=True):
            said = [answer for answer in _read(answers) if _uid(answer, "StudyInstanceUID")]
            _require_whole(answers, settings)
            known = spellings(accession, (number for answer in said for number in _numbers(answer)))
            if len(known) == 1:
                found += [_study(answer, accession) for answer in said if known[0] in _numbers(answer)]
            elif reason := _unclear(accession, known, said):
                unclear[accession] = reason
    return Studies(tuple(found), unclear)


def _study(answer: Answer, accession: AccessionNumber) -> StudyAnswer:
    counted = _number(answer, "NumberOfStudyRelatedInstances")
    series = _number(answer, "NumberOfStudyRelatedSeries")
    return StudyAnswer(_uid(answer, "StudyInstanceUID"), accession, patient_in(*answer), counted, series)


def _numbers(answer: Answer) -> list[str]:
    """Return the accession numbers of an answer; some archives put two into one value, with a backslash."""
    return [number.strip(" \0") for number in _text(answer, "AccessionNumber").split("\\")]


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
    question = _identifier(
        "SERIES",
        StudyInstanceUID=study_instance_uid,
        SeriesInstanceUID="",
        Modality="",
        NumberOfSeriesRelatedInstances="",
    )
    with _asked([question], settings, scratch) as (answers,):
        found: dict[str, SeriesAnswer] = {}
        nameless = []
        for answer in _read(answers):
            uid, modality = _uid(answer, "SeriesInstanceUID"), _modality(answer)
            if uid:
                found[uid] = SeriesAnswer(uid, modality, _number(answer, "NumberOfSeriesRelatedInstances"))
            else:
                nameless.append((ascii(_text(answer, "SeriesInstanceUID")[:LONGEST_UID]), modality))
        return Series(tuple(found.values()), tuple(nameless), answers.is_whole)


def instances_of(
    study_instance_uid: str, series: Sequence[str], settings: Settings, scratch: Path
) -> list[tuple[str, str]] | None:
    """Return Series and SOP Instance UID of every instance of these series, None if the PACS lists none.

    A list that is truncated, holds an unreadable answer, or is empty for an existing series counts as none.
    """
    questions = [
        _identifier("IMAGE", StudyInstanceUID=study_instance_uid, SeriesInstanceUID=series_uid, SOPInstanceUID="")
        for series_uid in series
    ]
    found: dict[tuple[str, str], None] = {}
    with _asked(questions, settings, scratch) as answered:
        for series_uid, answers in zip(series, answered, strict=True):
            uids = [_uid(answer, "SOPInstanceUID") for answer in _read(answers)]
            if not (answers.is_whole and uids and all(uids)):
                return None
            found |= dict.fromkeys((series_uid, uid) for uid in uids)
    return list(found) or None


def echo(pacs: PacsTable, programs: ProgramsTable) -> str | None:
    """Return why the PACS does not answer a C-ECHO, None if it does."""
    name = f"{pacs.ae_title} at {pacs.host}:{pacs.port}"
    try:
        argv = dcmtk.echoscu_argv(dcmtk.program(programs, "echoscu"), pacs)
        limit = 2 * pacs.connect_timeout.total_seconds() + pacs.answer_timeout.total_seconds()
        done = dcmtk.run(argv, dcmtk.environment(programs), timeout_seconds=limit)
    except StorestowError as error:
        return f"{name}: {error}"
    return None if done.exit_code == 0 else f"{name}: {dcmtk.problems(done.output) or 'does not answer'}"


def _identifier(level: str, **keys: str) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        tag = tag_for_keyword(keyword)
        assert tag is not None
        # An accession number may be longer than its VR allows; the archive is queried for it nevertheless.
        identifier.add(DataElement(tag, dictionary_VR(tag), value, validation_mode=config.IGNORE))
    return identifier


def write_identifiers(identifiers: Sequence[Dataset], folder: Path) -> list[Path]:
    """Write the identifiers for DCMTK's programs, one file for each query."""
    paths = [folder / f"q{number:05d}" for number in range(len(identifiers))]
    for path, identifier in zip(paths, identifiers, strict=True):
        identifier.save_as(path, implicit_vr=False, little_endian=True)
    return paths


@contextmanager
def _asked(questions: Sequence[Dataset], settings: Settings, scratch: Path) -> Iterator[list[QueryAnswers]]:
    """Send the queries, and yield the answers to each; their files exist during the block.

    All queries use one association. Some archives end it after each query, and after a final response with a data
    set findscu hears nothing more: each remaining query then gets an association of its own. Raises
    PeerUnavailable if no query was accepted, PacsBusy if the archive accepts no association for now.
    """
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=scratch) as folder:
        answered = _ended(_over_one_association(questions, Path(folder) / "all", settings))
        left = questions[len(answered) :]
        for number, question in enumerate(left if len(questions) > 1 else ()):
            alone = _ended(_over_one_association([question], Path(folder) / str(number), settings))
            if not alone:
                break
            answered += alone
        yield answered + [QueryAnswers() for _ in questions[len(answered) :]]


def _ended(answers: Sequence[QueryAnswers]) -> list[QueryAnswers]:
    return list(takewhile(lambda one: one.status is not None, answers))


def _over_one_association(questions: Sequence[Dataset], folder: Path, settings: Settings) -> list[QueryAnswers]:
    """Return the answers to the accepted queries; the last may be incomplete."""
    pacs = settings.pacs
    assert pacs is not None
    folder.mkdir()
    queries = write_identifiers(questions, folder)
    argv = dcmtk.findscu_argv(dcmtk.program(settings.programs, "findscu"), pacs, answers=folder, queries=queries)
    limit = LONGEST_QUERY * len(questions) + pacs.answer_timeout.total_seconds()
    said = _said(argv, limit, settings)
    answered = dcmtk.find_answers(said)
    if not answered:
        raise PeerUnavailable(f"{_name(settings)}: {dcmtk.problems(said) or 'took no question'}")
    return answered


def _said(argv: Sequence[str], limit: float, settings: Settings) -> str:
    """Run findscu, repeatedly if the archive is busy, and return its output."""
    for pause in (*PAUSES_SECONDS, None):
        try:
            said = dcmtk.run(argv, dcmtk.environment(settings.programs), timeout_seconds=limit).output
        except Transient as error:
            raise PeerUnavailable(f"{_name(settings)} does not answer: {error}") from error
        if not dcmtk.is_rejected_for_now(said):
            return said
        if pause is not None:
            time.sleep(pause)
    raise PacsBusy(f"{_name(settings)} takes no association for now ({dcmtk.problems(said)}); it is asked again")


def _require_whole(answers: QueryAnswers, settings: Settings) -> None:
    if not answers.is_whole:
        how = f"ended with {answers.status}" if answers.status else "did not answer the query to its end"
        raise PeerUnavailable(f"{_name(settings)} {how}")


def _name(settings: Settings) -> str:
    assert settings.pacs is not None
    return f"{settings.pacs.ae_title} at {settings.pacs.host}:{settings.pacs.port}"


def _read(answers: QueryAnswers) -> Iterator[Answer]:
    for file in answers.files:
        try:
            yield _answer_in(file)
        except (Malformed, OSError):
            answers.status = None  # An unreadable answer makes the query incomplete.
            return


def _answer_in(file: Path) -> Answer:
    """Return the answer, walked like a received object; raises only Malformed, whatever the file holds."""
    with file.open("rb") as opened:
        content = opened.read(LARGEST_ANSWER + 1)
    if len(content) > LARGEST_ANSWER:
        raise Malformed("an answer is far longer than what was asked for")
    return content, walk(content)


def _text(answer: Answer, keyword: str) -> str:
    content, layout = answer
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return part10.text_of(content, layout.elements.get(tag))


def _uid(answer: Answer, keyword: str) -> str:
    """Return a UID that names one thing, "" for any other value."""
    uid = _text(answer, keyword)
    return uid if UID.fullmatch(uid) and len(uid) <= LONGEST_UID else ""


def _modality(answer: Answer) -> str:
    """Return a printable modality in capitals, "" for any other value (CS, PS3.5 6.2)."""
    text = _text(answer, "Modality").upper()
    return text if text.isascii() and text.isprintable() and len(text) <= LONGEST_MODALITY else ""


def _number(answer: Answer, keyword: str) -> int | None:
    text = _text(answer, keyword)
    is_number = text.isascii() and text.isdecimal() and len(text) <= LONGEST_NUMBER
    return number if is_number and (number := int(text)) <= MOST_INSTANCES else None
