"""Make the command line with which somebody else can run the storescp of study mode."""

import shlex
import sys
from pathlib import Path

from pipeline.config.receiver_tables import ReceiverTable
from pipeline.errors import Usage
from pipeline.receiving.study_receiver import storescp_of, study_hook, write_files
from pipeline.site.settings import Settings

# Without this variable DCMTK leaves Nagle's algorithm on, which costs some 40 ms for each object.
ENVIRONMENT = {"TCP_NODELAY": "1"}


def command_line(settings: Settings, receiver: ReceiverTable, site_file: Path) -> tuple[str, ...]:
    """Return the command line of a receiver's permanent storescp; `prepare` writes the files that it names.

    Raises Usage for a receiver in association mode, and Configuration as `storescp_of` and `study_hook` do.
    """
    if receiver.mode == "association":
        raise Usage(
            f'receiver {receiver.name} has mode = "association": each association has a storescp of its own, on a '
            "connection that we have accepted"
        )
    program = Path(sys.prefix) / "bin" / "storestow"
    before = (program, site_file) if receiver.hook == "process-study" else ()
    spool = settings.spool
    return storescp_of(settings, receiver, spool, study_hook(spool, receiver.name, *before, hook=receiver.hook))


def prepare(settings: Settings, receiver: ReceiverTable) -> None:
    """Create the folder into which a receiver's storescp writes, and the files it reads, for the calling user."""
    spool = settings.spool
    spool.prepare()
    spool.prepare_receiver(receiver.name)
    write_files(receiver, spool)


def as_typed(argv: tuple[str, ...]) -> str:
    """Return the command line as a person types it into a shell."""
    return " ".join([*(f"{name}={value}" for name, value in ENVIRONMENT.items()), shlex.join(argv)])
