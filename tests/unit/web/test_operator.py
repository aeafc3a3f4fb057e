"""The operator's page: who gets in, what is shown, what is done, and that nothing a peer has written gets in."""

import contextlib
import html
import logging
import platform
import re
import time
from pathlib import Path

import pytest
import requests
from pydicom.uid import generate_uid
from support.machine.dicom_programs import free_port
from support.sites.line_site import RECEIVER, arrive, instance, rounds, working
from support.sites.placed_orders import look, settings_with_pacs, waiting_order
from support.sites.shim_site import BROWSER, served

from pipeline.errors import Configuration
from pipeline.ledger import act_records, attempts, destination_states, reports, samples
from pipeline.ledger.samples import SampleKind
from pipeline.ledger.tables import delivery
from pipeline.ledger.tables import instance as instances
from pipeline.model import OrderState
from pipeline.operate.status import status
from pipeline.site.settings import Settings
from pipeline.web.app import application
from pipeline.web.operator.drawings import TimeLineEvent, bars, lines, time_line
from pipeline.web.operator.session import COOKIE, SECONDS, Sessions
from pipeline.web.shim_site import opened

KEY, API_KEY = "an-operator-key", "a-key-nobody-would-guess"
HOSTILE = '"><script>alert(1)</script>'
PATIENT, PATIENT_ID = "DOE^JANE", "4711-HIDDEN"
DEAD = {"name": "dead", "kind": "stow", "url": "http://127.0.0.1:1/rs/studies"}


def settings_of(folder: Path, *, site=None, shim=None, destinations=None) -> Settings:
    (folder / "out").mkdir(exist_ok=True)
    keeper = {"name": "keeper", "kind": "folder", "folder": str(folder / "out"), "encode": "j2k"}
    tables = [keeper, DEAD] if destinations is None else destinations
    table = {
        "folder": folder,
        "site": {"spool": str(folder / "spool"), "workers": 1, **(site or {})},
        "receiver": [{**RECEIVER, "to": [destination["name"] for destination in tables]}],
        "destination": tables,
        "shim": {"api_key": API_KEY, "operator_key": KEY, **(shim or {})},
    }
    return Settings.model_validate(table)


class Operator:
    """A person with a browser."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.headers.update(BROWSER)

    def login(self, name: str = "Ana Lyst", key: str = KEY) -> requests.Response:
        return self.session.post(f"{self.url}/operator/login", data={"name": name, "key": key}, timeout=20)

    def get(self, path: str = "", **query: str) -> requests.Response:
        return self.session.get(f"{self.url}/operator{path}", params=query, timeout=20)

    def text(self, path: str = "", **query: str) -> str:
        answer = self.get(path, **query)
        assert answer.status_code == 200, answer.text
        return answer.text

    def act(self, page: requests.Response, kind: str, **fields: str) -> requests.Response:
        """Fill in and send the form of a page that does `kind`."""
        for action, body in re.findall(
            r'<form class="act" method="post" action="([^"]+)">(.*?)</form>', page.text, re.DOTALL
        ):
            hidden = {
                k: html.unescape(v) for k, v in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', body)
            }
            if hidden.get("act") == kind:
                data = {**hidden, "by": "Ana Lyst", **fields}
                return self.session.post(requests.compat.urljoin(page.url, action), data=data, timeout=20)
        raise AssertionError(f"no form does {kind}: {page.text}")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site with a study at one destination and waiting for another, something set aside, and the page."""
    folder = tmp_path_factory.mktemp("site")
    study = generate_uid()
    with working(settings_of(folder)) as (site, worker):
        about = {
            "StudyInstanceUID": study,
            "AccessionNumber": "ACC1",
            "PatientName": PATIENT,
            "PatientID": PATIENT_ID,
        }
        arrive(site.spool, *(instance(folder, name, **about) for name in "ab"), peer="10.0.0.9")
        (folder / "rubbish").write_bytes(b"no DICOM at all")
        arrive(site.spool, folder / "rubbish")

        def is_there() -> bool:
            with site.ledger.reading() as connection:
                tried = attempts.of_study(connection, study, 10)
                counted = reports.counts(connection)
                return (
                    counted["deliveries"]["delivered"] == 1
                    and destination_states.down_since(connection, "dead") is not None
                    and len(tried) == 2
                    and all(attempt.ended_at for attempt in tried)
                )

        rounds(worker, until=is_there)
        with site.ledger.transaction() as connection:
            for age in range(60):
                values = {(SampleKind.FREE, ""): 9e9 + age * 1e7, (SampleKind.WAITING, "dead"): age}
                samples.take(connection, time.time() - 3600 + 60 * age, values)
        port = free_port()
        with served(application(opened(site.settings)), port):
            operator = Operator(f"http://127.0.0.1:{port}")
            operator.site, operator.study = site, study
            operator.login()
            yield operator


