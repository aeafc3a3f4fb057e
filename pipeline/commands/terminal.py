"""The output of commands for a person at a terminal; everything a peer sent is escaped."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.events import escaped

if TYPE_CHECKING:  # At run time they would import pydicom and the HTTP client: half the time a command takes.
    from pipeline.commands.check import CheckFinding
    from pipeline.fleet.fleet_watch import SiteView
    from pipeline.operate.own_parts import OwnPart

_console = Console(highlight=False)
if not _console.is_terminal:  # a program reads it, or a file keeps it: nothing may be cut or wrapped
    _console = Console(highlight=False, width=10_000)
_NARROW = 120  # columns; below, UIDs are shortened
_ENDS_OF_UID = (9, 12)  # characters that stay of a shortened one: whose it is, and which
_IN_ONE_PIECE = {"study", "SOP Instance UID", "began", "since", "state"}  # columns
_COLOURS = {"ok": "green", "up": "green", "note": "yellow", "draining": "yellow", "paused": "yellow"}


def _plain(value: object) -> str:
    """Return `value` with control characters and markup made harmless; "" for None."""
    return "" if value is None else escape(escaped(value, 200).strip('"'))


def _uid(value: object) -> str:
    """Return a UID, whole where there is room for it; at a narrow terminal its two ends."""
    text, (first, last) = _plain(value), _ENDS_OF_UID
    if not _is_narrow() or len(text) <= first + last + 1:
        return text
    return f"{text[:first]}…{text[-last:]}"


def _is_narrow() -> bool:
    return _console.is_terminal and _console.width < _NARROW


def _moment(value: object) -> str:
    """Return a time as the ledger's answers have it; at a narrow terminal without year and zone."""
    text = _plain(value)
    return text[5:19].replace("T", " ") if _is_narrow() else text


