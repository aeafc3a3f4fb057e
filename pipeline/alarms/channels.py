"""The channels for messages: a command, mail, a webhook. Each has a deadline and fails alone."""

import json
import logging
import os
import smtplib
import ssl
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from pipeline.config import secret
from pipeline.config.alarm_tables import AlarmTable, MailTable, WebhookTable
from pipeline.dcmtk import processes
from pipeline.dicomweb.auth import NoAuth
from pipeline.dicomweb.http_client import HttpClient, HttpTimeouts
from pipeline.errors import StorestowError, Transient
from pipeline.events import Event, alarm, emit, traced

# Variables of our environment that the command gets; the others may hold secrets.
_PASSED_ON = ("PATH", "HOME", "LANG", "TZ")


@dataclass(frozen=True, slots=True)
class Notification:
    """A message in words: subject and body of a mail; `keys` are those of its alarms."""

    subject: str
    text: str
    kind: str  # "alarm" | "summary"
    keys: tuple[str, ...] = ()


@dataclass(slots=True)
class Channels:
    """The channels of one site. A channel that hangs beyond its deadline is not used until it returns."""

    table: AlarmTable
    _hanging: dict[str, threading.Thread] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Return the names of the configured channels."""
        return list(self._ways())

    def _ways(self) -> dict[str, Callable[[Notification], None]]:
        seconds = self.table.timeout.total_seconds()
        ways: dict[str, Callable[[Notification], None]] = {}
        if self.table.command:
            ways["command"] = lambda notification: _run(self.table.command, notification, seconds)
        if (mail := self.table.mail) is not None:
            ways["mail"] = lambda notification: _send_mail(mail, notification, seconds)
        if (webhook := self.table.webhook) is not None:
            ways["webhook"] = lambda notification: _post(webhook, notification, seconds)
        return ways

    def send(self, notification: Notification) -> bool:
        """Send a message by all channels at once.

        Return whether any accepted it, or only the log is configured.
        """
        ways = self._ways()
        threads = {name: self._start(name, way, notification) for name, way in ways.items()}
        took = [name for name, attempt in threads.items() if attempt and self._ended_well(name, attempt)]
        return bool(took) or not ways

    def _start(
        self, name: str, way: Callable[[Notification], None], notification: Notification
    ) -> "_Attempt | None":
        before = self._hanging.get(name)
        if before is not None and before.is_alive():
            alarm(Event.ALARM_NOT_SENT, channel=name, reason="an earlier attempt has not ended")
            return None
        attempt = _Attempt(way, notification)
        self._hanging[name] = attempt.thread
        attempt.thread.start()
        return attempt

    def _ended_well(self, name: str, attempt: "_Attempt") -> bool:
        attempt.thread.join(self.table.timeout.total_seconds() + 1.0)
        reason = attempt.reason
        if attempt.thread.is_alive():
            reason = f"has not ended within {self.table.timeout.total_seconds():g} s"
        if reason is not None:
            alarm(Event.ALARM_NOT_SENT, channel=name, reason=reason)
        else:
            emit(Event.ALARM_SENT, logging.INFO, channel=name, kind=attempt.notification.kind)
        return reason is None


class _Attempt:
    """One attempt of one channel, in a thread that dies with the process."""

    def __init__(self, way: Callable[[Notification], None], notification: Notification) -> None:
        self.notification = notification
        self.reason: str | None = None
        self._way = way
        self.thread = threading.Thread(target=self._try, name="alarm", daemon=True)

    def _try(self) -> None:
        try:
            self._way(self.notification)
        except (StorestowError, OSError, smtplib.SMTPException) as error:
            self.reason = str(error) or type(error).__name__
        except Exception as error:  # noqa: BLE001  # a bug in one channel must not keep the others from waking somebody
            self.reason = traced(error)


def _run(argv: tuple[str, ...], notification: Notification, seconds: float) -> None:
    """Start the command with the message on standard input; raises Transient unless it ends with 0 in time."""
    ours = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    told = {
        "STORESTOW_SUBJECT": notification.subject,
        "STORESTOW_KIND": notification.kind,
        "STORESTOW_KEYS": " ".join(notification.keys),
    }
    with tempfile.TemporaryFile() as text:
        text.write(f"{notification.text}\n".encode())
        text.seek(0)
        code = processes.run_to_end(argv, {**ours, **told}, stdin=text, timeout_seconds=seconds)
    if code:
        raise Transient(f"{argv[0]} ended with {code}")


def _send_mail(table: MailTable, notification: Notification, seconds: float) -> None:
    message = EmailMessage()
    message["Subject"] = notification.subject
    message["From"] = table.sender
    message["To"] = ", ".join(table.to)
    message["Date"] = formatdate(localtime=True)
    message["Message-ID"] = make_msgid(domain=table.sender.rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: automatic replies do not come back.
    message.set_content(notification.text)
    context = ssl.create_default_context()
    if table.security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(table.host, table.port, timeout=seconds, context=context)
    else:
        server = smtplib.SMTP(table.host, table.port, timeout=seconds)
    with server:
        if table.security == "starttls":
            server.starttls(context=context)
        if table.user:
            server.login(table.user, secret.read("password", table.password_env, table.password_file))
        if refused := server.send_message(message):
            raise Transient(f"the mail server refused {len(refused)} of {len(table.to)} addresses")


def _post(table: WebhookTable, notification: Notification, seconds: float) -> None:
    headers = {"Accept": "*/*"}
    if table.token_env is not None or table.token_file is not None:
        headers["Authorization"] = f"Bearer {secret.read('token', table.token_env, table.token_file)}"
    body = {
        "text": f"{notification.subject}\n{notification.text}",  # Chat programs show this key.
        "subject": notification.subject,
        "kind": notification.kind,
        "alarms": list(notification.keys),
    }
    waits = HttpTimeouts(min(seconds, 10.0), seconds, seconds)
    with HttpClient(NoAuth(), waits, ca_bundle=table.ca_bundle, headers=headers) as client:
        reply = client.post_json(table.url, json.dumps(body).encode())
    if not 200 <= reply.status < 300:
        raise Transient(f"the webhook answers {reply.status}")
