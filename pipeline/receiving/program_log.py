"""Turn storescp's output into events, line by line: of limited length, escaped, without patients."""

import logging
from collections.abc import Callable

from pipeline.dcmtk.storescp_log import StoreRequest, StorescpLog
from pipeline.events import Event, emit

LONGEST_LINE = 1000  # Bytes; a longer line is split.
CHUNK = 65536
# Prefixes of DCMTK's messages, such as `W: ...`.
_LEVELS = {"F": logging.ERROR, "E": logging.ERROR, "W": logging.WARNING}
_SILENT = ("I:", "D:")  # These lines say which object is being received, and are not logged.
_REFUSED_ASSOCIATION = ("I: Association Rejected", "E: 0006:03")  # DCMTK's conditions of the upper layer.
_HIDDEN_PIXELS = (
    "it holds compressed pixels although its transfer syntax is an uncompressed one, and in study mode "
    'storescp writes every object anew; a receiver with mode = "association" takes it as it is'
)
_REMEDIES = {"Pixel representation not found": _HIDDEN_PIXELS}


class ProgramLog:
    """Collect the bytes of one program and log each line once it is complete.

    `peer` returns the numeric address of the program's peer, None if unknown; `calling_ae_title` is the peer's,
    for a program that does not log it.
    """

    def __init__(
        self, receiver: str, peer: Callable[[], str | None] = lambda: None, calling_ae_title: str = ""
    ) -> None:
        self._receiver = receiver
        self._peer = peer
        self._rest = b""
        self._log_of_objects = StorescpLog(calling_ae_title)
        self._present_peer: str | None = None

    @property
    def has_association(self) -> bool:
        """Say whether storescp has reported an association that is still open."""
        return self._log_of_objects.has_association

    def hear(self, chunk: bytes) -> None:
        """Take a chunk of output; an empty chunk is the end and completes the last line."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if not chunk or len(self._rest) > LONGEST_LINE:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            for start in range(0, len(line), LONGEST_LINE):
                self._take(line[start : start + LONGEST_LINE].decode("utf-8", "replace").strip())
        if not chunk:
            self._end()

    def _take(self, text: str) -> None:
        if text.startswith("I: Association Received"):
            self._present_peer = self._peer()
        if complete := self._log_of_objects.hear(text):
            self._tell(complete)
        if text.startswith(_REFUSED_ASSOCIATION) and not self.has_association:
            self._refused_association(text[3:])
        if text and not text.startswith(_SILENT):
            level = _LEVELS.get(text.partition(":")[0], logging.WARNING)
            emit(Event.PROGRAM, level, program="storescp", receiver=self._receiver, says=text)

    def _refused_association(self, reason: str) -> None:
        calling = self._log_of_objects.calling_ae_title or None
        about = {"receiver": self._receiver, "peer": self._present_peer, "calling_ae_title": calling}
        emit(Event.REFUSED, logging.WARNING, **about, reason=f"no association: {reason}")

    def _end(self) -> None:
        """Log the object that storescp was reading when it ended; it was never acknowledged."""
        last = self._log_of_objects.end()
        if last and not last.file and not last.failure:
            last.failure = "storescp ended while it was receiving it"
        if last:
            self._tell(last)

    def _tell(self, request: StoreRequest) -> None:
        if request.failure is None:
            return
        remedy = _REMEDIES.get(request.failure)
        said = [request.failure, *([remedy] if remedy else request.complaints[:3])]
        emit(
            Event.REFUSED,
            logging.WARNING,
            receiver=self._receiver,
            peer=self._present_peer,
            calling_ae_title=request.calling_ae_title or None,
            study=request.study_instance_uid or None,
            instance=request.sop_instance_uid or None,
            reason="; ".join(said),
        )
