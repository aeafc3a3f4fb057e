"""`storestow relocate`: take the ledger from its file in the spool to the server that [site] ledger names."""

from contextlib import closing

from pipeline.commands.migrate import require_owner
from pipeline.errors import Usage
from pipeline.ledger import FILE_NAME, Ledger
from pipeline.ledger.move_to_server import move
from pipeline.site.settings import Settings
from pipeline.site.site_ledger import server_of
from pipeline.site.worker_state import sole_worker


def relocate(settings: Settings) -> str:
    """Copy every row while no worker runs on this spool, and return what was done.

    Raises Usage if no server is configured, if there is no file, or if it belongs to another user; AnotherWorks
    while a worker runs; and what opening a ledger raises.
    """
    spool = settings.spool
    server = server_of(settings)
    if server is None:
        raise Usage("[site] ledger names no server: write its address there first (docs/scale.md)")
    if not (spool.root / FILE_NAME).exists():
        raise Usage(f"there is no {spool.root / FILE_NAME}: the worker makes a new ledger on the server")
    require_owner(spool.root / FILE_NAME)
    spool.prepare()
    with sole_worker(spool), closing(Ledger(server)) as ledger:
        ledger.require_fit()
        count = move(spool.root, ledger)
    done = f"{count} rows are in {ledger.name} now" if count else f"all rows were in {ledger.name} already"
    return f"{done}; the file is kept as {FILE_NAME}.moved"