def test_nothing_is_shown_before_somebody_has_logged_in(site):
    stranger = Operator(site.url)
    for path in ("", "/orders", "/quarantine", "/search", "/study", "/destination"):
        answer = stranger.get(path, uid=site.study, name="keeper", q="ACC1")
        assert answer.status_code == 401
        assert "Operator key" in answer.text
        assert site.study not in answer.text.replace(html.escape(site.study), "")
    assert stranger.session.post(f"{site.url}/operator/act", data={"act": "pause"}, timeout=20).status_code == 403


@pytest.mark.parametrize("key", ["", "wrong", API_KEY])
def test_the_api_key_and_any_other_open_nothing(site, key):
    stranger = Operator(site.url)
    assert stranger.login(key=key).status_code == 403
    assert COOKIE not in stranger.session.cookies
    answer = requests.get(f"{site.url}/operator", headers={"X-API-Key": API_KEY, **BROWSER}, timeout=20)
    assert answer.status_code == 401


def test_who_guesses_is_not_looked_at_for_a_minute():
    sessions = Sessions(Path("/nonexistent"), KEY)
    for _ in range(10):
        assert sessions.may_try(100.0)
        sessions.note_wrong(100.0)
    assert not sessions.may_try(130.0)
    assert sessions.may_try(161.0)


def test_the_cookie_is_for_this_site_alone_and_for_eight_hours(site):
    person = Operator(site.url)
    answer = person.session.post(
        f"{site.url}/operator/login", data={"name": "A", "key": KEY}, timeout=20, allow_redirects=False
    )
    words = answer.headers["Set-Cookie"]
    assert {"HttpOnly", "Path=/", "Max-Age=28800"} <= {word.strip() for word in words.split(";")}
    assert "samesite=strict" in words.lower()
    assert KEY not in words
    sessions = Sessions(site.site.spool.root, KEY)
    cookie = sessions.cookie_of("Ana", now=1000.0)
    assert sessions.read(cookie, now=1000.0 + SECONDS).name == "Ana"
    assert sessions.read(cookie, now=1000.0 + SECONDS + 1) is None
    assert sessions.read(cookie, now=999.0) is None
    assert (
        sessions.read(cookie.replace("Ana", "Bob"), now=1000.0) is not None
    )  # the name is encoded; nothing changes
    assert Sessions(site.site.spool.root, "another").read(cookie, now=1000.0) is None
    for broken in ("", "x", cookie[:-1], "0." + cookie, "é" * 20, cookie + "0"):
        assert sessions.read(broken, now=1000.0) is None


def test_without_an_operator_key_there_is_no_page(tmp_path):
    settings = settings_of(tmp_path, shim={"operator_key": ""})
    with working(settings), served(application(opened(settings)), port := free_port()):
        for path in ("", "/login", "/act"):
            method = "GET" if not path else "POST"
            url = f"http://127.0.0.1:{port}/operator{path}"
            answer = requests.request(method, url, headers={"X-API-Key": API_KEY}, timeout=20)
            assert answer.status_code == 404
            assert requests.request(method, url, timeout=20).status_code == 401


def test_the_operator_key_must_not_be_the_api_key(tmp_path):
    settings = settings_of(tmp_path, shim={"operator_key": API_KEY})
    with working(settings), pytest.raises(Configuration, match="choose another"):
        opened(settings)


def test_the_first_page_tells_what_waits_why_and_until_when(site):
    text = site.text()
    assert f"study?uid={site.study}" in text
    assert "the destination does not answer" in text
    assert re.search(r'<span class="state down">down</span>', text)
    assert "modalities" in text
    assert text.count("<svg") == 5
    assert 'http-equiv="refresh"' in text
    assert site.text(span="week").count("<svg") == 5
    assert site.get(span="year").status_code == 400


@pytest.mark.parametrize(
    "path", ["", "/orders", "/quarantine", "/destination?name=dead", "/study?uid={study}", "/search?q=ACC1"]
)
def test_no_page_names_a_patient(site, path):
    text = site.text(path.format(study=site.study))
    assert 'data-label="<' not in text
    for secret in (PATIENT, PATIENT_ID, "DOE"):
        assert secret not in text


def test_the_whole_life_of_a_study_is_on_one_page(site):
    text = site.text("/study", uid=site.study)
    assert "The life of this study" in text
    assert "NameOfPhysiciansReadingStudy" in text
    assert "decoded again and compared" in text
    assert "JPEG 2000 Image Compression (Lossless Only) (1.2.840.10008.1.2.4.90)" in text
    assert re.search(r"instances?, [1-9]\d* kB of pixels to [1-9]\d* kB", text)
    assert re.search(r"keeper</a></td><td data-label=\"State\"><span class=\"state delivered\">", text)
    assert "(not shown)" in text or "DOE" not in text


