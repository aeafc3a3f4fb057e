"""Send queries to the PACS by findscu, and read its answers as untrusted bytes.

An archive may stop in the middle, or end the association after each query, and the exit code of findscu is 0 in
any case. A query therefore counts as answered only after a final Success.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

from pydicom import DataElement, Dataset, config
from pydicom.datadict import dictionary_VR, tag_for_keyword

from pipeline import dcmtk
from pipeline.config.order_tables import PacsTable
from pipeline.config.program_tables import ProgramsTable
from pipeline.dcmtk import QueryAnswers
from pipeline.dicom import part10
from pipeline.dicom.part10 import DataSetLayout, Malformed
from pipeline.dicom.reading import UID
from pipeline.dicom.walk import walk
from pipeline.errors import PeerUnavailable, StorestowError, Transient
from pipeline.site.settings import Settings

LONGEST_UID = 64  # PS3.5 9.1
LARGEST_ANSWER = 1 << 20  # Bytes; the wanted attributes take a few hundred.
LONGEST_NUMBER, MOST_INSTANCES = 12, 2**31 - 1  # Characters and largest value of an IS, PS3.5 6.2.
LONGEST_QUERY = 300.0  # Seconds for all answers to one query; each answer has `answer_timeout`.
PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0)  # Pauses before a busy archive is asked again.
SCRATCH = "query-"

Answer = tuple[bytes, DataSetLayout]  # The bytes of a file written by findscu, and their layout.


class PacsBusy(Transient):
    """Say that the archive accepts no association for now; send the same query again later."""


def question_of(level: str, **keys: str) -> Dataset:
    """Return a query at this level, with the keys and their values; an empty value asks for the attribute."""
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
def asked(questions: Sequence[Dataset], settings: Settings, scratch: Path) -> Iterator[list[QueryAnswers]]:
    """Send the queries, and yield the answers to each; the files of the answers exist during the block.

    All queries use one association. Some archives end it after each query, and findscu reads nothing after a final
    response with a data set: each remaining query then gets an association of its own. Raises PeerUnavailable if
    no query was accepted, PacsBusy if the archive accepts no association for now.
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
    return list(takewhile(lambda answer: answer.status is not None, answers))


def _over_one_association(questions: Sequence[Dataset], folder: Path, settings: Settings) -> list[QueryAnswers]:
    """Send queries over one association; return the answers to the accepted queries, the last perhaps incomplete.

    Raises PeerUnavailable if no query was accepted.
    """
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
    """Run findscu, again if the archive is busy, and return its output; raises PeerUnavailable and PacsBusy."""
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


def require_whole(answers: QueryAnswers, settings: Settings) -> None:
    """Raise PeerUnavailable unless a query was answered to its end."""
    if not answers.is_whole:
        how = f"ended with {answers.status}" if answers.status else "did not answer the query to its end"
        raise PeerUnavailable(f"{_name(settings)} {how}")


def _name(settings: Settings) -> str:
    assert settings.pacs is not None
    return f"{settings.pacs.ae_title} at {settings.pacs.host}:{settings.pacs.port}"


def read_answers(answers: QueryAnswers) -> Iterator[Answer]:
    """Yield each answer until one cannot be read; the query then does not count as answered to its end."""
    for file in answers.files:
        try:
            yield _answer_in(file)
        except (Malformed, OSError):
            answers.status = None  # An unreadable answer makes the query incomplete.
            return


def _answer_in(file: Path) -> Answer:
    """Return the answer in a file, parsed like a received object; raises Malformed for any faulty content."""
    with file.open("rb") as opened:
        content = opened.read(LARGEST_ANSWER + 1)
    if len(content) > LARGEST_ANSWER:
        raise Malformed("an answer is far longer than what was asked for")
    return content, walk(content)


def text_of(answer: Answer, keyword: str) -> str:
    """Return a value of an answer as text, "" if it is absent."""
    content, layout = answer
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return part10.text_of(content, layout.elements.get(tag))


def uid_of(answer: Answer, keyword: str) -> str:
    """Return the value if it is one valid UID, otherwise ""."""
    uid = text_of(answer, keyword)
    return uid if UID.fullmatch(uid) and len(uid) <= LONGEST_UID else ""


def number_of(answer: Answer, keyword: str) -> int | None:
    """Return the value if it is a count, otherwise None."""
    text = text_of(answer, keyword)
    is_number = text.isascii() and text.isdecimal() and len(text) <= LONGEST_NUMBER
    return number if is_number and (number := int(text)) <= MOST_INSTANCES else None


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
