"""The checks of `storestow check` for one receiver, and which mode its site needs."""

import ipaddress
import time
from collections.abc import Callable, Iterator

from pipeline.commands import external_checks
from pipeline.commands.external_checks import Said
from pipeline.config.certificates import certificates_of
from pipeline.config.receiver_tables import ReceiverTable
from pipeline.dcmtk import profile
from pipeline.errors import Configuration, StorestowError
from pipeline.ledger import FILE_NAME, Ledger, seen_senders
from pipeline.receiving.listening_port import require_free_port
from pipeline.receiving.lock import is_receiving, recorded_port
from pipeline.receiving.study_receiver import study_hook
from pipeline.site.open_site import mapping_of
from pipeline.site.settings import Settings
from pipeline.spool.spool import Spool

SECONDS_LOOKED_BACK = 90 * 86400.0
STUDY_MODE = (
    'mode = "study" serves one sender at a time, and refuses (0xA700) what DCMTK cannot write anew: compressed '
    "pixels in an item of an uncompressed object, as GE's GEIIS thumbnails are; docs/modes.md compares the modes"
)


def looked_at(settings: Settings, receiver: ReceiverTable, spool: Spool) -> Iterator[Said]:
    """Yield findings and remedies."""
    if receiver.mode == "external":
        yield from external_checks.looked_at(settings, receiver, spool)
        yield from _whatever_the_mode(settings, receiver)
        return
    try:
        is_up = is_receiving(spool, receiver.name)
    except Configuration as error:
        yield "error", str(error)
        return
    if is_up:
        yield _is_up(receiver, spool)
    else:
        yield from _tried(lambda: require_free_port(receiver), f"port {receiver.port} is free")
    if receiver.tls:
        yield from _tried(lambda: certificates_of(settings, receiver), "speaks TLS only: key and certificate fit")
    if receiver.mode == "study":
        yield from _study_mode(settings, receiver, spool)
    yield from _whatever_the_mode(settings, receiver)


def _whatever_the_mode(settings: Settings, receiver: ReceiverTable) -> Iterator[Said]:
    is_of_orders = settings.pacs is not None and settings.pacs.receiver == receiver.name
    if not receiver.to and not is_of_orders:
        yield "note", "to is empty: what arrives is kept as unclaimed and not sent anywhere"
    if not receiver.require_patient:
        yield "note", "require_patient = false: instances without Patient's Name or Patient ID go on as they are"


def _study_mode(settings: Settings, receiver: ReceiverTable, spool: Spool) -> Iterator[Said]:
    yield "note", STUDY_MODE
    wanted = list(_for_association_mode(settings, receiver, spool))
    if wanted:
        yield "note", f'this site wants mode = "association" here: {"; ".join(wanted)}'
    else:
        yield "ok", 'nothing of this site speaks against mode = "study" here'
    yield from _tried(lambda: study_hook(spool, receiver.name), "the hook command is safe")
    left_out = profile.left_out(receiver.more_sop_classes)
    if left_out:
        names = [f'"{uid}",  # {name}' for uid, name in sorted(left_out.items(), key=lambda it: it[1])]
        text = (
            f"does not accept {len(left_out)} storage classes: write those your modalities send into "
            'more_sop_classes, or mode = "association", which takes all; --fix-hints lists them'
        )
        yield "note", text, "\n".join(("more_sop_classes = [", *names, "]"))
    if receiver.bind != "0.0.0.0":  # noqa: S104  # the one value storescp can do
        yield "error", "bind is for association mode; storescp listens on all addresses"


def _for_association_mode(settings: Settings, receiver: ReceiverTable, spool: Spool) -> Iterator[str]:
    """Yield which settings, and which past arrivals, need association mode."""
    if settings.pacs and settings.pacs.receiver == receiver.name:
        yield "orders arrive here, and in study mode one retrieval waits for the other"
    if any(map(_is_address, _keys_of_mapping(settings))):
        yield "the institution mapping has addresses, which study mode does not know"
    ledger = Ledger(spool.root / FILE_NAME)
    if not ledger.path.exists():
        return
    try:
        ledger.require_tables()
        with ledger.reading() as look:
            titles = seen_senders.since(look, receiver.name, time.time() - SECONDS_LOOKED_BACK)
            misread = seen_senders.misread(look, receiver.name, time.time() - SECONDS_LOOKED_BACK)
    except StorestowError:  # The check of the worker reports it.
        return
    finally:
        ledger.close()
    if titles > 1:
        yield f"{titles} AE titles have sent here within 90 days, and one sender waits for the other"
    if misread:
        yield f"{misread} instances were set aside within 90 days because storescp misread them"


def _keys_of_mapping(settings: Settings) -> Iterator[str]:
    try:
        yield from (key for key, _ in mapping_of(settings).names)
    except StorestowError:  # The check of the mapping reports it.
        return


def _is_address(key: str) -> bool:
    try:
        ipaddress.ip_address(key)
    except ValueError:
        return False
    return True


def _is_up(receiver: ReceiverTable, spool: Spool) -> Said:
    """Compare the settings the running receiver recorded at its start with the configuration now."""
    port = recorded_port(spool, receiver.name)
    if port not in {None, receiver.port}:
        return "note", f"is up on port {port}, the configuration says {receiver.port}: restart it"
    return "ok", f"is up on port {receiver.port}"


def _tried(look: Callable[[], object], text: str) -> Iterator[Said]:
    try:
        look()
    except StorestowError as error:
        for line in str(error).splitlines():
            yield "error", line
    else:
        yield "ok", text
