"""Compute what the page of an order shows; templates/order.html renders it. Pure."""

import time
from dataclasses import dataclass, field
from typing import Literal

from pipeline.dicom.accession import LONGEST_OF_THE_STANDARD
from pipeline.languages import Translation
from pipeline.model import OrderError, OrderStage, OrderState
from pipeline.orders import OrderView
from pipeline.web import differing_patients
from pipeline.web.order_request import Verb
from pipeline.web.result_body import arrived, falls_short, served, shortfall

Mood = Literal["working", "good", "bad"]
StepState = Literal["done", "current", "ahead", "failed"]

REFRESH_SECONDS = 2
LEAST_SECONDS, LEAST_RECEIVED = 3.0, 3  # Of a retrieval, before its end is estimated.
_MOST_REASONS = 20  # Reasons shown for left-out instances, for technical support; JSON has them all.
_REACHED = {  # The number of completed steps of an order at this stage.
    OrderStage.PLACED: 0,
    OrderStage.FINDING: 0,
    OrderStage.QUEUED: 2,
    OrderStage.MOVING: 2,
    OrderStage.RECEIVING: 2,
    OrderStage.PREPARING: 3,
    OrderStage.DELIVERING: 3,
}
_FAILED_AT = {  # The step at which an error stopped the order.
    OrderError.NO_DATA: 1,
    OrderError.MORE_THAN_ONE_PATIENT: 1,
    OrderError.PATIENT_UNKNOWN: 1,
    OrderError.PATIENTS_UNAVAILABLE: 1,
    OrderError.PACS_UNREACHABLE: 1,
    OrderError.RECEIVER_NOT_READY: 2,
    OrderError.MOVE_INCOMPLETE: 2,
    OrderError.MOVE_TIMED_OUT: 2,
    OrderError.DISC_FAILED: 3,
    OrderError.PUBLISHER_UNREACHABLE: 3,
    OrderError.RELAY_FAILED: 3,
    OrderError.RELAY_INCOMPLETE: 3,
}
_KIND_OF_VERB = {
    Verb.DOWNLOAD: "download",
    Verb.DOWNLOAD_MULTIPLE: "download",
    Verb.PRINT: "print",
    Verb.FORWARD: "forward",
}


@dataclass(frozen=True, slots=True)
class PageStep:
    """One of the five steps; `said` is its state in words, for people who do not see the colour."""

    name: str
    state: StepState
    said: str


