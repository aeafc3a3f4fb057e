"""`storestow init`: ask what a site is, write its site.toml, try its peers, and say what to run next."""

import json
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

import typer

from pipeline.commands.check import CheckFinding, by_weight, peers_and_programs
from pipeline.commands.site_draft import MAPPING, PeerAddress, SiteDraft, mapping_json, peer_address, site_toml
from pipeline.destinations.iso import IsoDestination
from pipeline.errors import Configuration, Usage
from pipeline.site.settings import load, parsed

T = TypeVar("T")
KINDS = {
    "archive": "receive from modalities and archive by STOW-RS",
    "orders": "orders by accession number: discs, prints, forwards",
    "relay": "receive from modalities and pass on by C-STORE",
}


@dataclass(frozen=True, slots=True)
class WrittenSite:
    """What `write` has done: the files it wrote, those it left alone, and the senders that one of these lacks."""

    written: tuple[Path, ...]
    kept: tuple[Path, ...]
    unwritten: dict[str, str]


class Ask(Protocol):
    """Answer a question; `default` is what Enter means, and `read` raises Usage for an answer it cannot read."""

    def __call__(self, question: str, default: str, read: Callable[[str], T], /) -> T:
        """Return what `read` made of the answer."""
        ...


def asker(*, is_asked: bool) -> Ask:
    """Return the function that answers questions: it takes the default, or asks a person until `read` takes it."""
    if is_asked:
        return _ask_a_person
    return _take_the_default


def _take_the_default(_question: str, default: str, read: Callable[[str], T]) -> T:
    return read(default)


def _ask_a_person(question: str, default: str, read: Callable[[str], T]) -> T:
    def value_of(text: str) -> T:
        try:
            return read(text.strip())
        except Usage as error:
            raise typer.BadParameter(str(error)) from error  # typer shows it, and asks the same again

    answer: T = typer.prompt(question, default=default, show_default=bool(default), value_proc=value_of)
    return answer


def folder_for(name: str, file: Path) -> str:
    """Return the default folder: below /var or /srv if `file` is in /etc, otherwise beside `file`."""
    usual = {"spool": "/var/spool/storestow", "discs": "/srv/discs"}
    return usual[name] if is_of_machine(file) else str(file.with_name(name))


def is_of_machine(file: Path) -> bool:
    """Tell whether this is the site that the services of a machine run."""
    return file.is_relative_to("/etc")


def senders_in(words: Iterable[str]) -> dict[str, str]:
    """Return the institution mapping of `AE=NAME` words; raises Usage for a word without both."""
    pairs = [word.partition("=") for word in words]
    if odd := [key for key, _, name in pairs if not (key.strip() and name.strip())]:
        raise Usage(f"--sender {odd[0]}: write AE=NAME, as in --sender 'CT1=Example Hospital'")
    return {key.strip(): name.strip() for key, _, name in pairs}


def kinds_in(text: str) -> set[str]:
    """Return the kinds of a site in a list with commas; raises Usage naming those there are."""
    kinds = {word.strip() for word in text.split(",") if word.strip()}
    if not kinds or not kinds <= KINDS.keys():
        known = ", ".join(f"{kind} ({what})" for kind, what in KINDS.items())
        raise Usage(f"say what the site is for, several with commas: {known}")
    return kinds


def asked(draft: SiteDraft, kinds: Iterable[str], ask: Ask) -> SiteDraft:
    """Return the complete draft: `ask` answers what the kinds need and no option has said."""
    kinds = set(kinds)
    if kinds & {"archive", "relay"}:
        draft = replace(draft, ae_title=ask("AE title by which modalities call this machine", draft.ae_title, str))
        draft = replace(draft, port=ask("port for modalities", str(draft.port), _port))
    if "archive" in kinds and not draft.archive_url:
        url = ask(
            "address of the archive's studies (STOW-RS), ends in /studies", "", _needed("--archive-url", str)
        )
        draft = replace(draft, archive_url=url)
    if "relay" in kinds and not draft.relay:
        relay = ask("the PACS to pass on to, AE@HOST:PORT", "", _needed("--relay-to", peer_address))
        draft = replace(draft, relay=relay)
    return _orders_asked(draft, ask) if "orders" in kinds else draft


