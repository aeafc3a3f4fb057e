"""Hostile names and texts: what peers, the HIS and callers of the hooks may say, wherever it comes out again."""

import contextlib
import dataclasses
import functools
import importlib.machinery
import importlib.util
import io
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock
from xml.etree import ElementTree as ET

from starlette.requests import Request
from support.sites.shim_site import FOUND, NEW, settings_of

from pipeline.dcmtk import QueryAnswers
from pipeline.dcmtk.responses import Progress, find_answers, problems
from pipeline.dicom.accession import LONGEST_OF_THE_STANDARD, AccessionNumber, InvalidAccession, parse_list
from pipeline.dicom.same_patient import compare
from pipeline.disc.model import ANY, DiscOptions, DiscPatient, SeriesOnDisc, StudyOnDisc
from pipeline.disc.pages import disc_names
from pipeline.disc.pages.disc_pages import INDEX, README, PageData, pages
from pipeline.errors import PeerUnavailable
from pipeline.events import escaped
from pipeline.model import OrderError, OrderState
from pipeline.orders import MadeFile, c_find, pacs_query
from pipeline.orders.retrieve import summary
from pipeline.patients import text_or_none
from pipeline.site.settings import Settings
from pipeline.spool.spool import hook_file
from pipeline.web.http_errors import INVALID_PARAMETER, HttpError
from pipeline.web.http_responses import json, order_page, refused
from pipeline.web.order_addresses import under_link
from pipeline.web.transfer import disposition, name_of

HOOKS = hook_file().parent
ASKED = AccessionNumber("A1")
LONGEST_NAME = 255  # bytes: what file systems take
SAFE_HEADER = re.compile(r'attachment; filename="[A-Za-z0-9_-][A-Za-z0-9._-]*"')
SAFE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
CS = re.compile(r"[A-Z0-9_]{1,16}")
ORDER = re.compile(r"\?order=\d+-[0-9a-f]{16}")  # made of the numbers asked for


# --- what the PACS says -----------------------------------------------------------------------------------


@functools.cache
def _settings() -> Settings:
    return settings_of(Path(tempfile.mkdtemp(prefix="hostile-words-")))


def answers(content: bytes, folder: Path) -> None:
    """A C-FIND answer of any bytes is an answer in plain words, or none, or the PACS cannot be used."""
    file = folder / "rsp0001.dcm"
    file.write_bytes(content)

    @contextlib.contextmanager
    def asked(questions: Sequence[object], *_: object) -> Iterator[list[QueryAnswers]]:
        yield [QueryAnswers([file], "Success") for _ in questions]

    with mock.patch.object(c_find, "asked", asked):
        with contextlib.suppress(PeerUnavailable):
            for study in c_find.studies_of([ASKED], _settings(), folder).answers:
                _is_uid(study.study_instance_uid)
                assert study.accession_number == ASKED
                assert study.instances is None or 0 <= study.instances < 2**31
                assert not compare(study.patient, study.patient, is_same_study=True).differs
        for series in c_find.series_of("1.2.3", _settings(), folder).answers:
            _is_uid(series.series_instance_uid)
            assert series.instances is None or 0 <= series.instances < 2**31
            assert series.modality.isprintable()
            assert len(series.modality) <= 16
        for one in c_find.instances_of("1.2.3", ["1.2.3.4"], _settings(), folder) or []:
            _is_uid(one[1])


def _is_uid(text: str) -> None:
    assert re.fullmatch(r"[0-9.]{1,64}", text), text


def said(content: bytes, _: Path) -> None:
    """Whatever findscu and movescu print is counted or passed over; what is told of it stays one short line."""
    text = content.decode("utf-8", "replace")
    found = find_answers(text)
    assert len(found) <= text.count("Sending Find Request")
    assert escaped(problems(text)).isprintable()
    progress = Progress(1)
    for line in text.splitlines():
        progress.hear(line)
    counted = progress.counted
    assert min(counted.remaining, counted.completed, counted.failed, counted.warned) >= 0
    assert counted.total < 2**31
    assert len(progress.complaint) <= 500
    assert (progress.status is None) == (not progress.has_ended)


# --- what a patient or a study is called ------------------------------------------------------------------


