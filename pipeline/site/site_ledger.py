"""The ledger of a site: a file in its spool, or a database on a server."""

from functools import partial
from typing import Any

from pipeline.config import secret
from pipeline.engine import Engine
from pipeline.engine.alone import Alone
from pipeline.ledger import FILE_NAME, Ledger, Server
from pipeline.site.settings import Settings


def server_of(settings: Settings) -> Server | None:
    """Return the server that holds the ledger, None if it is a file in the spool."""
    if not settings.site.ledger:
        return None
    file = settings.site.ledger_password_file
    password = partial(secret.read, "ledger_password", None, file) if file else None
    return Server(settings.site.ledger, password)


def engine_of(settings: Settings, *, of_worker: bool = False) -> Engine:
    """Return what carries notices to other workers; that of a worker tells all nodes but its own."""
    server = server_of(settings)
    if settings.cluster is None or server is None:
        return Alone()
    from pipeline.engine.procrastinate import Procrastinate  # noqa: PLC0415  # no other site needs it

    return Procrastinate(partial(_arguments, server), settings.cluster.name if of_worker else "")


def _arguments(server: Server) -> dict[str, Any]:
    from pipeline.ledger.postgresql import arguments_of  # noqa: PLC0415  # it needs the driver

    return arguments_of(server)


def connect(settings: Settings) -> Ledger:
    """Return the ledger, whatever state it is in; the caller closes it.

    Raises Configuration if it is on a server and the spool has one in a file, too: a person knows which is valid.
    """
    ledger = Ledger(server_of(settings) or settings.site.spool / FILE_NAME, engine_of(settings))
    ledger.require_no_file(settings.site.spool)
    return ledger


def ledger_of(settings: Settings) -> Ledger:
    """Return the ledger that a worker has made; the caller closes it.

    Raises Configuration if there is none yet, or one of another release.
    """
    ledger = connect(settings)
    try:
        ledger.require_tables()
    except BaseException:
        ledger.close()
        raise
    return ledger
