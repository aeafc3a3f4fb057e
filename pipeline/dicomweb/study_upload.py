"""Upload the instances of one study to one address: query the archive, send missing instances, query again."""

import re
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from pipeline.dicomweb import instance_outcome, wado
from pipeline.dicomweb.foreign_copies import anothers
from pipeline.dicomweb.http_client import HttpClient
from pipeline.dicomweb.qido import Qido
from pipeline.dicomweb.upload import More, Pace, Upload
from pipeline.dicomweb.urls import address
from pipeline.errors import Configuration, Transient
from pipeline.model import ARRIVED, Consignment, InstanceKey, Item, Receipt, ReceiptState

# Seconds for which it is believed that an archive had nothing of a study whose delivery grows.
EMPTY_SECONDS = 60.0
# When, and what was handed over since; by delivery, address and study.
_found_empty: dict[tuple[int, str, str], tuple[float, set[InstanceKey]]] = {}
_MOST_FOUND_EMPTY = 1000
# Archives accept more than PS3.5 9.1 allows; but a UID of dots alone would change the path of the URL.
_UID_IN_A_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class StudyUpload:
    """The instances of one study for one studies URL."""

    url: str
    study_instance_uid: str
    items: tuple[Item, ...]

    @property
    def is_untouched(self) -> bool:
        """Say whether none of its instances can be at the archive through us."""
        return not any(item.attempted for item in self.items)


def sorted_out(template: str, items: Sequence[Item]) -> tuple[list[StudyUpload], list[Receipt]]:
    """Group instances by address and study; return the uploads, and receipts of instances without address."""
    parcels: dict[tuple[str, str], list[Item]] = {}
    without: list[Receipt] = []
    for item in items:
        if not all(map(_UID_IN_A_PATH.fullmatch, _uids(item))):
            without.append(instance_outcome.refused(item, "", "one of its UIDs cannot stand in a url"))
            continue
        try:
            where = (address(template, item), item.key.study_instance_uid)
        except Configuration as error:
            without.append(instance_outcome.pending(item, "", str(error)))
            continue
        parcels.setdefault(where, []).append(item)
    return [StudyUpload(url, study, tuple(those)) for (url, study), those in parcels.items()], without


def carry(
    parcel: StudyUpload, door: HttpClient, consignment: Consignment, pace: Pace, *, believes_present: bool = False
) -> Iterator[Receipt]:
    """Send the instances that the archive lacks, and yield receipts; the last receipt of an instance counts.

    An instance that is there although we never sent it was stored by somebody else. It is not sent, because some
    archives lose the first copy when a second one comes; it is compared, unless `believes_present`. A consignment
    with `again` is sent all the same, because a person decided so; the archive's copies before and after show
    whether the archive took it. Instances that are added to the consignment meanwhile are sent, too. Raises
    Transient if instances are still pending at the end.
    """
    qido = Qido(door, parcel.url)
    there, handed = _there(qido, parcel, consignment)
    before: dict[InstanceKey, str | None] = {}
    if consignment.again:
        before = {key: wado.digest_at(door, parcel.url, key) for key in there}
        there = set()
    strangers = {item.key: item for item in parcel.items if not (item.attempted or consignment.again)}
    for item in parcel.items:
        if item.key in there and item.key not in strangers:
            yield instance_outcome.seen(item, ReceiptState.STORED)
    missing = {item.key: item for item in parcel.items if item.key not in there}
    last: dict[InstanceKey, Receipt] = {}
    more = partial(_more, parcel, consignment, qido, (strangers, there, missing, handed))
    for receipt in _sent(missing, Upload(door, parcel.url, qido, consignment.attempt, pace), qido, more):
        last[receipt.key] = receipt
        if not (receipt.verified and (receipt.key in before or _is_anothers(receipt, strangers))):
            yield receipt
    for key, digest in before.items():
        if last[key].state in ARRIVED:
            after = wado.digest_at(door, parcel.url, key)
            last[key] = wado.compared(missing[key], last[key], digest, after)
        yield last[key]
    present = [item for key, item in strangers.items() if key in there or _is_anothers(last[key], strangers)]
    for receipt in anothers(present, door, parcel.url, consignment, believes=believes_present):
        last[receipt.key] = receipt
        yield receipt
    if left := [receipt for receipt in last.values() if receipt.state is ReceiptState.PENDING]:
        raise Transient(_what_is_left(left, parcel))


