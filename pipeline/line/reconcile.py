"""Make the ledger agree with the rooms at start, after a crash (docs/design.md).

For the place of a folder the room wins. Steps that a crash interrupted are finished: a deletion that is in the
ledger, an account older than its receipts, outputs that no delivery needs any more.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from pipeline.dicomweb.foreign_copies import SCRATCH
from pipeline.events import Event, alarm, traced
from pipeline.ledger import accounts, arrivals, claims, deliveries, destination_states, orders
from pipeline.line.admit import of_others, parse_arrival_name
from pipeline.line.identify import ACCOUNT
from pipeline.line.settle import UNREADABLE, drop_outputs, remark_of, renew_account
from pipeline.line.study_patient import drop_unfinished_key
from pipeline.model import ArrivalState
from pipeline.site.site import Site
from pipeline.spool.durable import remove_tree, rename_durably, unlink
from pipeline.spool.spool import KNOCK, is_there

Believe = Callable[[str, str | None, Site], None]


def reconcile(site: Site, alive: Callable[[], None] = lambda: None) -> None:
    """Correct the ledger, finish interrupted steps, and make interrupted deliveries due, before other work starts.

    `alive` is called regularly meanwhile, because many folders take minutes. Raises Transient if the disk is full
    or the ledger cannot be used now.
    """
    with site.ledger.reading() as look:
        rows = arrivals.states(look)
    # Living nodes settle what they have brought themselves, maybe now.
    for name in of_others(rows, site):
        del rows[name]
    # `release` may move folders into the arrivals meanwhile, so these are looked at last.
    _each(_ours(site.spool.settled, site), _believe_settled, rows, site, alive)
    _each(_ours(site.spool.quarantine, site), _believe_set_aside, rows, site, alive)
    _each(_ours(site.spool.arrivals, site), _believe_open, rows, site, alive)
    _miss_what_is_gone(rows, site)
    _end_discarding(site)
    _renew_accounts(site, alive)
    _drop_outputs(site, alive)
    _drop_copies(site)
    drop_unfinished_key(site.spool)
    with site.ledger.transaction() as change:
        deliveries.resume(change, deliveries.sending(change, site.claimant.worker), time.time())
        claims.release_studies_of(change, site.claimant.worker)
        destination_states.try_soon(change)


def _each(
    names: Iterable[str],
    believe: Believe,
    rows: Mapping[str, ArrivalState],
    site: Site,
    alive: Callable[[], None],
) -> None:
    """Compare every folder of a room with its row; a failure concerns that folder only."""
    for name in names:
        _try(name, lambda name: believe(name, rows.get(name), site))
        alive()


def _try(name: str, correct: Callable[[str], None]) -> None:
    try:
        correct(name)
    except OSError as error:
        alarm(Event.HELD, what=f"reconcile {name}", reason=error)
    except SQLAlchemyError as error:  # The text of the error may quote values of the row.
        alarm(Event.HELD, what=f"reconcile {name}", reason=traced(error))


def _folders(room: Path) -> list[str]:
    return sorted(entry.name for entry in room.iterdir() if not entry.name.startswith(".") and entry.is_dir())


def _ours(room: Path, site: Site) -> list[str]:
    """Return the folders of a room without those that other living nodes have brought."""
    names = _folders(room)
    theirs = of_others(names, site)
    return [name for name in names if name not in theirs]


def _believe_settled(name: str, state: str | None, site: Site) -> None:
    if state == ArrivalState.SETTLED:
        return
    if state is not None and _is_unfinished(name, state, site):
        # A standby that took over lacks the end: what it does not know to have arrived is sent again.
        rename_durably(site.spool.settled / name, site.spool.arrivals / name)
    elif state is not None:
        _set_state(name, ArrivalState.SETTLED, remark_of(name, site), site)
    elif _is_gone(name, site):
        remove_tree(site.spool.settled / name)
    else:
        _restore(name, site)


def _is_unfinished(name: str, state: str, site: Site) -> bool:
    """Tell whether the ledger has still something to be done for an arrival."""
    with site.ledger.reading() as look:
        is_read = arrivals.has_instances(look, name)
        return not (is_read and arrivals.may_settle(look, name)) and state != ArrivalState.QUARANTINED


def _restore(name: str, site: Site) -> None:
    """Enter a settled arrival from its own account; without a readable account, move it to `quarantine`."""
    if problem := _unreadable_account(site.spool.settled / name, site):
        reason = f"settled, but its account cannot be read: {problem}"
        rename_durably(site.spool.settled / name, site.spool.quarantine / name)
        _enter(name, reason, site)
        alarm(Event.QUARANTINED, arrival=name, reason=reason)


def _unreadable_account(folder: Path, site: Site) -> str | None:
    """Enter an arrival from the account in its folder; return why that is impossible, None if done.

    Raises OSError if the account cannot be read now.
    """
    try:
        account = json.loads((folder / ACCOUNT).read_bytes())
        with site.ledger.transaction() as change:
            accounts.restore(change, account)
    except (FileNotFoundError, ValueError, KeyError, TypeError, SQLAlchemyError) as error:
        return type(error).__name__
    return None


def _believe_set_aside(name: str, state: str | None, site: Site) -> None:
    if state == ArrivalState.QUARANTINED:
        return
    if state is not None:
        with site.ledger.reading() as look:
            reason = "set aside" if arrivals.holds_an_instance(look, name) else UNREADABLE
        _set_state(name, ArrivalState.QUARANTINED, reason, site)
    elif _is_gone(name, site):
        remove_tree(site.spool.quarantine / name)
    elif not _is_known(name, site) and _unreadable_account(site.spool.quarantine / name, site):
        _enter(name, "set aside before the ledger was lost", site)


def _believe_open(name: str, state: str | None, site: Site) -> None:
    """Reopen an arrival that a person has put back among the arrivals, although it has ended in the ledger."""
    is_back = state in {ArrivalState.SETTLED, ArrivalState.QUARANTINED}
    if not is_back and not (state is None and _is_gone(name, site)):
        return
    with site.ledger.transaction() as change:
        was_taken_in = arrivals.has_instances(change, name)
        again = ArrivalState.PROCESSING if was_taken_in else ArrivalState.ADMITTED
        arrivals.set_state(change, name, again, gone_at=None)


def _enter(name: str, reason: str, site: Site) -> None:
    """Enter a set-aside arrival whose name is all that is known."""
    nanoseconds, receiver = parse_arrival_name(name)
    admitted_at = nanoseconds / 1e9
    with site.ledger.transaction() as change:
        values = {"name": name, "receiver": receiver, "admitted_at": admitted_at, "newest_file_at": admitted_at}
        arrivals.admit(change, values)
        arrivals.set_state(change, name, ArrivalState.QUARANTINED, reason, settled_at=time.time())


def _set_state(name: str, state: ArrivalState, reason: str | None, site: Site) -> None:
    with site.ledger.transaction() as change:
        arrivals.set_state(change, name, state, reason, settled_at=time.time())


def _is_gone(name: str, site: Site) -> bool:
    with site.ledger.reading() as look:
        return arrivals.is_gone(look, name)


def _is_known(name: str, site: Site) -> bool:
    """Tell whether an arrival has a row now: an arrival without a readable account has just got one."""
    with site.ledger.reading() as look:
        return name in arrivals.states_of(look, [name])


def _miss_what_is_gone(rows: Mapping[str, ArrivalState], site: Site) -> None:
    spool = site.spool
    rooms = (spool.settled, spool.quarantine, spool.arrivals)
    present = {name for room in rooms for name in _folders(room)}
    for name, state in rows.items():
        # Another worker may settle the arrival now, so that each room was read while the folder was in another.
        is_missed = name not in present and not any(is_there(room / name) for room in (*rooms, *rooms))
        if is_missed and state != ArrivalState.QUARANTINED:
            _set_state(name, ArrivalState.QUARANTINED, "files missing", site)
            alarm(Event.QUARANTINED, arrival=name, reason="files missing: somebody removed the folder")


def _end_discarding(site: Site) -> None:
    with site.ledger.transaction() as change:  # The transaction keeps others from releasing these files.
        for arrival, file in arrivals.discarded(change):
            site.spool.remove(arrival, file)


def _renew_accounts(site: Site, alive: Callable[[], None]) -> None:
    with site.ledger.reading() as look:
        names = arrivals.with_stale_accounts(look)
    for name in names:
        _try(name, lambda name: renew_account(name, site.spool, site.ledger))
        alive()


def _drop_outputs(site: Site, alive: Callable[[], None]) -> None:
    """Delete outputs of arrivals that have ended well or are gone, and unfinished outputs.

    Outputs that other workers are making for the line or a delivery stay. A worker claims before it makes a file,
    so a file found here is claimed when the ledger is read afterwards, or it is finished. A file for an order has
    no claim before its delivery: with a store, what an open order needs stays, because another node may make it.
    """
    folders, half_made = _folders(site.spool.outputs), list(site.spool.outputs.glob("*/.*"))
    theirs = of_others([*folders, *(file.parent.name for file in half_made)], site)
    with site.ledger.reading() as look:
        rows = arrivals.states(look)
        in_work = claims.arrivals_of_others(look, site.claimant.worker) | theirs
        if site.spool.has_store:
            in_work |= orders.arrivals_in_use(look)
        unneeded = [
            name
            for name in folders
            if name not in rows or (rows[name] == ArrivalState.SETTLED and arrivals.all_is_well(look, name))
        ]
    for name in unneeded:
        if name not in in_work:
            drop_outputs(name, site.spool)
        alive()
    for file in half_made:
        if file.parent.name not in in_work:
            unlink(file, missing_ok=True)


def _drop_copies(site: Site) -> None:
    """Delete what a dead process left in this node's own room: copies from archives to compare, and knocks."""
    for left in (*site.spool.run.glob(f"{SCRATCH}*"), *site.spool.run.glob(f"{KNOCK}*")):
        remove_tree(left, ignore_errors=True)
