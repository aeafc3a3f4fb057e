"""Read and write `.envelope.json` in an arrival: who opened the association, noted before its first file."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.spool.durable import write_durably

ENVELOPE = ".envelope.json"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is known of the sender when an association opens: calling and called AE title, numeric address.

    `order` is the number of a `send`, whose files come from this machine's disk; `retrieval` is the number of a
    retrieval by C-GET. `receiver` and `opened_at_ns` (since the epoch) are for people who read the file.
    """

    calling_ae_title: str
    called_ae_title: str
    peer: str | None
    receiver: str = ""
    opened_at_ns: int = 0
    order: int | None = None
    retrieval: int | None = None


def write_envelope(folder: Path, envelope: Envelope, *, durably: bool = True) -> None:
    """Write the envelope of `folder`; raises OSError if it cannot be written.

    If not `durably`, no other process may read the folder yet, and the caller must flush file and folder before
    the end of reception.
    """
    told = {key: value for key, value in asdict(envelope).items() if value is not None or key == "peer"}
    text = json.dumps(told).encode()
    if durably:
        write_durably(folder / ENVELOPE, text)
    else:
        (folder / ENVELOPE).write_bytes(text)


def envelope_of(folder: Path) -> Envelope | None:
    """Return the envelope of `folder`; None if there is none (study mode) or a crash has truncated it.

    Raises OSError if it cannot be read now: without it, the instances would have another sender.
    """
    try:
        told = (folder / ENVELOPE).read_bytes()
    except FileNotFoundError:
        return None
    try:
        table = json.loads(told)
        return Envelope(
            str(table["calling_ae_title"]),
            str(table["called_ae_title"]),
            table.get("peer"),
            str(table.get("receiver", "")),
            int(table.get("opened_at_ns", 0)),
            table.get("order"),
            table.get("retrieval"),
        )
    except (ValueError, KeyError, TypeError):
        return None