def _table(*columns: str) -> Table:
    """Return a table without lines. Where it is too wide, text is folded, and UIDs and times stay in one piece."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name in _IN_ONE_PIECE)
    return table


def _coloured(state: str) -> str:
    return f"[{_COLOURS.get(state, 'red')}]{_plain(state)}[/]"


def show_status(answer: dict[str, Any]) -> None:
    """Print receivers, destinations, counts, and every undelivered study with its reason."""
    doors = _table("receiver", "AE title", "port", "mode", "state")
    for receiver in answer["receivers"]:
        doors.add_row(
            *map(_plain, (receiver["name"], receiver["ae_title"], receiver["port"], receiver["mode"])),
            _coloured(receiver["state"]),
        )
    _console.print(doors, "")
    worker = answer["worker"]
    heard = "" if worker["seconds"] is None else f", last heard of {_ago(worker['seconds'])} ago"
    of_which = f" of {_plain(worker['node'])}" if len(answer["nodes"]) > 1 else ""
    _console.print(f"worker{of_which}: {_coloured(worker['state'])}{'' if worker['state'] == 'up' else heard}")
    if worker["refuses"]:
        _console.print(f"it refused to start: {_plain(worker['refuses'])}", soft_wrap=True)
    _console.print("")
    if len(answer["nodes"]) > 1:
        _console.print(_nodes(answer["nodes"]), "")
    ways = _table("destination", "kind", "state", "waiting", "oldest", "reason")
    for destination in answer["destinations"]:
        row = (destination["waiting"], _ago(destination["oldest_seconds"]), _why(destination))
        ways.add_row(
            _plain(destination["name"]),
            _plain(destination["kind"]),
            _coloured(destination["state"]),
            *map(_plain, row),
        )
    _console.print(ways, "")
    for name in ("arrivals", "instances", "deliveries", "orders"):
        counted = ", ".join(f"{count} {state}" for state, count in answer[name].items() if count)
        _console.print(f"{name}: {counted or 'none'}")
    space, ledger = answer["space"], answer["ledger"]
    level = "" if space["state"] == "enough" else f" [red]{_plain(space['state'])}[/]"
    _console.print(f"free in the spool: {space['free'] / (1 << 30):.1f} GiB{level}")
    if store := answer.get("store"):
        said = f"[red]{_plain(store['reason'])}[/]" if store["reason"] else f"{store['free'] / (1 << 30):.1f} GiB"
        _console.print(f"free in the store: {said}; to be handed over: {store['waiting']}")
    growth = ledger["bytes_per_day"]
    daily = "" if growth is None else f", {growth / (1 << 20):+.1f} MiB a day"
    _console.print(f"ledger: {ledger['bytes'] / (1 << 20):.1f} MiB{daily}")
    for study in answer["not_compared"]:
        uid, destination = _plain(study["study_instance_uid"]), _plain(study["destination"])
        _console.print(
            f"{destination} has {study['instances']} of study {uid} from somebody else, and nobody could compare: "
            f"look at the study there, then "
            f"`storestow accept {uid} --destination {destination} --reason WORDS`",
            soft_wrap=True,
        )
    if answer["attention"]:
        _console.print("")
        _console.print(_attention(answer["attention"]))


def _nodes(nodes: list[dict[str, Any]]) -> Table:
    table = _table("node", "state", "last heard of", "release", "receivers", "at the door", "in hand")
    for node in nodes:
        more = (node["version"], ", ".join(node["receivers"]), node["at_the_door"], node["in_hand"])
        table.add_row(
            _plain(node["name"]),
            _coloured(node["state"]),
            f"{_ago(node['seen_seconds'])} ago",
            *map(_plain, more),
        )
    return table


def _why(destination: dict[str, Any]) -> str:
    """Return why a destination does not take anything, and who has paused it and when, as far as that is known."""
    since = destination.get("paused_at")
    who = filter(None, (destination.get("paused_by"), since and f"{_ago(time.time() - since)} ago"))
    paused = ", ".join(who)
    return f"{destination['reason'] or ''}{f' ({paused})' if paused else ''}"


def _attention(waiting: list[dict[str, Any]]) -> Table:
    table = _table("study", "destination", "state", "since", "next attempt", "reason")
    now = time.time()
    for delivery in waiting:
        due = _next_attempt(delivery, now)
        row = (
            delivery["destination"],
            delivery["state"],
            _ago(now - delivery["created_at"]),
            due,
            delivery["reason"],
        )
        table.add_row(_uid(delivery["study_instance_uid"]), *map(_plain, row))
    return table


def _next_attempt(one: dict[str, Any], now: float) -> str:
    """Say when a delivery is tried next, or which delivery comes before it."""
    if one["waits_for"] in {"retry", "resume", "configuration", "turn"} and one["next_attempt_at"] is None:
        return {"turn": "in its turn", "configuration": "never"}.get(one["waits_for"], f"on {one['waits_for']}")
    if one["waits_for"] == "answer":
        return "now"
    return "now" if one["next_attempt_at"] <= now else f"in {_ago(one['next_attempt_at'] - now)}"


def _ago(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def show_parts(parts: Sequence["OwnPart"]) -> None:
    """Print a line for each part."""
    for part in parts:
        _console.print(f"{_plain(part.name)}: {_coloured('up' if part.runs else 'down')} {_plain(part.detail)}")


def show_fleet(views: Sequence["SiteView"]) -> None:
    """Print a row for each site."""
    table = _table("site", "state", "needs a person", "waiting", "oldest", "quarantine", "free", "release", "why")
    for view in views:
        report = view.report
        told = ("", "", "", "", "")
        if report is not None:
            free = f"{report.space.free / 1e9:.1f} GB"
            oldest = _ago(report.oldest_seconds)
            told = (str(report.waiting), oldest, str(report.quarantine), free, report.version)
        state = _coloured(str(view.failure or "up"))
        table.add_row(
            _plain(view.name), state, _plain(", ".join(view.needs)), *map(_plain, told), _plain(view.detail)
        )
    _console.print(table)


def show_trace(answer: dict[str, Any]) -> None:
    """Print each instance: from whom it came, what was changed, encoded, and each destination's response."""
    for study in answer["studies"]:
        senders = sorted({instance["calling_ae_title"] or "" for instance in study["instances"]} - {""})
        title = (
            f"study {_plain(study['study_instance_uid'])}  accession {_plain(study['accession_number']) or '-'}"
            f"  from {', '.join(map(_plain, senders)) or '-'}"
        )
        _console.print(f"[bold]{title}[/]")
        table = _table("SOP Instance UID", "modality", "state", "changed", "sent to", "reason")
        for instance in study["instances"]:
            changed = ", ".join(change["keyword"] for change in instance["changes"])
            sent = ", ".join(
                f"{d['destination']}: {d['state']}{' verified' if d['verified'] else ''}"
                for d in instance["deliveries"]
            )
            row = (instance["modality"], instance["state"], changed, sent, instance["reason"])
            table.add_row(_uid(instance["sop_instance_uid"]), *map(_plain, row))
        _console.print(table)
    if answer["attempts"]:
        _console.print(_attempts(answer["attempts"]))
    for order in answer["orders"]:
        ended = f"{order['state']} {_plain(order['error'])}".strip()
        _console.print(f"order {order['id']}: {_plain(order['verb'])} to {_plain(order['destination'])}, {ended}")


