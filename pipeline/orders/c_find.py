"""Ask the PACS what it has: C-FIND by accession number, then series by study, then instances by series.

An archive may match more than it was asked for (an empty value asks for everything), may stop in the middle,
and findscu ends with 0 whatever happened; so every answer is compared with its question and a question counts as
answered only by a final Success.
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
from pipeline.errors import PeerUnavailable, StorestowError, Transient
from pipeline.site.settings import Settings

LONGEST_UID = 64  # PS3.5 9.1
LARGEST_ANSWER = 1 << 20  # bytes; what is asked for takes some hundred
LONGEST_MODALITY = 16
LONGEST_NUMBER, MOST_INSTANCES = 12, 2**31 - 1  # PS3.5 6.2, IS; a higher number is none
LONGEST_QUERY = 300.0  # seconds for all answers to one question; each alone has `answer_timeout`
PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0)  # before an archive that takes no association for now is asked again
SCRATCH = "query-"

Answer = tuple[bytes, DataSetLayout]  # one of the files findscu wrote, and where what lies in it


class PacsBusy(Transient):
    """Say that the archive takes no association for now: the same question is asked again later."""


@dataclass(frozen=True, slots=True)
class StudyAnswer:
    """A study the PACS has under one of the numbers asked for.

    `accession_number` is as it was asked for; `instances` and `series` are what the PACS says it holds of the
    study, None where it does not say.
    """

    study_instance_uid: str
    accession_number: AccessionNumber
    patient: Patient
    instances: int | None
    series: int | None = None


@dataclass(frozen=True, slots=True)
class Studies:
    """What the PACS has under some accession numbers; `unclear` says why an answer to a number is of no use.

    One study may be there under several of them: one acquisition for two orders (PS3.17 annex J).
    """

    answers: tuple[StudyAnswer, ...]
    unclear: Mapping[AccessionNumber, str]


@dataclass(frozen=True, slots=True)
class SeriesAnswer:
    """A series of a study; `modality` is empty and `instances` None where the PACS does not say."""

    series_instance_uid: str
    modality: str
    instances: int | None


@dataclass(frozen=True, slots=True)
class Series:
    """The series of a study, as far as the PACS tells them.

    `nameless` are the answers whose Series Instance UID is none, by what stands there and the modality: such a
    series cannot be asked for. `is_whole` where the PACS has answered to the end.
    """

    answers: tuple[SeriesAnswer, ...]
    nameless: tuple[tuple[str, str], ...]
    is_whole: bool

    @property
    def all_told(self) -> tuple[SeriesAnswer, ...]:
        """Return the series where the PACS tells all of them, none where it does not."""
        return self.answers if self.is_whole and not self.nameless else ()

    def of(self, modalities: Collection[str]) -> list[SeriesAnswer]:
        """Return the series of these modalities."""
        return [one for one in self.answers if set(one.modality.split("\\")).intersection(modalities)]

    def untold(self, modalities: Collection[str], study: StudyAnswer) -> str:
        """Return, in words, what the PACS does not tell of the series of these modalities; "" for nothing."""
        told = len(self.answers) + len(self.nameless)
        if not self.is_whole or not told:
            return "it does not tell its series"
        if study.series is not None and study.series > told and not self._hold_all(study):
            return f"it tells {told} of {study.series} series"
        without = [one.series_instance_uid for one in self.answers if not one.modality]
        wrong = [text for text, modality in self.nameless if not modality or modality in modalities]
        return "; ".join(
            [f"series {uid} has no modality" for uid in without]
            + [f"a series has the Series Instance UID {text}, which is none" for text in wrong]
        )

    def _hold_all(self, study: StudyAnswer) -> bool:
        """Say whether the series that are told hold as many instances as the study, whatever their number."""
        figures = [one.instances for one in self.answers]
        return None not in figures and sum(figure or 0 for figure in figures) == study.instances


def studies_of(accessions: Sequence[AccessionNumber], settings: Settings, scratch: Path) -> Studies:
    """Return every study the PACS has under these accession numbers and no other.

    A number that differs from the one asked for in case or padding only counts where no answer bears that one.

    Raises PeerUnavailable where it cannot be asked or does not answer to the end, Busy where it may be later.
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
    """Return why none of the answers to an accession number can be taken, "" where they are of other numbers."""
    if known:
        return (
            f"the PACS spells {accession} in several ways, and it is not clear which is meant: {'; '.join(known)}"
        )
    if any(not any(_numbers(answer)) for answer in said):
        return f"the PACS answers {accession} with a study that bears an empty accession number in its answer"
    return ""


