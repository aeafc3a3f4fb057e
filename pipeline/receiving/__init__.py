"""Run receivers: one class for each `mode`; each keeps its port open until it is stopped."""

import os
from typing import Protocol

from pipeline import dcmtk
from pipeline.config.receiver_tables import ReceiverTable
from pipeline.errors import Configuration
from pipeline.receiving import sweep
from pipeline.receiving.association_receiver import AssociationReceiver
from pipeline.receiving.lock import held, is_receiving, is_up
from pipeline.receiving.signal_socket import Signals
from pipeline.receiving.study_receiver import StudyReceiver
from pipeline.receiving.sweep import sweep_abandoned
from pipeline.site.settings import Settings
from pipeline.spool.spool import Spool

__all__ = ["Receiver", "is_receiving", "is_up", "receive", "sweep_abandoned"]


class Receiver(Protocol):
    """A receiver with an open port.

    `lock` is the file descriptor that every process inherits that writes into the receiver's incoming folder.
    """

    def __init__(self, settings: Settings, receiver: ReceiverTable, spool: Spool, lock: int) -> None: ...

    def serve(self, signals: Signals) -> int:
        """Receive until asked to stop, and return the exit code.

        Raises Configuration if the receiver cannot start.
        """


_MODES: dict[str, type[Receiver]] = {"study": StudyReceiver, "association": AssociationReceiver}


def receive(settings: Settings, name: str) -> int:
    """Run the receiver `name` in the foreground until SIGTERM or SIGINT, and return the exit code.

    Folders of an earlier run are admitted first. Raises Configuration if the receiver cannot start, and Transient
    if it cannot go on; no received object is lost in either case. Call this from the main thread.
    """
    os.umask(dcmtk.UMASK)
    receiver = settings.receiver_named(name)
    if receiver.mode == "external":
        raise Configuration(
            f'receiver {name} has mode = "external": somebody else runs its storescp; '
            f"`storestow receive {name} --print` shows how"
        )
    spool = settings.spool
    spool.prepare()
    spool.prepare_receiver(name)
    with Signals() as signals, held(spool, receiver) as lock:
        sweep.take_all(spool, name, "left by an earlier run")
        return _MODES[receiver.mode](settings, receiver, spool, lock).serve(signals)
