"""[alarm]: told once, by whatever works, within its time, and without a name or an ID."""

import dataclasses
import email.policy
import http.server
import json
import logging
import socket
import sys
import threading
import time

import pytest
from aiosmtpd.controller import Controller
from support.machine.dicom_programs import free_port, wait_until
from support.sites.fleet_sites import fleet_site
from support.sites.line_site import NULL, RECEIVER, all_settled, arrive, instance, rounds, settings_for, working

from pipeline.alarms import watch as watching
from pipeline.alarms.channels import Channels, Notification
from pipeline.alarms.conditions import Condition
from pipeline.alarms.messages import OVER_SECONDS, Message, ToldAlarms
from pipeline.alarms.watch import SiteWatch
from pipeline.commands.up import PartAlarms
from pipeline.config.alarm_tables import AlarmTable
from pipeline.errors import Transient
from pipeline.ledger import destination_states, heartbeat_studies, samples, told_alarms
from pipeline.ledger.told_alarms import ToldAlarm
from pipeline.processes.jobs import JobKey, JobKind
from pipeline.site.settings import Settings

NOW = 1_800_000_000.0
NOTIFICATION = Notification(
    "storestow gate: archive does not answer", "archive does not answer", "alarm", ("down:archive",)
)
LIMITS = {"again_after": 3600.0, "messages_an_hour": 3}
DOWN = Condition("down:archive", "archive does not answer")


class Mailbox:
    """A real mail server that keeps what it is given."""

    def __init__(self) -> None:
        self.messages = []

    async def handle_DATA(self, _server, _session, envelope):
        self.messages.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 OK"


@pytest.fixture
def mailbox():
    box = Mailbox()
    controller = Controller(box, hostname="127.0.0.1", port=free_port())
    controller.start()
    box.port = controller.port
    yield box
    controller.stop()


