"""[alarm]: whom to wake, by what, and when (docs/monitoring.md)."""

import re
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pipeline.config.keys import AbsolutePath, Duration, Host, Name, Port, Table

_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+")
_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]|")
SHORTEST_HEARTBEAT = timedelta(minutes=1)


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise ValueError("write one mail address, as pacs-admin@hospital.example")
    return text


def _time_of_day(text: str) -> str:
    if not _TIME.fullmatch(text):
        raise ValueError('write a time of day of this machine as "07:00", or "" for no summary')
    return text


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError("write an address that begins with http:// or https://")
    return text


MailAddress = Annotated[str, AfterValidator(_address)]
TimeOfDay = Annotated[str, AfterValidator(_time_of_day)]
Deadline = Annotated[Duration, Field(gt=timedelta(0), le=timedelta(minutes=10))]


class MailTable(Table):
    """[alarm] mail: the mail server, and who gets messages."""

    host: Host
    """Mail server. Example: `"mail.hospital.example"`"""
    port: Port = 25
    """Its TCP port: 25 or 587 with "starttls", 465 with "tls"."""
    security: Literal["none", "starttls", "tls"] = "none"
    """How the connection is encrypted; the server's certificate is verified."""
    sender: MailAddress
    """Address the messages come from. Example: `"storestow@hospital.example"`"""
    to: Annotated[tuple[MailAddress, ...], Field(min_length=1)]
    """Addresses they go to. Example: `["pacs-admin@hospital.example"]`"""
    user: str = ""
    """Name to log in with; empty logs in not at all. Example: `"storestow"`"""
    password_env: str | None = None
    """Environment variable that holds the password. Example: `"STORESTOW_MAIL_PASSWORD"`"""
    password_file: AbsolutePath | None = None
    """File that holds it, readable by its owner alone. Example: `"/etc/storestow/mail.password"`"""

    @model_validator(mode="after")
    def _has_a_password_where_it_logs_in(self) -> Self:
        given = (self.password_env is not None) + (self.password_file is not None)
        if given != bool(self.user):
            raise ValueError("user and one of password_env and password_file belong together")
        return self


class WebhookTable(Table):
    """[alarm] webhook: an address that gets each message as JSON by POST."""

    url: Annotated[str, AfterValidator(_url)]
    """Address. Example: `"https://chat.hospital.example/hooks/storestow"`"""
    token_env: str | None = None
    """Environment variable with a bearer token. Example: `"STORESTOW_WEBHOOK_TOKEN"`"""
    token_file: AbsolutePath | None = None
    """File with it, readable by its owner alone. Example: `"/etc/storestow/webhook.token"`"""
    ca_bundle: AbsolutePath | None = None
    """Certificates that sign the server's. Example: `"/etc/ssl/hospital-ca.pem"`"""

    @model_validator(mode="after")
    def _has_one_token(self) -> Self:
        if self.token_env is not None and self.token_file is not None:
            raise ValueError("write one of token_env and token_file")
        return self


class HeartbeatStudyTable(Table):
    """[alarm] heartbeat: a study of one small image that is sent through the whole line again and again."""

    receiver: Name
    """Receiver it is sent to; its `to` says where it goes, so give it one of its own with a destination that may
    have it. Example: `"heartbeat"`"""
    every: Annotated[Duration, Field(ge=SHORTEST_HEARTBEAT)] = timedelta(minutes=30)
    """How often."""
    within: Duration = timedelta(minutes=15)
    """How soon each must be verified at every destination; later is an alarm."""
    calling_ae_title: Annotated[str, Field(pattern=r"^[A-Z0-9_]{1,16}$")] = "STORESTOW_HB"
    """AE title it is sent as."""


class AlarmTable(Table):
    """[alarm]: whom to wake, by what, and when. Without it alarms are in the log alone."""

    command: tuple[str, ...] = ()
    """Program with its arguments, no shell; it gets the message on standard input, and STORESTOW_SUBJECT in its
    environment. Example: `["/usr/local/bin/page-somebody", "--pacs"]`"""
    mail: MailTable | None = None
    """Mail. Example: `{ host = "mail.example", sender = "gate@x.example", to = ["admin@x.example"] }`"""
    webhook: WebhookTable | None = None
    """HTTP. Example: `{ url = "https://chat.example/hook" }`"""
    timeout: Deadline = timedelta(seconds=30)
    """How long each of command, mail and webhook may take."""
    again_after: Duration = timedelta(hours=12)
    """An alarm that goes on is told again after this time."""
    messages_an_hour: Annotated[int, Field(ge=1, le=60)] = 6
    """Messages within an hour; what would be more waits, and comes together in the next."""
    summary_at: TimeOfDay = ""
    """Time of day, of this machine, of a daily summary; empty sends none. Example: `"07:00"`"""
    stuck_after: Duration = timedelta(hours=1)
    """A delivery that waits longer than this is an alarm, unless its destination is paused."""
    paused_after: Duration = timedelta(hours=12)
    """A destination that is paused longer than this is an alarm."""
    silence: bool = True
    """Whether an AE title that is silent when it has never been in the last weeks is an alarm."""
    heartbeat: HeartbeatStudyTable | None = None
    """A study that goes through the whole line; off where it is not written.
    Example: `{ receiver = "heartbeat", every = "30m" }`"""

    @model_validator(mode="after")
    def _names_a_program(self) -> Self:
        if self.command and not self.command[0].startswith("/"):
            raise ValueError("command begins with the absolute path of a program")
        return self