class _Shape(HTMLParser):
    """The elements of a page without any text; attributes by their names, addresses in full."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        addresses = {"href", "src", "action", "formaction", "content", "http-equiv"}
        told = (f"{name}={ORDER.sub('', value or '')}" if name in addresses else name for name, value in attrs)
        self.found.append((tag, tuple(told)))

    def handle_endtag(self, tag: str) -> None:
        self.found.append((f"/{tag}", ()))

    def handle_comment(self, data: str) -> None:
        self.found.append(("!", ()))


def names(content: bytes, _: Path) -> None:
    """A name can do nothing in a page, a log line, a terminal, a file name, a header or an image."""
    try:
        text = content.decode("utf-8", "surrogatepass")  # JSON of an API may hold a lone surrogate
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    _in_a_line(text)
    _in_a_file_name(text)
    _in_pages(text_or_none(text) or "")
    _on_a_disc(text)


def _in_a_line(text: str) -> None:
    line = escaped(text)
    assert line.isascii()
    assert line.isprintable()
    view = dataclasses.replace(NEW, state=OrderState.FAILED, error="x", detail=text)
    assert summary(view).isprintable()


def _in_a_file_name(text: str) -> None:
    result = MadeFile(f"/x/{text}", text, 1)
    for verb, accession in (("download", "A1"), ("download", text), ("download-multiple", text)):
        view = dataclasses.replace(NEW, verb=verb, accessions=(accession,))
        name = name_of(view, result, text)
        assert SAFE_NAME.fullmatch(name), name
        assert len(name) <= max(LONGEST_NAME, len(text) + 20)
        assert SAFE_HEADER.fullmatch(disposition(name))
    assert SAFE_HEADER.fullmatch(disposition(text))
    for pattern in ("{accession}", "{patient_name}-{date}", "{study_instance_uid}"):
        assert SAFE_NAME.fullmatch(disc_names.file_stem(pattern, _patient(text), [_study(text)], _NOW))
    assert CS.fullmatch(disc_names.volume_id(text, ["0" * 64]))


def _shapes(text: str) -> list[list[tuple[str, tuple[str, ...]]]]:
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"format=html", "headers": []}
    named = SimpleNamespace(language="en", name="")
    settings = SimpleNamespace(site=named, logo=None, shim=SimpleNamespace(back_to=""))
    site = SimpleNamespace(settings=settings)
    app = SimpleNamespace(state=SimpleNamespace(site=site))
    request = Request({**scope, "state": {"request_id": "1"}, "app": app})
    found = (dataclasses.replace(FOUND[0], accession_number=text, modalities=(text,)),)
    done = dataclasses.replace(
        NEW, verb="print", state=OrderState.DONE, accessions=(text,), found=found, missing=(text,), sent=1
    )
    failed = dataclasses.replace(done, state=OrderState.FAILED, error_kind=OrderError.INTERNAL, detail=text)
    said = {"patient_name": text or "-", "address": text or "-", "token": "0", "has_operator": True}
    shown = [order_page(request, view, at=under_link(view), **said) for view in (done, failed)]
    told = refused(request, HttpError(INVALID_PARAMETER, text or "-"))
    return [_Shape(bytes(page.body).decode()).found for page in (*shown, told)]


@functools.cache
def _usual_shapes(*, is_long: bool) -> list[list[tuple[str, tuple[str, ...]]]]:
    """Return the pages of a plain text; those of a long one say that not every archive knows such a number."""
    return _shapes("plain" * LONGEST_OF_THE_STANDARD if is_long else "plain")


def _in_pages(text: str) -> None:
    assert _shapes(text) == _usual_shapes(is_long=len(text) > LONGEST_OF_THE_STANDARD)
    body = bytes(json({"patient_name": text}).body).decode()
    assert not any(ord(character) < 0x20 for character in body)


_NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def _patient(text: str) -> DiscPatient:
    return DiscPatient(name=text, patient_id=text, issuer=text, birth_date=text, sex=text)


def _study(text: str) -> StudyOnDisc:
    series = (SeriesOnDisc("1.2.3.4", text, text, text, 3),)
    return StudyOnDisc("1.2.3", text, text, text, text, series)


def _disc(text: str) -> tuple[list[str], int]:
    """Return the elements of a disc's page, and how many lines its README has."""
    options = DiscOptions(made_at=_NOW, only=(text,), unknown=(text,))
    page_data = PageData((_patient(text),), (_study(text),), (), (), {}, {}, "V", ANY, options)
    made = pages(page_data)
    tree = ET.fromstring(made[INDEX])  # that it is well-formed is the point
    return [element.tag for element in tree.iter()], made[README].count(b"\n")


@functools.cache
def _usual_disc() -> tuple[list[str], int]:
    return _disc("x")


def _on_a_disc(text: str) -> None:
    assert _disc(f"x{text}") == _usual_disc()


# --- what the hooks are called with -----------------------------------------------------------------------


@functools.cache
def _hook(name: str) -> ModuleType:
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_"), str(HOOKS / name))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def admission(content: bytes, folder: Path) -> None:
    """Whatever study-complete is called with, it ends with a code of its contract and says one line at most."""
    words = [word.decode("utf-8", "surrogateescape") for word in content.split(b"\0")][:4]
    incoming = folder / "spool" / "incoming" / "r"
    for room in (incoming / "S_1", folder / "spool" / "arrivals", folder / "S_outside"):
        room.mkdir(parents=True, exist_ok=True)
    for called in (words, [str(incoming), *words[1:]], [str(incoming), f"{incoming}/{words[-1]}"]):
        heard = io.StringIO()
        with contextlib.redirect_stderr(heard):
            code = _hook("study-complete").main(called)
        assert code in {0, 64, 65, 75}
        _is_one_line(heard.getvalue())
    assert (folder / "S_outside").is_dir()
    assert {entry.name for entry in folder.iterdir()} == {"spool", "S_outside"}
    assert all(re.fullmatch(r"\d+-r-\d+", entry.name) for entry in (folder / "spool" / "arrivals").iterdir())