@pytest.fixture
def hook():
    """A real HTTP server that keeps what is posted to it."""
    posted = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posted.append((self.path, self.headers["Authorization"], json.loads(body)))
            self.send_response(500 if self.path == "/broken" else 204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    server.posted = posted
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def silent_port():
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def mail_to(port: int) -> dict:
    return {"host": "127.0.0.1", "port": port, "sender": "gate@x.example", "to": ["admin@x.example"]}


def command(tmp_path, code: str) -> tuple[str, ...]:
    script = tmp_path / "page.py"
    script.write_text(code)
    return (sys.executable, "-I", str(script), str(tmp_path / "paged"))


KEEPS = "import os, sys; open(sys.argv[1], 'w').write(os.environ['STORESTOW_SUBJECT'] + '|' + sys.stdin.read())"


def test_all_channels_get_the_letter(tmp_path, mailbox, hook, monkeypatch):
    monkeypatch.setenv("HOOK_TOKEN", "a-token")
    monkeypatch.setenv("STORESTOW_API_KEY", "secret")
    code = KEEPS.replace("sys.stdin.read()", "sys.stdin.read() + str('STORESTOW_API_KEY' in os.environ)")
    table = AlarmTable(
        command=command(tmp_path, code),
        mail=mail_to(mailbox.port),
        webhook={"url": f"http://127.0.0.1:{hook.server_port}/wake", "token_env": "HOOK_TOKEN"},
    )
    assert Channels(table).send(NOTIFICATION)
    assert (tmp_path / "paged").read_text() == f"{NOTIFICATION.subject}|{NOTIFICATION.text}\nFalse"
    (message,) = mailbox.messages
    assert (message["Subject"], message["To"]) == (NOTIFICATION.subject, "admin@x.example")
    assert message.get_content().strip() == NOTIFICATION.text
    ((path, token, body),) = hook.posted
    assert (path, token) == ("/wake", "Bearer a-token")
    assert body["alarms"] == ["down:archive"]
    assert NOTIFICATION.text in body["text"]


def test_a_channel_that_hangs_or_fails_holds_back_no_other(tmp_path, mailbox, hook, silent_port, caplog):
    logging.getLogger("storestow").propagate = True
    table = AlarmTable(
        command=command(tmp_path, "import time; time.sleep(60)"),
        mail=mail_to(mailbox.port),
        webhook={"url": f"http://127.0.0.1:{silent_port}/"},
        timeout="1s",
    )
    began = time.monotonic()
    assert Channels(table).send(NOTIFICATION)
    assert time.monotonic() - began < 6
    assert len(mailbox.messages) == 1
    told = [message for message in caplog.messages if message.startswith("alarm-not-sent")]
    assert {word for message in told for word in ("command", "webhook") if f"channel={word}" in message} == {
        "command",
        "webhook",
    }


def test_a_letter_nobody_took_was_not_sent(tmp_path, hook):
    table = AlarmTable(
        command=command(tmp_path, "raise SystemExit(3)"),
        mail=mail_to(free_port()),
        webhook={"url": f"http://127.0.0.1:{hook.server_port}/broken"},
    )
    assert not Channels(table).send(NOTIFICATION)


def test_an_alarm_is_told_once_then_again_after_a_time_and_its_end_once():
    told = ToldAlarms()
    first = told.look([DOWN], NOW, **LIMITS)
    assert first == Message(new=(DOWN,))
    told.sent(first, NOW)
    assert not told.look([DOWN], NOW + 60, **LIMITS)
    again = told.look([DOWN], NOW + 3600, **LIMITS)
    assert again == Message(going_on=(DOWN,))
    told.sent(again, NOW + 3600)
    assert not told.look([], NOW + 3700, **LIMITS)
    assert not told.look([DOWN], NOW + 3760, **LIMITS)  # it flickers: the same alarm
    assert not told.look([], NOW + 3800, **LIMITS)
    over = told.look([], NOW + 3800 + OVER_SECONDS, **LIMITS)
    assert over == Message(over=("down:archive",))
    told.sent(over, NOW + 3800 + OVER_SECONDS)
    assert told.known == []
    assert told.look([DOWN], NOW + 20_000, **LIMITS) == Message(new=(DOWN,))


def test_an_alarm_whose_condition_cannot_be_looked_at_stays_as_it_was():
    told = ToldAlarms()
    told.sent(told.look([DOWN], NOW, **LIMITS), NOW)
    for seconds in (60, 60 + OVER_SECONDS, 3000):
        assert not told.look([], NOW + seconds, unseen={DOWN.key}, **LIMITS)
    assert not told.look([DOWN], NOW + 3100, **LIMITS)
    assert not told.look([], NOW + 3200, **LIMITS)
    late = NOW + 3300 + OVER_SECONDS
    assert not told.look([], late, unseen={DOWN.key}, **LIMITS)  # it may hold again by now
    assert told.look([], late + 60, **LIMITS) == Message(over=(DOWN.key,))


def test_what_an_earlier_process_reported_is_remembered_and_what_this_one_reported_is_newer():
    told = ToldAlarms()
    told.look([dataclasses.replace(DOWN, after=120.0)], NOW, **LIMITS)
    told.sent(told.look([Condition("ledger", "x")], NOW, unseen={DOWN.key}, **LIMITS), NOW)
    told.remember([ToldAlarm(DOWN.key, NOW - 900, NOW - 800, None), ToldAlarm("ledger", 1.0, 2.0, 3.0)])
    assert {(alarm.key, alarm.told_at) for alarm in told.known} == {(DOWN.key, NOW - 800), ("ledger", NOW)}
    assert not told.look([DOWN, Condition("ledger", "x")], NOW + 200, **LIMITS)


def test_what_is_over_at_once_wakes_nobody():
    told = ToldAlarms()
    patient = dataclasses.replace(DOWN, after=120.0)
    assert not told.look([patient], NOW, **LIMITS)
    assert not told.look([], NOW + 60, **LIMITS)
    assert not told.look([patient], NOW + 150, **LIMITS)
    assert told.look([patient], NOW + 280, **LIMITS)


def test_more_messages_than_an_hour_may_have_come_together_in_the_next():
    told = ToldAlarms()
    for number in range(3):
        message = told.look([Condition(f"{n}", "x") for n in range(number + 1)], NOW + number, **LIMITS)
        assert message
        told.sent(message, NOW + number)
    many = [Condition(f"{n}", "x") for n in range(9)]
    assert not told.look(many, NOW + 10, **LIMITS)
    later = told.look(many, NOW + 3601, **LIMITS)
    assert [condition.key for condition in later.new] == ["3", "4", "5", "6", "7", "8"]


def test_a_clock_set_back_neither_repeats_nor_silences_an_alarm():
    told = ToldAlarms()
    told.sent(told.look([DOWN], NOW, **LIMITS), NOW)
    assert not told.look([DOWN], NOW - 86400, **LIMITS)
    assert told.look([DOWN, Condition("x", "x")], NOW - 86400, **LIMITS).new


def settings_with_alarm(tmp_path, alarm: dict, **more) -> Settings:
    settings = settings_for(tmp_path, **more)
    return settings.model_copy(update={"alarm": AlarmTable(**alarm)})


def test_a_site_that_is_down_stays_so_while_our_own_ledger_cannot_be_read(tmp_path, monkeypatch):
    dead = fleet_site(tmp_path, "dead", free_port())
    settings = settings_with_alarm(tmp_path, {}).model_copy(update={"fleet": [dead]})
    with working(settings) as (site, _):
        site_watch = SiteWatch(site.settings, site.ledger)
        site_watch._fleet.ask_once()
        for reads in (True, False):
            if not reads:
                monkeypatch.setattr(site.ledger, "reading", cannot_be_read)
            site_watch.look(time.time(), time.monotonic())
            told = {alarm.key: alarm for alarm in site_watch._told.known}
            assert ("ledger" in told) != reads
            assert told["site:dead"].ended_at is None


def cannot_be_read(*_):
    raise Transient("the disk of the ledger does not answer")


def test_while_the_ledger_cannot_be_read_no_alarm_ends_and_a_restart_repeats_none(tmp_path, mailbox, monkeypatch):
    (tmp_path / "rubbish").write_bytes(b"no DICOM at all")
    with working(settings_with_alarm(tmp_path, {"mail": mail_to(mailbox.port)})) as (site, worker):
        arrive(site.spool, tmp_path / "rubbish")
        rounds(worker, until=lambda: not list(site.spool.arrivals.iterdir()))
        began = time.time()

        def look_at(site_watch: SiteWatch, *seconds: float) -> None:
            for later in seconds:
                site_watch.look(began + later, time.monotonic() + later)

        first, restarted = SiteWatch(site.settings, site.ledger), SiteWatch(site.settings, site.ledger)
        look_at(first, 0)
        with monkeypatch.context() as broken:
            broken.setattr(site.ledger, "reading", cannot_be_read)
            look_at(first, 60, 1000, 2000)
            look_at(restarted, 2060, 3000)
        look_at(restarted, 3060, 4000)
        with site.ledger.reading() as connection:
            assert {alarm.key for alarm in told_alarms.read(connection)} >= {"quarantine"}
    said = [line for message in mailbox.messages for line in message.get_content().splitlines()]
    assert sum("in quarantine" in line for line in said) == 1
    assert (
        sum("the ledger cannot be read" in line for line in said) == 2
    )  # the restarted one cannot know of the first
    assert [line for line in said if line.startswith("over:")] == ["over: ledger"]


def test_what_the_ledger_did_not_take_is_kept_by_the_next_look(tmp_path, monkeypatch):
    (tmp_path / "rubbish").write_bytes(b"no DICOM at all")
    with working(settings_with_alarm(tmp_path, {})) as (site, worker):
        arrive(site.spool, tmp_path / "rubbish")
        rounds(worker, until=lambda: not list(site.spool.arrivals.iterdir()))
        site_watch = SiteWatch(site.settings, site.ledger)
        with monkeypatch.context() as broken:
            broken.setattr(told_alarms, "write", cannot_be_read)
            site_watch.look(time.time(), time.monotonic())
        site_watch.look(time.time() + 30, time.monotonic() + 30)
        with site.ledger.reading() as connection:
            assert {alarm.key for alarm in told_alarms.read(connection)} >= {"quarantine"}


def test_the_worker_tells_of_what_is_stuck_and_a_new_worker_not_again(tmp_path, mailbox):
    dead = {"name": "dead", "kind": "stow", "url": "http://127.0.0.1:1/rs/studies"}
    (tmp_path / "rubbish").write_bytes(b"no DICOM at all")
    file = instance(tmp_path, PatientName="DOE^JANE", PatientID="4711", AccessionNumber="ACC99")
    settings = settings_with_alarm(tmp_path, {"mail": mail_to(mailbox.port)}, destinations=[dead])
    with working(settings) as (site, worker):
        arrive(site.spool, file)
        arrive(site.spool, tmp_path / "rubbish")

        def is_down() -> bool:
            with site.ledger.reading() as look:
                return destination_states.down_since(look, "dead") is not None

        rounds(worker, until=is_down)
        site_watch = SiteWatch(site.settings, site.ledger)
        for seconds in (0, 130, 160):
            site_watch.look(time.time() + seconds, time.monotonic() + seconds)
        SiteWatch(site.settings, site.ledger).look(time.time() + 200, time.monotonic())
        with site.ledger.reading() as look:
            assert {alarm.key for alarm in told_alarms.read(look)} >= {"down:dead", "quarantine"}
            assert {sample.kind for sample in samples.since(look, 0)} == {"free", "ledger", "waiting", "oldest"}
    text = "".join(f"{message['Subject']}{message.get_content()}" for message in mailbox.messages)
    assert text.count("destination dead does not answer") == 1 + text.count(
        "storestow " + socket.gethostname() + ": destination dead"
    )
    assert "1 in quarantine" in text
    for secret in ("DOE", "4711", "ACC99", "1.2.826", "1.3.6.1"):
        assert secret not in text


def test_a_worker_in_its_rounds_looks_and_is_none_the_slower_for_a_dead_mail_server(
    tmp_path, silent_port, monkeypatch
):
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.0)
    (tmp_path / "rubbish").write_bytes(b"no DICOM at all")
    settings = settings_with_alarm(tmp_path, {"mail": mail_to(silent_port), "timeout": "60s"})
    with working(settings) as (site, worker):
        arrive(site.spool, tmp_path / "rubbish")
        wait_until(lambda: (worker.round(), JobKey(JobKind.WATCH) in worker._jobs.running())[1], what="a look")
        arrive(site.spool, instance(tmp_path))
        began = time.monotonic()
        wait_until(lambda: (worker.round(), all_settled(site)())[1], seconds=30, what="the study to be settled")
        assert time.monotonic() - began < 30


