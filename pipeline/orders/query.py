"""Ask the PACS what it has: C-FIND by accession number, then series by study, then instances by series.

An archive may match more than it was asked for (an empty value asks for everything), may stop in the middle,
and findscu ends with 0 whatever happened; so every answer is compared with its question and a question counts as
answered only by a final Success.
"""

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from pipeline import dcmtk
from pipeline.accession import AccessionNumber
from pipeline.dcmtk import Answers
from pipeline.errors import PeerUnavailable, StorestowError, Transient
from pipeline.intake import UID
from pipeline.order_tables import PacsTable
from pipeline.patient import Patient, patient_of
from pipeline.settings import ProgramsTable, Settings

LONGEST_UID = 64  # PS3.5 9.1
LONGEST_QUERY = 300.0  # seconds for all answers to one question; each alone has `answer_timeout`
SCRATCH = "query-"


@dataclass(frozen=True, slots=True)
class StudyAnswer:
    """A study the PACS has; `instances` is what it says it holds of it, None where it does not say."""

    study_instance_uid: str
    accession_number: AccessionNumber
    patient: Patient
    instances: int | None


@dataclass(frozen=True, slots=True)
class SeriesAnswer:
    """A series of a study; `modality` is empty and `instances` None where the PACS does not say."""

    series_instance_uid: str
    modality: str
    instances: int | None


def studies_of(accessions: Sequence[AccessionNumber], settings: Settings, scratch: Path) -> list[StudyAnswer]:
    """Return every study the PACS has under these accession numbers and no other, each once.

    Raises PeerUnavailable where it cannot be asked or does not answer to the end.
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
    found: dict[str, StudyAnswer] = {}
    with _asked(questions, settings, scratch) as answered:
        for accession, answers in zip(accessions, answered, strict=True):
            said = list(_read(answers))
            _require_whole(answers, settings)
            for answer in said:
                uid = _uid(answer, "StudyInstanceUID")
                if uid and _text(answer, "AccessionNumber") == accession:
                    counted = _number(answer, "NumberOfStudyRelatedInstances")
                    found.setdefault(uid, StudyAnswer(uid, accession, patient_of(answer), counted))
    return list(found.values())


def series_of(study_instance_uid: str, settings: Settings, scratch: Path) -> list[SeriesAnswer]:
    """Return the series of a study; empty where the PACS does not tell."""
    question = _identifier(
        "SERIES",
        StudyInstanceUID=study_instance_uid,
        SeriesInstanceUID="",
        Modality="",
        NumberOfSeriesRelatedInstances="",
    )
    with _asked([question], settings, scratch) as (answers,):
        found = {
            uid: SeriesAnswer(uid, _text(answer, "Modality"), _number(answer, "NumberOfSeriesRelatedInstances"))
            for answer in _read(answers)
            if (uid := _uid(answer, "SeriesInstanceUID"))
        }
        return list(found.values()) if answers.is_whole else []


def instances_of(
    study_instance_uid: str, series: Sequence[str], settings: Settings, scratch: Path
) -> list[tuple[str, str]] | None:
    """Return Series and SOP Instance UID of every instance of these series, None where the PACS lists none.

    A list that is cut short, or empty where there is a series, is no list.
    """
    questions = [
        _identifier("IMAGE", StudyInstanceUID=study_instance_uid, SeriesInstanceUID=one, SOPInstanceUID="")
        for one in series
    ]
    found: dict[tuple[str, str], None] = {}
    with _asked(questions, settings, scratch) as answered:
        for one, answers in zip(series, answered, strict=True):
            uids = [uid for answer in _read(answers) if (uid := _uid(answer, "SOPInstanceUID"))]
            if not (answers.is_whole and uids):
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
        setattr(identifier, keyword, value)
    return identifier


def write_identifiers(identifiers: Sequence[Dataset], folder: Path) -> list[Path]:
    """Write what DCMTK's programs are to ask, a file a question."""
    paths = [folder / f"q{number:05d}" for number in range(len(identifiers))]
    for path, identifier in zip(paths, identifiers, strict=True):
        identifier.save_as(path, implicit_vr=False, little_endian=True)
    return paths


@contextmanager
def _asked(questions: Sequence[Dataset], settings: Settings, scratch: Path) -> Iterator[list[Answers]]:
    """Ask over one association and yield the answers, whose files last as long as the block.

    Raises PeerUnavailable where there is no association, or not every question was taken.
    """
    pacs = settings.pacs
    assert pacs is not None
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=scratch) as folder:
        queries = write_identifiers(questions, Path(folder))
        findscu = dcmtk.program(settings.programs, "findscu")
        argv = dcmtk.findscu_argv(findscu, pacs, answers=Path(folder), queries=queries)
        limit = LONGEST_QUERY * len(questions) + pacs.answer_timeout.total_seconds()
        try:
            said = dcmtk.run(argv, dcmtk.environment(settings.programs), timeout_seconds=limit).output
        except Transient as error:
            raise PeerUnavailable(f"{_name(settings)} does not answer: {error}") from error
        answered = dcmtk.find_answers(said)
        if not answered:
            raise PeerUnavailable(f"{_name(settings)}: {dcmtk.problems(said) or 'took no question'}")
        yield answered + [Answers() for _ in questions[len(answered) :]]


def _require_whole(answers: Answers, settings: Settings) -> None:
    if not answers.is_whole:
        how = f"ended with {answers.status}" if answers.status else "did not answer the query to its end"
        raise PeerUnavailable(f"{_name(settings)} {how}")


def _name(settings: Settings) -> str:
    assert settings.pacs is not None
    return f"{settings.pacs.ae_title} at {settings.pacs.host}:{settings.pacs.port}"


def _read(answers: Answers) -> Iterator[Dataset]:
    for file in answers.files:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a warning may quote a value
            try:
                yield dcmread(file, force=True)
            except (InvalidDicomError, OSError, ValueError, EOFError):
                answers.status = None  # what cannot be read is not a whole answer
                return


def _text(answer: Dataset, keyword: str) -> str:
    found = answer.get_item(keyword)
    value = found.value if found else None
    return (value.decode("latin-1") if isinstance(value, bytes) else str(value or "")).strip(" \0")


def _uid(answer: Dataset, keyword: str) -> str:
    """Return a UID that names one thing, "" for anything else."""
    uid = _text(answer, keyword)
    return uid if UID.fullmatch(uid) and len(uid) <= LONGEST_UID else ""


def _number(answer: Dataset, keyword: str) -> int | None:
    text = _text(answer, keyword)
    return int(text) if text.isdecimal() else None
