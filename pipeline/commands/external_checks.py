"""The checks of `storestow check` for a receiver whose storescp somebody else runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pipeline.config.receiver_tables import ReceiverTable
from pipeline.errors import StorestowError
from pipeline.receiving import listening_port
from pipeline.receiving.external import command_line
from pipeline.receiving.foreign import words_of
from pipeline.site.settings import Settings
from pipeline.spool.spool import Spool

Level = Literal["ok", "note", "error"]
Said = tuple[Level, str] | tuple[Level, str, str]  # and lines to write somewhere, where they help

_NEEDED = {  # Options of storescp in both spellings, and what is lost without them.
    ("-xcs", "--exec-on-eostudy"): "without -xcs no hook is called: studies are found when they are an hour old",
    ("-xs", "--exec-sync"): "without -xs the hook may rename a folder under storescp, which then refuses (0xA700)",
    ("-tos", "--eostudy-timeout"): "without -tos the last study waits until another one comes",
    ("+uf", "--unique-filenames"): "without +uf an object that comes again overwrites the first",
    ("-lc", "--log-config"): "without -lc nobody notices what storescp drops or misreads",
}


def looked_at(settings: Settings, receiver: ReceiverTable, spool: Spool) -> Iterator[Said]:
    """Yield whether a storescp is running, and which options it lacks for our guarantees."""
    try:
        command_line(settings, receiver, Path("/etc/storestow/site.toml"))
    except StorestowError as error:
        yield "error", str(error)
        return
    remedy = f"`storestow receive {receiver.name} --print` shows the whole command line"
    if not listening_port.is_listened(receiver.port):
        yield "note", f"nobody listens on port {receiver.port}: start its storescp; {remedy}"
    elif (words := _words(receiver.port)) is None:
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


def _words(port: int) -> list[str] | None:
    found = listening_port.owner(port)
    return words_of(found) if found else None