def test_the_summary_comes_once_a_day_at_its_time(tmp_path, mailbox):
    in_three_hours = time.strftime("%H:%M", time.localtime(time.time() + 3 * 3600))  # 50 hours hold it twice
    alarm = {"mail": mail_to(mailbox.port), "summary_at": in_three_hours}
    with working(settings_with_alarm(tmp_path, alarm)) as (site, worker):
        arrive(site.spool, instance(tmp_path))
        rounds(worker, until=all_settled(site))
        site_watch = SiteWatch(site.settings, site.ledger)
        began = time.time()
        for hours in range(50):
            site_watch.look(began + hours * 3600, time.monotonic() + hours * 3600)
    summaries = [message for message in mailbox.messages if "summary of the day" in message["Subject"]]
    assert len(summaries) == 2
    text = summaries[0].get_content()
    assert "received by modalities: 1 studies, 1 instances" in text
    assert "delivered to nowhere: 1 studies" in text


def test_up_tells_of_a_part_once(mailbox):
    alarms = PartAlarms(AlarmTable(mail=mail_to(mailbox.port)))
    for _ in range(3):
        alarms.tell("worker", "the worker was silent for a minute; it is started again")
    wait_until(lambda: mailbox.messages, what="the mail")
    (message,) = mailbox.messages
    assert "the worker was silent" in message["Subject"]