def _is_one_line(heard: str) -> None:
    assert heard.count("\n") <= 1, heard
    assert heard.rstrip("\n").isprintable(), heard
    heard.encode()


def retrieval(content: bytes, _: Path) -> None:
    """What a caller by ssh gives is one word with accession numbers, and can be nothing else."""
    text = content.replace(b"\0", b"").decode("utf-8", "surrogateescape")
    fixed = ["--site", "/etc/s.toml", "--to", "publisher"]
    called = _hook("retrieve-study").words(fixed, text)
    if called is None:
        return
    assert called[:-1] == ["--site", "/etc/s.toml", "retrieve", "--to", "publisher"]
    assert not called[-1].startswith("-")
    assert not any(character.isspace() for character in called[-1])
    with contextlib.suppress(InvalidAccession):
        assert all(one.isascii() and one.isprintable() for one in parse_list(called[-1], at_most=20))


# --- what mutations start from ----------------------------------------------------------------------------

FINDSCU = b"""I: Association Accepted (Max Send PDV: 16370)
I: Sending Find Request (MsgID 1)
I: Received Find Response 1 (Pending)
I: Writing response dataset to file: /tmp/q/rsp0001.dcm
I: Received Final Find Response (Success)
E: Find SCU Failed: 0006:020e DUL Finite State Machine Error: No action defined
"""
MOVESCU = b"""I: Association Accepted (Max Send PDV: 16370)
D: ===================== INCOMING DIMSE MESSAGE ====================
D: Message Type                  : C-MOVE RSP
D: Remaining Suboperations       : 3
D: Completed Suboperations       : 1
D: Failed Suboperations          : 0
D: Warning Suboperations         : 0
D: DIMSE Status                  : 0xff00: Pending
D: Message Type                  : C-MOVE RSP
D: DIMSE Status                  : 0xb000: Warning: SubOperationsCompleteOneOrMoreFailures
"""
HOSTILE_NAMES = (
    "DOE^JANE",
    "<script>alert(1)</script>\"'&`{{7*7}}",
    "\x1b[2J\x1b]0;title\x07\x9b31m",
    'A\r\nSet-Cookie: x=1\r\n\r\n<html>";filename=x',
    "../../etc/passwd\0.iso",
    "..\\..\\windows\\CON.iso",
    "Ñuñez^José=山田^太郎=やまだ",
    "\u202egnp.exe\u2028\u2029\x85\ufeff",
    "-rf --to=publisher $(touch x) `id` ; | > <",
    "\ud800]]>&#0;",
)


def _answer_files() -> list[bytes]:
    """Return C-FIND answers as findscu writes them, and some that no PACS should give."""
    made = []
    for changes in (
        {},
        {"NumberOfStudyRelatedInstances": "9" * 12, "PatientName": HOSTILE_NAMES[2], "Modality": "CT"},
        {"SpecificCharacterSet": "ISO 2022 IR 87", "PatientName": "x=\x1b$B;3ED\x1b(B"},
    ):
        values = {
            "QueryRetrieveLevel": "STUDY",
            "AccessionNumber": "A1",
            "StudyInstanceUID": "1.2.3",
            "SeriesInstanceUID": "1.2.3.4",
            "SOPInstanceUID": "1.2.3.4.5",
            "PatientName": "DOE^JANE",
            "PatientID": "P1",
            "PatientBirthDate": "19700101",
            "IssuerOfPatientID": "H",
            "Modality": "MR",
            "NumberOfStudyRelatedInstances": "12",
            "NumberOfSeriesRelatedInstances": "12",
        }
        folder = Path(tempfile.mkdtemp(prefix="hostile-words-"))
        question = pacs_query.question_of("STUDY", **(values | changes))
        (file,) = pacs_query.write_identifiers([question], folder)
        made.append(file.read_bytes())
    return made


SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "answers": _answer_files,
    "said": lambda: [FINDSCU, MOVESCU],
    "names": lambda: [name.encode("utf-8", "surrogatepass") for name in HOSTILE_NAMES],
    "admission": lambda: [
        b"/spool/incoming/r\0/spool/incoming/r/S_1.2.3",
        *(f"x\0S_{name}".encode("utf-8", "surrogatepass") for name in HOSTILE_NAMES),
    ],
    "retrieval": lambda: [b"4711,4712", *(name.encode("utf-8", "surrogatepass") for name in HOSTILE_NAMES)],
}