def series_of(study_instance_uid: str, settings: Settings, scratch: Path) -> Series:
    """Return the series of a study, each once.

    Raises PeerUnavailable where it cannot be asked, Busy where it may be later.
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
    """Return Series and SOP Instance UID of every instance of these series, None where the PACS lists none.

    A list that is cut short, holds what cannot be read, or is empty where there is a series, is no list.
    """
    questions = [
        _identifier("IMAGE", StudyInstanceUID=study_instance_uid, SeriesInstanceUID=one, SOPInstanceUID="")
        for one in series
    ]
    found: dict[tuple[str, str], None] = {}
    with _asked(questions, settings, scratch) as answered:
        for one, answers in zip(series, answered, strict=True):
            uids = [_uid(answer, "SOPInstanceUID") for answer in _read(answers)]
            if not (answers.is_whole and uids and all(uids)):
                return None
            found |= dict.fromkeys((one, uid) for uid in uids)
    return list(found) or None


def echo(pacs: PacsTable, programs: ProgramsTable) -> str | None:
    """Return why the PACS does not answer us, None where it does."""
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
        # an accession number may be longer than its VR allows: the archive is asked all the same
        identifier.add(DataElement(tag, dictionary_VR(tag), value, validation_mode=config.IGNORE))
    return identifier


def write_identifiers(identifiers: Sequence[Dataset], folder: Path) -> list[Path]:
    """Write what DCMTK's programs are to ask, a file a question."""
    paths = [folder / f"q{number:05d}" for number in range(len(identifiers))]
    for path, identifier in zip(paths, identifiers, strict=True):
        identifier.save_as(path, implicit_vr=False, little_endian=True)
    return paths


@contextmanager
def _asked(questions: Sequence[Dataset], settings: Settings, scratch: Path) -> Iterator[list[QueryAnswers]]:
    """Ask, and yield the answers to each question; their files last as long as the block.

    All questions go over one association. Some archives end it after each query, and after a final response that
    carries a data set findscu hears nothing more: so each question left over gets an association of its own.
    Raises PeerUnavailable where no question was taken, Busy where the archive takes no association for now.
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
    """Return the answers to the questions that were taken; the last may have no end."""
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
    """Run findscu, some times where the archive takes no association for now, and return what it says."""
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
            answers.status = None  # what cannot be read is not a whole answer
            return


def _answer_in(file: Path) -> Answer:
    """Return the answer, walked as received objects are; raises Malformed and nothing else, whatever it holds."""
    with file.open("rb") as opened:
        content = opened.read(LARGEST_ANSWER + 1)
    if len(content) > LARGEST_ANSWER:
        raise Malformed("an answer is far longer than what was asked for")
    return content, part10.walk(content)


def _text(answer: Answer, keyword: str) -> str:
    content, layout = answer
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return part10.text_of(content, layout.elements.get(tag))


def _uid(answer: Answer, keyword: str) -> str:
    """Return a UID that names one thing, "" for anything else."""
    uid = _text(answer, keyword)
    return uid if UID.fullmatch(uid) and len(uid) <= LONGEST_UID else ""


def _modality(answer: Answer) -> str:
    """Return a modality that can be shown, in capitals, "" for anything else (CS, PS3.5 6.2)."""
    text = _text(answer, "Modality").upper()
    return text if text.isascii() and text.isprintable() and len(text) <= LONGEST_MODALITY else ""


def _number(answer: Answer, keyword: str) -> int | None:
    text = _text(answer, keyword)
    is_number = text.isascii() and text.isdecimal() and len(text) <= LONGEST_NUMBER
    return number if is_number and (number := int(text)) <= MOST_INSTANCES else None