def test_a_heartbeat_study_that_is_not_verified_in_time_is_an_alarm(tmp_path):
    tables = {"receivers": [{**RECEIVER, "port": free_port()}]}
    alarm = {"heartbeat": {"receiver": "modalities", "every": "10m", "within": "5m"}}
    with working(settings_with_alarm(tmp_path, alarm, **tables)) as (site, _):  # nobody listens there
        site_watch = SiteWatch(site.settings, site.ledger)
        site_watch.look(time.time(), time.monotonic())
        with site.ledger.reading() as look:
            sent = heartbeat_studies.read(look, None)
            assert {alarm.key for alarm in told_alarms.read(look)} >= {"heartbeat-study"}
    assert sent is not None
    assert sent.verified_at is None
    assert sent.is_missed


@pytest.mark.parametrize(
    ("heartbeat", "words"),
    [({"receiver": "modalitis"}, "did you mean modalities"), ({"receiver": "aside"}, "delivers somewhere")],
)
def test_a_heartbeat_needs_a_receiver_that_delivers(tmp_path, heartbeat, words):
    receivers = [{**RECEIVER, "to": ["nowhere"]}, {**RECEIVER, "name": "aside", "port": 11113, "to": []}]
    table = {"folder": tmp_path, "site": {"spool": str(tmp_path)}, "receiver": receivers, "destination": [NULL]}
    with pytest.raises(ValueError, match=words):
        Settings.model_validate({**table, "alarm": {"heartbeat": heartbeat}})
