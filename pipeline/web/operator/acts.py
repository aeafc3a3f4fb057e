"""What a person may do on the operator's page; each act calls the same function as the command of its name."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pipeline.events import Event, emit
from pipeline.ledger import Ledger, act_records
from pipeline.ledger.act_records import Act
from pipeline.line import other_patient, quarantine
from pipeline.operate import accept, pause, reroute, retry
from pipeline.orders.finish import cancel
from pipeline.site.reason import reason_of
from pipeline.site.settings import Settings
from pipeline.spool.spool import Spool

WHY = "why, for the others"


@dataclass(frozen=True, slots=True)
class Asked:
    """The content of a form: the subject, the reason, and the person."""

    subject: str
    reason: str
    by: str
    to: str = ""  # For `reroute`.


@dataclass(frozen=True, slots=True)
class ActDone:
    """What was done: the key of its words, and their values."""

    key: str
    subject: str = ""
    count: int = 0


@dataclass(frozen=True, slots=True)
class OperatorAct:
    """One kind of act: its function, whether it needs a reason, and the page of its subject."""

    do: Callable[[Asked, Settings, Spool, Ledger], ActDone]
    needs_reason: bool
    page: str  # Name of the page, and of the parameter that names the subject there.


def _pause(asked: Asked, settings: Settings, _spool: Spool, ledger: Ledger) -> ActDone:
    pause.pause(settings, ledger, asked.subject, asked.reason, asked.by)
    return ActDone("pause", asked.subject)


def _resume(asked: Asked, settings: Settings, _spool: Spool, ledger: Ledger) -> ActDone:
    pause.resume(settings, ledger, asked.subject, asked.by)
    return ActDone("resume", asked.subject)


def _retry_destination(asked: Asked, settings: Settings, _spool: Spool, ledger: Ledger) -> ActDone:
    settings.destination_named(asked.subject)
    numbers = retry.retry(ledger, None, asked.subject, release_guard=False)
    return ActDone("due", count=len(numbers))


def _retry_study(asked: Asked, _settings: Settings, _spool: Spool, ledger: Ledger) -> ActDone:
    numbers = retry.retry(ledger, asked.subject, None, release_guard=False)
    return ActDone("due", count=len(numbers))


def _reroute(asked: Asked, settings: Settings, _spool: Spool, ledger: Ledger) -> ActDone:
    numbers = reroute.reroute(settings, ledger, asked.subject, asked.to)
    return ActDone("reroute", asked.to, len(numbers))


def _accept(asked: Asked, _settings: Settings, spool: Spool, ledger: Ledger) -> ActDone:
    _, count = accept.accept(spool, ledger, asked.subject, None, asked.reason)
    return ActDone("accept", count=count)


def _cancel(asked: Asked, _settings: Settings, _spool: Spool, ledger: Ledger) -> ActDone:
    number = int(asked.subject) if asked.subject.isascii() and asked.subject.isdigit() else 0
    cancel(ledger, number, asked.reason)
    return ActDone("cancel", str(number))


def _release(asked: Asked, _settings: Settings, spool: Spool, ledger: Ledger) -> ActDone:
    quarantine.release(asked.subject, spool, ledger)
    return ActDone("release", asked.subject)


def _discard(asked: Asked, _settings: Settings, spool: Spool, ledger: Ledger) -> ActDone:
    deleted = quarantine.discard(asked.subject, spool, ledger)
    return ActDone("discard", count=len(deleted))


def _release_study(asked: Asked, settings: Settings, spool: Spool, ledger: Ledger) -> ActDone:
    placeholders = settings.site.placeholder_ids
    count = other_patient.release_study(asked.subject, asked.reason, placeholders, spool, ledger)
    return ActDone("release_study", count=count)


def _discard_study(asked: Asked, _settings: Settings, spool: Spool, ledger: Ledger) -> ActDone:
    return ActDone("discard", count=len(other_patient.discard_study(asked.subject, spool, ledger)))


ACTS: Mapping[str, OperatorAct] = {
    "pause": OperatorAct(_pause, needs_reason=True, page="destination"),
    "resume": OperatorAct(_resume, needs_reason=False, page="destination"),
    "retry-destination": OperatorAct(_retry_destination, needs_reason=False, page="destination"),
    "reroute": OperatorAct(_reroute, needs_reason=True, page="destination"),
    "retry": OperatorAct(_retry_study, needs_reason=False, page="study"),
    "accept": OperatorAct(_accept, needs_reason=True, page="study"),
    "cancel": OperatorAct(_cancel, needs_reason=True, page="orders"),
    "release": OperatorAct(_release, needs_reason=True, page="quarantine"),
    "discard": OperatorAct(_discard, needs_reason=True, page="quarantine"),
    "release-study": OperatorAct(_release_study, needs_reason=True, page="study"),
    "discard-study": OperatorAct(_discard_study, needs_reason=True, page="study"),
}


def act(kind: str, asked: Asked, settings: Settings, ledger: Ledger) -> ActDone:
    """Do what a form asks for, and return what was done.

    The act is logged with the typed name, and kept in the ledger with the reason. Raises KeyError for an unknown
    kind, Usage if a required reason is missing, and what the command raises.
    """
    wanted = ACTS[kind]
    if wanted.needs_reason:
        reason_of(asked.reason, WHY)
    done = wanted.do(asked, settings, settings.spool, ledger)
    with ledger.transaction() as connection:
        act_records.add(connection, Act(time.time(), asked.by, kind, asked.subject, asked.reason or None))
    emit(Event.OPERATOR, what=kind, subject=asked.subject, by=asked.by)
    return done