def test_every_attempt_is_a_row_of_the_studys_page(site):
    section = site.text("/study", uid=site.study).split("<h2>Every attempt</h2>")[1].split("</section>")[0]
    rows = [re.sub(r"<[^>]+>", " ", row) for row in re.findall(r"<tr>(.*?)</tr>", section, re.DOTALL)[1:]]
    kept = [row for row in rows if " keeper " in row]
    assert len(kept) == 1
    assert "delivered" in kept[0]
    assert "2 of 2" in kept[0]
    assert platform.node() in kept[0]
    assert any(" dead " in row and "0 of 2" in row and "refused" in row.casefold() for row in rows)


def test_the_patient_is_shown_where_the_site_says_so(tmp_path):
    settings = settings_of(tmp_path, site={"show_names": True}, destinations=[DEAD])
    study = generate_uid()
    with working(settings) as (site, worker):
        arrive(site.spool, instance(tmp_path, StudyInstanceUID=study, PatientName=PATIENT, PatientID=PATIENT_ID))
        rounds(worker, until=lambda: status(settings, site.ledger)["deliveries"]["deferred"])
        with served(application(opened(settings)), port := free_port()):
            person = Operator(f"http://127.0.0.1:{port}")
            person.login()
            text = person.text("/study", uid=study)
            assert PATIENT in text
            assert PATIENT_ID in text
            assert PATIENT not in person.text()


@pytest.mark.parametrize("sought", ["ACC1", PATIENT_ID, "study", "PACS"])
def test_a_study_is_found_by_number_patient_uid_or_ae_title(site, sought):
    text = site.study if sought == "study" else sought
    assert f"study?uid={site.study}" in site.text("/search", q=text)


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("es", ["Qué espera", "Receptores", "Llegadas por hora", "aplazado"]),
        ("id", ["Yang menunggu", "Penerima", "Kedatangan per jam", "ditunda"]),
    ],
)
def test_the_page_speaks_the_language_of_its_reader(site, language, words):
    site.session.headers["Accept-Language"] = language
    try:
        text = site.text()
        assert f'<html lang="{language}">' in text
        for word in words:
            assert word in text, word
        for path in (
            "/orders",
            "/quarantine",
            f"/study?uid={site.study}",
            "/destination?name=dead",
            "/search?q=ACC1",
        ):
            assert f'<html lang="{language}">' in site.text(path)
    finally:
        del site.session.headers["Accept-Language"]


def test_what_nobody_knows_is_not_found(site):
    assert "Nothing is known of" in site.text("/search", q="NOBODY")
    assert site.get("/study", uid="1.2.3").status_code == 404
    assert site.get("/destination", name="nowhere").status_code == 404


@pytest.mark.parametrize("path", ["/search", "/study", "/destination"])
def test_what_is_typed_is_never_markup(site, path):
    answer = site.get(path, q=HOSTILE, uid=HOSTILE, name=HOSTILE)
    assert "<script" not in answer.text


def test_what_peers_and_people_wrote_is_never_markup(tmp_path):
    settings = settings_of(tmp_path, destinations=[DEAD])
    with working(settings) as (site, worker):
        arrive(site.spool, instance(tmp_path, StudyInstanceUID="1.2.3"))
        rounds(worker, until=lambda: status(settings, site.ledger)["deliveries"]["deferred"])
        with site.ledger.transaction() as connection:
            hostile = {
                "calling_ae_title": HOSTILE,
                "accession_number": HOSTILE,
                "modality": HOSTILE,
                "reason": HOSTILE,
            }
            change = {"keyword": HOSTILE, "before": HOSTILE, "after": HOSTILE, "rule": HOSTILE}
            connection.execute(instances.update().values(**hostile, changes=[change]))
            destination_states.change_row(connection, "dead", reason=HOSTILE, paused=True, paused_by=HOSTILE)
            act_records.add(connection, act_records.Act(time.time(), HOSTILE, "pause", "dead", HOSTILE))
        with served(application(opened(settings)), port := free_port()):
            person = Operator(f"http://127.0.0.1:{port}")
            person.login(name=HOSTILE)
            for path in (
                "",
                "/study?uid=1.2.3",
                "/destination?name=dead",
                "/orders",
                "/quarantine",
                f"/search?q={HOSTILE}",
            ):
                text = person.text(path)
                assert "<script>" not in text
                assert "&lt;script&gt;" in text


def test_every_page_forbids_scripts_of_others_and_is_not_kept(site):
    answer = site.get()
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert "style=" not in answer.text
    assert re.findall(r"<script[^>]*>", answer.text) == ['<script src="?asset=operator.js" defer>']