def _there(qido: Qido, parcel: StudyUpload, consignment: Consignment) -> tuple[set[InstanceKey], set[InstanceKey]]:
    """Return which instances the archive has, and the set of those handed over since it had nothing.

    A large study takes several attempts: what an earlier one found is believed a while, so that not each of them
    asks about all that is new. It is asked if one of these was handed over before: then the ledger has lost that.
    """
    now = time.monotonic()
    name = (consignment.delivery, parcel.url, parcel.study_instance_uid)
    since, handed = _found_empty.get(name, (-EMPTY_SECONDS, set()))
    is_new = handed.isdisjoint(item.key for item in parcel.items if not item.attempted)
    qido.was_empty = is_known = is_new and now - since < EMPTY_SECONDS
    there = qido.among(parcel.items)
    if qido.was_empty and not is_known and consignment.added:
        if len(_found_empty) >= _MOST_FOUND_EMPTY:
            _found_empty.clear()
        _found_empty[name] = now, (handed := set[InstanceKey]())
    handed.update(item.key for item in parcel.items)
    return there, handed


def _more(
    parcel: StudyUpload,
    consignment: Consignment,
    qido: Qido,
    known: tuple[dict[InstanceKey, Item], set[InstanceKey], dict[InstanceKey, Item], set[InstanceKey]],
) -> More:
    """Return what was added and must be sent, and the receipts of what need not or cannot.

    It is added to `known`, which has the instances that we never sent, those that are there, those to send, and
    those handed over since the archive had nothing.
    """
    if qido.doubt or consignment.again or consignment.added is None:
        return [], []
    strangers, there, missing, handed = known
    parcels, answered = sorted_out(parcel.url, consignment.added())
    added = {item.key: item for one in parcels for item in one.items}
    strangers.update({key: item for key, item in added.items() if not item.attempted})
    handed.update(added)
    found = qido.among(added.values())
    there.update(found)
    answered += [instance_outcome.seen(added[key], ReceiptState.STORED) for key in found - strangers.keys()]
    wanted = {key: item for key, item in added.items() if key not in found}
    missing.update(wanted)
    return list(wanted.values()), answered


def _is_anothers(receipt: Receipt, strangers: Container[InstanceKey]) -> bool:
    """Tell whether the archive refused an instance as a duplicate that only somebody else can have stored."""
    return receipt.state is ReceiptState.DUPLICATE and receipt.verified and receipt.key in strangers


def _sent(
    items: dict[InstanceKey, Item], upload: Upload, qido: Qido, more: Callable[[], More]
) -> Iterator[Receipt]:
    """Send instances; yield the archive's response about each, and then whether QIDO-RS lists it."""
    last: dict[InstanceKey, Receipt] = {}
    for portion in _portions(tuple(items.values()), qido):
        for receipt in upload.send(portion, more):
            last[receipt.key] = receipt
            yield receipt
        for receipt in _looked_up(qido, items, last):
            last[receipt.key] = receipt
            yield receipt
        if qido.doubt:
            raise Configuration(f"{qido.doubt}: it was asked about one instance that it had been sent")


def _portions(items: tuple[Item, ...], qido: Qido) -> list[tuple[Item, ...]]:
    """Return the instances of each request: the first request has one instance if QIDO-RS is in doubt."""
    if not (items and qido.doubt):
        return [items]
    first = min(items, key=lambda item: item.size)
    rest = tuple(item for item in items if item is not first)
    return [(first,), rest] if rest else [(first,)]


def _looked_up(qido: Qido, items: dict[InstanceKey, Item], last: dict[InstanceKey, Receipt]) -> Iterator[Receipt]:
    """Look up unverified receipts by QIDO-RS: yield each as verified, or as pending if it is not listed."""
    unverified = {
        key: receipt for key, receipt in last.items() if receipt.state in ARRIVED and not receipt.verified
    }
    if not unverified:
        return
    there = qido.among((items[key] for key in unverified), were_sent=True)
    for key, receipt in unverified.items():
        if key in there:
            yield replace(receipt, verified=True)
        else:
            yield instance_outcome.pending(
                items[key], receipt.code, "reported as stored, but QIDO-RS does not list it"
            )


def _what_is_left(left: list[Receipt], parcel: StudyUpload) -> str:
    [(reason, _)] = Counter(f"{receipt.message} {receipt.code}".strip() for receipt in left).most_common(1)
    return f"{parcel.url}: {len(left)} of {len(parcel.items)} instances are not there yet: {reason}"


def _uids(item: Item) -> tuple[str, str, str]:
    return (item.key.study_instance_uid, item.key.series_instance_uid, item.key.sop_instance_uid)