def _orders_asked(draft: SiteDraft, ask: Ask) -> SiteDraft:
    if not draft.pacs:
        pacs = ask("the PACS to ask by accession number, AE@HOST:PORT", "", _needed("--pacs", peer_address))
        draft = replace(draft, pacs=pacs)
    calling = ask("our AE title at that PACS, and its move destination", draft.calling_ae_title, str)
    draft = replace(draft, calling_ae_title=calling)
    draft = replace(draft, orders_port=ask("port the PACS sends to", str(draft.orders_port), _port))
    draft = replace(draft, discs=ask("folder for disc images", draft.discs, str))
    if not draft.publisher:
        publisher = ask("the CD publisher, AE@HOST:PORT; Enter where there is none", "", _peer_or_none)
        draft = replace(draft, publisher=publisher)
    if not (draft.discs or draft.publisher):
        raise Usage("orders need somewhere to go: --discs FOLDER, --publisher AE@HOST:PORT, or both")
    his = draft.his or ask("address of the HIS's patient API; Enter where there is none", "", str)
    return replace(draft, his=his)


def _needed(option: str, read: Callable[[str], T]) -> Callable[[str], T]:
    """Return `read` for an answer that must not be empty; `option` is what says it on a command line."""

    def read_needed(text: str) -> T:
        if not text:
            raise Usage(f"{option} is needed for a site of this kind")
        return read(text)

    return read_needed


def _peer_or_none(text: str) -> PeerAddress | None:
    return peer_address(text) if text else None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise Usage(f"{text!r} is no port; write 1 to 65535")
    return int(text)


def check_is_new(file: Path) -> None:
    """Raise Usage if there is such a file, before anybody answers questions for it."""
    if file.exists():
        raise Usage(f"{file} exists and is not overwritten; name another file with --output")


def write(draft: SiteDraft, file: Path, senders: dict[str, str]) -> WrittenSite:
    """Write site.toml and the institution mapping beside it; no file that exists is overwritten.

    Raises Usage where `file` exists, Configuration where an answer cannot be right (it names the key) or nothing
    can be written there.
    """
    text, mapping = site_toml(draft), file.with_name(MAPPING)
    parsed(text, file)
    wanted = {file: text} | ({mapping: mapping_json(senders)} if draft.receives else {})
    written = []
    try:
        for path, content in wanted.items():
            if path.exists() and path != file:
                continue
            with path.open("x", encoding="utf-8") as new:
                new.write(content)
            written.append(path)
        if draft.discs and not is_of_machine(file):  # there the services' user must own it, who may not exist yet
            Path(draft.discs).mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise Usage(f"{file} exists and is not overwritten; name another file with --output") from error
    except OSError as error:
        raise Configuration(f"{error.filename}: cannot be written: {error.strerror}") from error
    kept = tuple(wanted.keys() - written)
    return WrittenSite(tuple(written), kept, _lacking(mapping, senders) if mapping in kept else {})


def _lacking(mapping: Path, senders: dict[str, str]) -> dict[str, str]:
    """Return the senders that a mapping of somebody else's does not have so; all if it cannot be read."""
    try:
        there = json.loads(mapping.read_text())
    except (OSError, ValueError):
        there = None
    there = there if isinstance(there, dict) else {}
    return {sender: name for sender, name in senders.items() if there.get(sender) != name}


def tried(file: Path) -> list[CheckFinding]:
    """Return what DCMTK and every peer of the site answers now, the gravest first."""
    return by_weight(peers_and_programs(load(file)))


def next_commands(file: Path) -> list[str]:
    """Return what to run next, in its order."""
    site = "" if file == Path("site.toml").absolute() else f" --site {shlex.quote(str(file))}"
    if not is_of_machine(file):
        return [f"storestow check{site}", f"storestow up{site}"]
    folders = [
        f"install -d -o storestow -g storestow -m 750 {shlex.quote(str(destination.folder))}"
        for destination in load(file).destination
        if isinstance(destination, IsoDestination)
    ]
    return [f"storestow install{site}   # writes the services, and says what to run for them; then", *folders]