def test_an_act_without_the_token_of_the_session_is_refused(site):
    page = site.get("/destination", name="dead")
    other = Operator(site.url)
    other.login()
    token = re.search(r'name="token" value="([^"]+)"', other.text())[1]
    for shown in ("", "x", token):
        assert site.act(page, "pause", reason="by a stranger", token=shown).status_code == 403
    assert status(site.site.settings, site.site.ledger)["destinations"][1]["state"] == "down"


def test_a_destination_is_paused_and_resumed_and_the_log_says_by_whom(site, caplog):
    logging.getLogger("storestow").propagate = True
    caplog.set_level(logging.INFO, logger="storestow")
    answer = site.act(site.get("/destination", name="dead"), "pause", reason="it is being moved", by="Bo Ss")
    assert answer.status_code == 200
    (_, dead) = status(site.site.settings, site.site.ledger)["destinations"]
    assert (dead["state"], dead["paused_by"], dead["reason"]) == ("paused", "Bo Ss", "it is being moved")
    text = site.text("/destination", name="dead")
    assert "Bo Ss" in text
    assert "it is being moved" in text
    said = [record.message for record in caplog.records if record.message.startswith("operator what=pause")]
    assert said == ['operator what=pause subject=dead by="Bo Ss"']
    assert site.act(site.get("/destination", name="dead"), "resume").status_code == 200
    assert status(site.site.settings, site.site.ledger)["destinations"][1]["paused_by"] is None


@pytest.mark.parametrize(
    ("fields", "code"), [({"reason": "x"}, 409), ({"by": " "}, 400), ({"act": "format-disk"}, 400)]
)
def test_who_says_no_reason_or_no_name_does_nothing(site, fields, code):
    page = site.get("/destination", name="dead")
    assert site.act(page, "pause", **{"reason": "good enough", **fields}).status_code == code
    assert status(site.site.settings, site.site.ledger)["destinations"][1]["state"] == "down"


def test_what_is_set_aside_is_tried_again_or_deleted_with_a_reason(site):
    page = site.get("/quarantine")
    assert re.search(r"</span> 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d <span", page.text)  # as on every other page
    assert "not a DICOM file" in page.text
    refused = site.act(page, "release", reason="try once more")
    assert refused.status_code in {200, 409}
    answer = site.act(site.get("/quarantine"), "discard", reason="a text file of the vendor")
    assert answer.status_code == 200, answer.text
    assert "a text file of the vendor" in site.text()


def test_a_study_is_tried_again(site):
    answer = site.act(site.get("/study", uid=site.study), "retry")
    assert "1 deliveries are due again" in answer.text


def test_an_order_that_is_being_sent_is_not_cancelled_and_the_answer_says_so(tmp_path, caplog):
    logging.getLogger("storestow").propagate = True
    settings = settings_with_pacs(tmp_path, shim={"api_key": API_KEY, "operator_key": KEY})
    with working(settings) as (site, _), served(application(opened(settings)), port := free_port()):
        number, _ = waiting_order(site)
        row = {"destination": "nowhere", "receiver": "", "study_instance_uid": "1.2.3", "order_id": number}
        with site.ledger.transaction() as connection:
            times = {"created_at": 0.0, "due_at": 0.0}
            connection.execute(delivery.insert().values(**row, **times, state="sending"))
        person = Operator(f"http://127.0.0.1:{port}")
        person.login()
        answer = person.act(person.get("/orders"), "cancel", reason="asked for by mistake")
        assert answer.status_code == 409
        assert f"order {number} is being sent to nowhere just now" in answer.text
        assert look(site, number).state == OrderState.OPEN
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_the_pictures_say_what_they_show_and_escape_it():
    picture = str(bars(HOSTILE, {HOSTILE: {1000: 3.0, 1001: 4.0}}, 1000 * 3600, 1010 * 3600))
    assert "<script" not in picture
    assert picture.count("<rect") == 3  # two bars, one in the legend
    assert "<circle" in str(lines("x", {"a": [(10.0, 1.0), (20.0, 2.0)]}, 0.0, 30.0, mark=5.0))
    assert picture.count("figcaption") == 2  # its title, which is read aloud once
    assert "<title" not in picture
    assert 'aria-hidden="true"' in picture
    life = str(
        time_line("life", [TimeLineEvent("a", 0, 5, HOSTILE), TimeLineEvent("b", 5, 5, "end", is_bad=True)])
    )
    assert "<script" not in life
    assert 'class="bad"' in life


def test_pictures_of_nothing_are_pictures(site):
    for picture in (bars("x", {}, 0, 86400), lines("x", {}, 0, 86400), lines("x", {"a": []}, 0, 86400)):
        assert "<svg" in str(picture)
    with contextlib.suppress(ValueError):
        assert "<svg" in str(time_line("x", [TimeLineEvent("a", 0, 0, "")]))