@dataclass(frozen=True, slots=True)
class OrderButton:
    """A button that places another order; `fields` are its hidden fields."""

    text: str
    fields: dict[str, str]
    is_main: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Everything templates/order.html shows."""

    title: str
    heading: str
    mood: Mood
    steps: tuple[PageStep, ...]
    accessions: tuple[str, ...]
    advice: str = ""
    lines: tuple[str, ...] = ()
    progress: tuple[int, int] | None = None  # (value, maximum); None if the progress is unknown.
    buttons: tuple[OrderButton, ...] = ()
    download: str = ""  # The text of the link to the file.
    technical: str = ""
    differing: tuple[str, ...] = ()  # The attributes in which the sources name two patients.
    noted: tuple[str, ...] = ()  # Differences that did not stop the order.
    # What the file lacks; this is shown before the file is fetched, by a further click.
    short: tuple[str, ...] = ()
    refresh: int | None = None  # seconds
    may_cancel: bool = False
    correct: str = ""  # The refused numbers, for a field in which they can be corrected.
    facts: dict[str, str] = field(default_factory=dict)


def kind_of(view: OrderView) -> str:
    """Return `download`, `print` or `forward`."""
    return _KIND_OF_VERB[Verb(view.verb)]


def page_of(view: OrderView, words: Translation, *, patient_name: str = "", address: str = "") -> Page:
    """Return the page of an order in its current state."""
    if view.state == OrderState.OPEN:
        return _working(view, words)
    if served(view):
        return _served(view, words, patient_name, address)
    return _failed(view, words, address)


def _working(view: OrderView, words: Translation) -> Page:
    behind = _REACHED.get(view.stage, 3)
    stage = str(view.stage)
    if view.stage in {OrderStage.DELIVERING, OrderStage.ENDED}:
        stage = "making" if kind_of(view) == "download" else "sending"
    return Page(
        title=words.say(f"page.title_{kind_of(view)}"),
        heading=words.say(f"now.{stage}"),
        mood="working",
        steps=_steps(view, words, behind, "current"),
        accessions=view.accessions,
        lines=(
            *_found(view, words),
            *_received(view, words),
            *_ahead(view, words),
            *_left(view, words),
            *_long(view, words),
        ),
        progress=_progress(view),
        may_cancel=True,
        technical=view.detail or "",
        refresh=REFRESH_SECONDS,
    )


def _served(view: OrderView, words: Translation, patient_name: str, address: str) -> Page:
    kind = kind_of(view)
    facts = {words.say("page.patient"): patient_name} if patient_name else {}
    if kind != "download":
        facts[words.say("page.destination")] = address
    short = shortfall(view, words) if kind == "download" else ()
    lines = [*_found(view, words), *([] if short else _shortcomings(view, words))]
    if kind != "download":
        lines.append(words.count("count.sent", arrived(view)))
    if view.ended_at:
        lines.append(
            words.say("count.sent_at", time=time.strftime("%Y-%m-%d %H:%M", time.localtime(view.ended_at)))
        )
    if view.late:
        lines.append(words.count("count.late", view.late))
    lines += _long(view, words)
    is_gone = kind == "download" and view.result is None
    return Page(
        title=words.say(f"page.title_{kind}"),
        heading=words.say(f"now.{_outcome(view, kind)}"),
        mood="bad" if is_gone or short else "good",
        steps=_steps(view, words, 5, "done"),
        accessions=view.accessions,
        advice="" if is_gone or short else words.say(f"page.may_close{'_download' * bool(view.result)}"),
        lines=tuple(lines),
        buttons=(_once_more(view, words, kind),),
        download=_download(view, words),
        noted=differing_patients.noted(view, words),
        short=short,
        technical=" · ".join(
            f"{omission.instances} x {omission.reason}" for omission in view.left_out[:_MOST_REASONS]
        ),
        facts=facts,
    )


def _outcome(view: OrderView, kind: str) -> str:
    if kind == "download":
        return ("short" if falls_short(view) else "ready") if view.result else "gone"
    return ("printed" if kind == "print" else "forwarded") + ("_before" if view.already_sent else "")


def _download(view: OrderView, words: Translation) -> str:
    if view.result is None:
        return ""
    key = "button.download_short" if falls_short(view) else "button.download_size"
    return words.say(key, size=words.size(view.result.size))


def _once_more(view: OrderView, words: Translation, kind: str) -> OrderButton:
    if view.late:
        return OrderButton(words.say(f"button.late_{kind}"), _allowed(view) | {"again": "1"}, is_main=True)
    return OrderButton(words.say(f"button.again_{kind}"), _allowed(view) | {"again": "1"})


def _failed(view: OrderView, words: Translation, address: str) -> Page:
    error = view.error_kind or OrderError.INTERNAL
    key = f"{error}_some" if error == OrderError.NO_DATA and _some_are_missing(view) else str(error)
    if error == OrderError.MORE_THAN_ONE_PATIENT:
        key = differing_patients.key_of(view)
    is_relay = error in {OrderError.RELAY_FAILED, OrderError.RELAY_INCOMPLETE, OrderError.PUBLISHER_UNREACHABLE}
    return Page(
        title=words.say(f"page.title_{kind_of(view)}"),
        heading=words.say(f"wrong.{key}"),
        mood="bad",
        steps=_steps(view, words, _failed_at(view, error), "failed"),
        accessions=view.accessions,
        advice=words.say(f"wrong.{key}_advice"),
        lines=(
            *_found(view, words),
            *_received(view, words),
            *_shortcomings(view, words),
            *_sent(view, words),
            *_long(view, words),
        ),
        progress=_progress(view) if view.received and _FAILED_AT.get(error) == 2 else None,
        buttons=_remedies(view, words, error),
        correct=",".join(view.accessions) if error == OrderError.NO_DATA else "",
        differing=differing_patients.differing(view, words) if error == OrderError.MORE_THAN_ONE_PATIENT else (),
        technical=": ".join(filter(None, (view.error, view.detail))),
        facts={words.say("page.destination"): address} if is_relay else {},
    )


def _failed_at(view: OrderView, error: OrderError) -> int:
    """Return the step an error stopped at; two patients may be discovered before or after anything came."""
    is_late = error == OrderError.MORE_THAN_ONE_PATIENT and view.received
    return 2 if is_late else _FAILED_AT.get(error, 0)


def _remedies(view: OrderView, words: Translation, error: OrderError) -> tuple[OrderButton, ...]:
    """Return the buttons a person may press; one that leaves something out is never the first."""
    buttons = [OrderButton(words.say("button.retry"), _allowed(view), is_main=True)]
    if error in {OrderError.MOVE_INCOMPLETE, OrderError.MOVE_TIMED_OUT} and view.received:
        text = words.say(f"button.incomplete_{kind_of(view)}")
        buttons.append(OrderButton(text, _allowed(view) | {"incomplete": "yes"}))
    if error == OrderError.NO_DATA and _some_are_missing(view):
        buttons.append(OrderButton(words.say("button.missing"), _allowed(view) | {"missing": "allow"}))
    return tuple(buttons)


def _some_are_missing(view: OrderView) -> bool:
    return 0 < len(view.missing) < len(view.accessions)


def _allowed(view: OrderView) -> dict[str, str]:
    """Return what the client has allowed already, so that it need not be asked for twice."""
    fields = {"missing": "allow"} if view.missing_allowed else {}
    return fields | ({"incomplete": "yes"} if view.incomplete_allowed else {})


def _steps(view: OrderView, words: Translation, behind: int, present: StepState) -> tuple[PageStep, ...]:
    last = ("made", "ready") if kind_of(view) == "download" else ("sent",)
    steps = []
    for number, name in enumerate(("asked", "found", "received", *last)):
        state: StepState = "done" if number < behind else present if number == behind else "ahead"
        said = {"done": "is_done", "current": "is_current", "ahead": "is_ahead", "failed": "has_failed"}[state]
        steps.append(PageStep(words.say(f"step.{name}"), state, words.say(f"step.{said}")))
    return tuple(steps)


def _progress(view: OrderView) -> tuple[int, int] | None:
    return (min(view.received, view.expected), view.expected) if view.expected else None


def _found(view: OrderView, words: Translation) -> list[str]:
    if not view.found:
        return []
    series = sum(study.series for study in view.found)
    parts = [words.count("count.studies", len(view.found))] if len(view.found) > 1 else []
    parts += [words.count("count.series", series)] if series else []
    parts += [words.count("count.images", view.expected)] if view.expected else []
    modalities = sorted({modality for study in view.found for modality in study.modalities})
    what = ", ".join([*parts, *modalities])
    return [words.say("count.found", what=what)] if what else []


def _received(view: OrderView, words: Translation) -> list[str]:
    if not view.received:
        return []
    if view.expected is None:
        return [words.count("count.so_far", view.received)]
    return [words.say("count.of_expected", received=view.received, expected=view.expected)]


def _ahead(view: OrderView, words: Translation) -> list[str]:
    if view.place_in_queue is None:
        return []
    return [words.count("count.ahead", view.place_in_queue) if view.place_in_queue else words.say("count.next")]


def _left(view: OrderView, words: Translation) -> list[str]:
    """Estimate how long the retrieval still takes, from its own pace; nothing where that tells too little."""
    if view.stage != OrderStage.MOVING or not view.expected or view.moving_since is None:
        return []
    took = view.last_progress_at - view.moving_since
    if took < LEAST_SECONDS or not LEAST_RECEIVED <= view.received < view.expected:
        return []
    seconds = took / view.received * (view.expected - view.received)
    return [words.say("count.left_less") if seconds < 60 else words.count("count.left", round(seconds / 60))]


def _long(view: OrderView, words: Translation) -> list[str]:
    """Note numbers longer than the standard allows: another system may cut or refuse them."""
    numbers = [number for number in view.accessions if len(number) > LONGEST_OF_THE_STANDARD]
    return [words.say("count.long")] if numbers else []


def _shortcomings(view: OrderView, words: Translation) -> list[str]:
    lines = []
    if view.missing:
        lines.append(words.say("count.missing", accessions=", ".join(view.missing)))
    if view.failed:
        lines.append(words.count("count.failed", view.failed))
    if view.unclaimed_from and not served(view):
        lines.append(words.count("count.unclaimed", sum(sender.instances for sender in view.unclaimed_from)))
    if view.counted is not None:
        lines.append(words.say("count.counted", expected=view.counted, received=view.received))
    if served(view) and view.expected is not None and view.received < view.expected:
        lines.append(words.say("count.incomplete", received=view.received, expected=view.expected))
    return lines


def _sent(view: OrderView, words: Translation) -> list[str]:
    if not (view.refused or arrived(view)):
        return []
    return [words.say("count.sent_of", sent=arrived(view), refused=view.refused)]
