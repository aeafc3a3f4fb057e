"""Take the steps of a `send`: its files are identified, then prepared and consigned, then delivered."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from pipeline.dicom.patient import Patient
from pipeline.ledger import given_files, orders
from pipeline.ledger.rows import OrderRow, SoundInstanceRow
from pipeline.model import SEND_VERB, OrderError, OrderStage, OrderState
from pipeline.orders import prove
from pipeline.orders.compare_sources import Findings, IdentitySource, SourceStatement, within
from pipeline.orders.consign_order import (
    OrderItems,
    content_of,
    destination_of,
    open_one_delivery,
    patients_of,
    prepared,
)
from pipeline.orders.finish import OrderEnding, Shortage, end, is_at_its_end
from pipeline.sending.send import admit_complete
from pipeline.site.site import Site


def look_at(order: OrderRow, site: Site, now: float, since: float) -> bool:
    """Take the due step of an open `send` if it is short; return whether a long one is due.

    `since` is when the worker started: the time in which no worker ran does not count for the time-out.
    """
    if is_at_its_end(order, ENDING, site, now, since):
        return False
    is_taken_in = order.stage != OrderStage.PLACED or _await_files(order, site)
    return is_taken_in and not _awaits_another(order, site)


def take_long_step(number: int, site: Site) -> None:
    """Prepare the files of a `send`, and open its delivery."""
    with site.ledger.reading() as connection:
        order = orders.row(connection, number)
    if order is not None and order.state == OrderState.OPEN and order.stage == OrderStage.PREPARING:
        consign_files(order, site)


def _await_files(order: OrderRow, site: Site) -> bool:
    """Return whether the order goes on: once its files are identified; end the order if none of them is sound."""
    with site.ledger.reading() as connection:
        are_taken_in = given_files.are_taken_in(connection, order.id)
        rows = given_files.instances_of(connection, order.id)
        shortage = _shortage(connection, order)
    if are_taken_in and rows:
        with site.ledger.transaction() as connection:
            orders.set_stage(connection, order.id, OrderStage.PREPARING)
        return True
    if are_taken_in:
        _, detail = shortage or (None, None)
        end(order.id, OrderState.FAILED, site, OrderError.RELAY_FAILED, detail)
    else:
        admit_complete(site.spool)
    return False


def _awaits_another(order: OrderRow, site: Site) -> bool:
    """Tell whether the order waits for another delivery of its instances, so that they are not sent twice."""
    with site.ledger.reading() as connection:
        return given_files.awaited_delivery(connection, order) is not None


def _shortage(connection: Connection, order: OrderRow) -> Shortage | None:
    """Return the error if some files cannot be sent, None if all can."""
    reasons = given_files.reasons_unsent(connection, order.id)
    if not reasons:
        return None
    return OrderError.RELAY_INCOMPLETE, f"{len(reasons)} of {order.files} files cannot be sent: {reasons[0]}"


def _words_for_awaited(connection: Connection, order: OrderRow) -> str | None:
    number = given_files.awaited_delivery(connection, order)
    return None if number is None else given_files.words_for(number)


ENDING = OrderEnding(OrderError.RELAY_FAILED, _shortage, _words_for_awaited)


@dataclass(frozen=True, slots=True)
class GivenItems(OrderItems):
    """The instances that a `send` must deliver.

    `other_content` counts instances that are at the destination with other content under their UIDs.
    """

    other_content: int = 0


def consign_files(order: OrderRow, site: Site) -> None:
    """Prepare the files of a `send`, and open its one delivery; or end the order if it must not be delivered.

    Raises Transient if this machine cannot prepare an instance now; the step is then tried again.
    """
    if (destination := destination_of(order, site)) is None:
        return
    with site.ledger.reading() as connection:
        load = _given(connection, order)
    if load.other_content:
        end(order.id, OrderState.FAILED, site, OrderError.RELAY_FAILED, _other_content(load))
        return
    ready = prepared(load, destination, site)
    if _is_allowed(order, patients_of(load, ready), site, makes_file=destination.makes_file):
        open_one_delivery(
            order, load, ready, destination, site, lambda connection: _is_still_to_go(connection, order, load)
        )


def _is_still_to_go(connection: Connection, order: OrderRow, load: OrderItems) -> bool:
    """Tell whether the same instances must still be delivered, and no other delivery of them is awaited."""
    is_as_it_was = [row.id for row in _given(connection, order).rows] == [row.id for row in load.rows]
    return is_as_it_was and given_files.awaited_delivery(connection, order) is None


def _given(connection: Connection, order: OrderRow) -> GivenItems:
    """Return the given instances; without `again`, except those that the destination already has from us."""
    rows, receiver = given_files.instances_of(connection, order.id), order.receiver or ""
    if order.again:
        return GivenItems(rows, receiver)
    there = given_files.data_sets_at(connection, order.destination, rows)
    known = {
        row.id: there[key] for row in rows if (key := (row.study_instance_uid, *content_of(row)[:2])) in there
    }
    left = [row for row in rows if row.id not in known]
    other = sum(row.data_set_sha256 not in known[row.id] for row in rows if row.id in known)
    return GivenItems(left, receiver, len(known) - other, other)


def _other_content(load: GivenItems) -> str:
    return (
        f"{load.other_content} instances are at the destination with other content under the same UIDs; "
        "nothing was sent: `send --again` sends all"
    )


def _is_allowed(
    order: OrderRow, came: Sequence[tuple[SoundInstanceRow, Patient]], site: Site, *, makes_file: bool
) -> bool:
    """Return True if the files are of one patient; otherwise end the order and return False.

    If a person allowed several patients, each study is checked by itself, unless the destination makes one file.
    """
    said = prove.statements(came, {})
    findings = Findings()
    for group in _groups(said, of_each_study=order.several_patients and not makes_file):
        findings |= within(IdentitySource.IMAGES, group, site.settings.site.placeholder_ids)
    remedy = "" if makes_file or order.several_patients else "; --several-patients sends them all"
    return prove.is_decided(order, findings, {}, f"nothing was sent{remedy}", site)


def _groups(said: Sequence[SourceStatement], *, of_each_study: bool) -> Iterable[list[SourceStatement]]:
    if not of_each_study:
        return [list(said)]
    studies: dict[str, list[SourceStatement]] = {}
    for statement in said:
        studies.setdefault(statement.study_instance_uid, []).append(statement)
    return studies.values()


VERB = SEND_VERB  # The verb of the orders that take these steps.