def _attempts(attempts: list[dict[str, Any]]) -> Table:
    """Return a row for each attempt; for a narrow terminal in fewer columns, where the machine is left out."""
    ends = ("answer",) if _is_narrow() else ("answer", "why")
    places = ("to",) if _is_narrow() else ("to", "on")
    table = _table("attempt", "began", *places, "state", "arrived", "verified", *ends)
    for tried in attempts:
        arrived = "" if tried["instances"] is None else f"{tried['arrived']} of {tried['instances']}"
        answered = [_plain(tried["codes"]), _plain(tried["reason"])]
        table.add_row(
            _plain(tried["number"]),
            _moment(tried["began_at"]),
            *map(_plain, (tried["destination"], tried["node"])[: len(places)]),
            *map(_plain, (tried["state"], arrived, tried["verified"])),
            *(["; ".join(filter(None, answered))] if _is_narrow() else answered),
        )
    return table


def show_orders(answer: dict[str, Any]) -> None:
    """Print orders, one line each."""
    table = _table("order", "accession numbers", "what", "to", "state", "images", "since", "why")
    now = time.time()
    for order in answer["orders"]:
        state = order["stage"] if order["state"] == "open" else order["state"]
        images = f"{order['received']} of {'?' if order['expected'] is None else order['expected']}"
        why = "; ".join(filter(None, (order["error"], order["detail"])))
        row = (order["id"], ", ".join(order["accessions"]), order["verb"], order["destination"], state, images)
        table.add_row(*map(_plain, row), _ago(now - order["created_at"]), _plain(why))
    _console.print(table if answer["orders"] else "there are no orders")


def show_quarantine(answer: dict[str, Any]) -> None:
    """Print what is set aside, one line each."""
    table = _table("arrival/file", "state", "since", "reason")
    for file in answer["quarantined"]:
        name = "/".join(filter(None, (file["arrival"], file["file"])))
        table.add_row(_plain(name), _plain(file["state"]), _moment(file["at"]), _plain(file["reason"]))
    _console.print(table if answer["quarantined"] else "nothing is set aside")


def show_set_aside(answer: dict[str, Any]) -> None:
    """Print one arrival and what is known of its files."""
    _console.print(f"[bold]{_plain(answer['arrival'])}[/]  {_plain(answer['state'])}  {_plain(answer['reason'])}")
    for instance in answer["instances"]:
        for key, value in instance.items():
            _console.print(f"  {key}: {_plain(value)}", soft_wrap=True)
        _console.print("")


def show_findings(found: Sequence["CheckFinding"], *, with_hints: bool) -> None:
    """Print the findings of `check`, one line each; with hints, also what could be written in which file."""
    for finding in found:
        text = escape(" ".join(finding.text.split()))
        _console.print(f"{_coloured(finding.level)} {_plain(finding.about)}: {text}", soft_wrap=True)
        for line in finding.hint.splitlines() if with_hints else ():
            _console.print(f"    {escape(line)}", soft_wrap=True)


def show_explanation(answer: dict[str, Any]) -> None:
    """Print what would happen to a file."""
    for key, value in answer.items():
        if key not in {"changes", "destinations"}:
            _console.print(f"{key}: {_plain(value)}", soft_wrap=True)
    for change in answer.get("changes", ()):
        before, after = _plain(change["before"]) or "-", _plain(change["after"]) or "removed"
        _console.print(f"changes {_plain(change['keyword'])}: {before} -> {after} ({_plain(change['rule'])})")
    for way in answer.get("destinations", ()):
        why = f", not encoded: {_plain(way['not_encoded'])}" if way["not_encoded"] else ""
        syntax, size = _plain(way["transfer_syntax_sent"]), way["size"]
        by = _plain(way["by"])
        _console.print(f"to {_plain(way['destination'])} ({by}): transfer syntax {syntax}, {size} bytes{why}")
    if answer.get("destinations") == []:
        _console.print("to nowhere: no route matches, and the receiver's `to` is empty")


def show_routes(answer: dict[str, Any]) -> None:
    """Print where the last studies went and would go: the totals, and each study that would take another way."""
    total = _table("destination", "instances went there", "would go there")
    for one in answer["destinations"]:
        total.add_row(_plain(one["destination"]), str(one["went"]), str(one["would_go"]))
    _console.print(total)
    changed = [study for study in answer["studies"] if study["changed"]]
    _console.print(f"{len(answer['studies'])} studies looked at, {len(changed)} would go another way")
    if not changed:
        return
    differing = _table("study", "receiver", "went", "would go")
    for study in changed:
        ways = (_ways(study["went"]), _ways(study["would_go"]))
        differing.add_row(_uid(study["study_instance_uid"]), _plain(study["receiver"]), *ways)
    _console.print(differing)


def _ways(ways: list[dict[str, Any]]) -> str:
    told = [
        f"{one['instances']} to {one['destination']}, encode {one['encode']}"
        + (f" ({', '.join(one['by'])})" if "by" in one else "")
        for one in ways
    ]
    return _plain("; ".join(told) or "nowhere")
