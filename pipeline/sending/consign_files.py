"""Make one consignment of the files given to a `send`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from pipeline.dicom.patient import Patient
from pipeline.ledger import given_files
from pipeline.ledger.rows import OrderRow, SoundInstanceRow
from pipeline.model import OrderError, OrderState
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
from pipeline.orders.finish import end
from pipeline.site.site import Site


@dataclass(frozen=True, slots=True)
class GivenItems(OrderItems):
    """What a `send` must deliver.

    `other_content` is the number of instances there with other content under their UIDs.
    """

    other_content: int = 0


def consign_files(order: OrderRow, site: Site) -> None:
    """Open the one delivery of a `send`, pinned file by file; the order may end here.

    Raises Transient if this machine cannot prepare an instance now: it is tried again.
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
    """Tell whether all given instances must still be delivered, and no other delivery brings them."""
    is_as_it_was = [row.id for row in _given(connection, order).rows] == [row.id for row in load.rows]
    return is_as_it_was and given_files.awaited_delivery(connection, order) is None


def _given(connection: Connection, order: OrderRow) -> GivenItems:
    """Return what was given, except what the destination has from us already unless `again` was said."""
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
    """Tell whether the files are of one patient; otherwise the order has ended.

    Files of several patients that a person allowed are checked study by study, unless one file is made of
    everything.
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
