"""The checks of `storestow check` for one receiver, and which mode its site needs."""

import ipaddress
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydicom._uid_dict import UID_dictionary

from pipeline.config.certificates import certificates_of
from pipeline.config.receiver_tables import ReceiverTable
from pipeline.dcmtk.profile import study_sop_classes
from pipeline.dcmtk.sop_classes import SHIPPED
from pipeline.errors import Configuration, StorestowError
from pipeline.ledger import seen_senders
from pipeline.receiving import listening_port
from pipeline.receiving.external import command_line
from pipeline.receiving.foreign import words_of
from pipeline.receiving.listening_port import require_free_port
from pipeline.receiving.lock import is_receiving, recorded_port
from pipeline.receiving.study_receiver import study_hook
from pipeline.site.open_site import mapping_of
from pipeline.site.routing import routes_of
from pipeline.site.settings import Settings
from pipeline.site.site_ledger import ledger_of
from pipeline.spool.spool import Spool

SECONDS_LOOKED_BACK = 90 * 86400.0
STUDY_MODE = (
    'mode = "study" serves one sender at a time, and refuses (0xA700) what DCMTK cannot write anew: compressed '
    "pixels in an item of an uncompressed object, as GE's GEIIS thumbnails are; docs/modes.md compares the modes"
)
Level = Literal["ok", "note", "error"]
Said = tuple[Level, str] | tuple[Level, str, str]  # and lines to write somewhere, where they help
BEHIND_A_PROXY = (
    "behind a proxy such as HAProxy every peer has the proxy's address: allow_peers, max_associations_per_peer "
    "({limit}), addresses in the institution mapping and in [pacs] host and senders then mean the proxy; "
    "a virtual address (keepalived) keeps the peer's: docs/scale.md"
)
_NEEDED = {  # Options of storescp in both spellings, and what is lost without them.
    ("-xcs", "--exec-on-eostudy"): "without -xcs no hook is called: studies are found when they are an hour old",
    ("-xs", "--exec-sync"): "without -xs the hook may rename a folder under storescp, which then refuses (0xA700)",
    ("-tos", "--eostudy-timeout"): "without -tos the last study waits until another one comes",
    ("+uf", "--unique-filenames"): "without +uf an object that comes again overwrites the first",
    ("-lc", "--log-config"): "without -lc nobody notices what storescp drops or misreads",
}


def receiver_findings(settings: Settings, receiver: ReceiverTable, spool: Spool) -> Iterator[Said]:
    """Yield findings about one receiver, each with its remedy."""
    if receiver.mode == "external":
        yield from _external(settings, receiver, spool)
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
        which = "what no route matches" if routes_of(settings, receiver) else "what arrives"
        days = settings.site.keep_originals.total_seconds() / 86400
        yield (
            "note",
            f"to is empty: {which} is sent to nobody, and deleted after keep_originals ({days:g} days)",
        )
    if settings.cluster:
        yield "note", BEHIND_A_PROXY.format(limit=receiver.max_associations_per_peer)
    if not receiver.require_patient:
        yield "note", "require_patient = false: instances without Patient's Name or Patient ID go on as they are"


def _study_mode(settings: Settings, receiver: ReceiverTable, spool: Spool) -> Iterator[Said]:
    yield "note", STUDY_MODE
    wanted = list(_for_association_mode(settings, receiver))
    if wanted:
        yield "note", f'this site wants mode = "association" here: {"; ".join(wanted)}'
    else:
        yield "ok", 'nothing of this site speaks against mode = "study" here'
    yield from _tried(lambda: study_hook(spool, receiver.name), "the hook command is safe")
    refused = refused_classes(receiver.more_sop_classes)
    if refused:
        names = [f'"{uid}",  # {name}' for uid, name in sorted(refused.items(), key=lambda it: it[1])]
        text = (
            f"does not accept {len(refused)} storage classes: write those your modalities send into "
            'more_sop_classes, or mode = "association", which takes all; --fix-hints lists them'
        )
        yield "note", text, "\n".join(("more_sop_classes = [", *names, "]"))
    if receiver.bind != "0.0.0.0":  # noqa: S104  # the one value storescp can do
        yield (
            "error",
            (
                "bind is for association mode, and storescp listens on all addresses: "
                'write mode = "association", or leave bind out'
            ),
        )


def refused_classes(more: Sequence[str]) -> dict[str, str]:
    """Return, by UID, the names of known storage classes that a receiver in study mode refuses."""
    accepted = set(study_sop_classes(more))
    return {uid: name for uid, name in _known_storage_classes(more).items() if uid not in accepted}


def _known_storage_classes(more: Sequence[str]) -> dict[str, str]:
    known = {
        uid: name
        for uid, (name, kind, *_) in UID_dictionary.items()
        if kind == "SOP Class" and name.endswith("Storage")
    }
    return {**dict.fromkeys(more, "named in more_sop_classes"), **known, **SHIPPED}


def _for_association_mode(settings: Settings, receiver: ReceiverTable) -> Iterator[str]:
    """Yield which settings, and which past arrivals, need association mode."""
    if settings.pacs and settings.pacs.receiver == receiver.name:
        yield "orders arrive here, and in study mode one retrieval waits for the other"
    if any(map(_is_address, _keys_of_mapping(settings))):
        yield "the institution mapping has addresses, which study mode does not know"
    try:
        ledger = ledger_of(settings)
    except StorestowError:  # The check of the worker reports it.
        return
    try:
        with ledger.reading() as connection:
            titles = seen_senders.since(connection, receiver.name, time.time() - SECONDS_LOOKED_BACK)
            misread = seen_senders.misread(connection, receiver.name, time.time() - SECONDS_LOOKED_BACK)
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


def _external(settings: Settings, receiver: ReceiverTable, spool: Spool) -> Iterator[Said]:
    """Yield whether a storescp that somebody else runs is there, and which options it lacks for our guarantees."""
    try:
        command_line(settings, receiver, Path("/etc/storestow/site.toml"))
    except StorestowError as error:
        yield "error", str(error)
        return
    remedy = f"`storestow receive {receiver.name} --print` shows the whole command line"
    if not listening_port.is_listened(receiver.port):
        yield "note", f"nobody listens on port {receiver.port}: start its storescp; {remedy}"
    elif (words := _command_of(receiver.port)) is None:
        yield "note", f"port {receiver.port} is open; by whom cannot be seen from here; {remedy}"
    elif missing := [text for spellings, text in _NEEDED.items() if not {*spellings} & {*words}]:
        yield "note", f"{'; '.join(missing)}; {remedy}"
    else:
        yield "ok", f"a storescp with all it needs listens on port {receiver.port}"
    if loose := [path for path in spool.incoming.glob("*") if path.is_file()]:
        what = (
            f"{len(loose)} files lie in {spool.incoming} itself, where nobody looks: storescp puts a study there "
        )
        why = "whose UID is `..` if its -su has no prefix; say -su S, and move them into a receiver's folder"
        yield "error", what + why


def _command_of(port: int) -> list[str] | None:
    found = listening_port.owner(port)
    return words_of(found) if found else None
