"""What a storescp says becomes events, line by line: bounded, escaped, never a patient."""

import logging

from pipeline.events import Event, emit

LONGEST_LINE = 1000  # bytes; a longer line becomes several
CHUNK = 65536
_LEVELS = {"F": logging.ERROR, "E": logging.ERROR, "W": logging.WARNING, "I": logging.INFO}  # DCMTK: `W: ...`


class Output:
    """Collect the bytes of one program and log each line once it is complete."""

    def __init__(self, receiver: str) -> None:
        self._receiver = receiver
        self._rest = b""

    def hear(self, chunk: bytes) -> None:
        """Take what was read; an empty chunk is the end and completes the last line."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if not chunk or len(self._rest) > LONGEST_LINE:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            for start in range(0, len(line), LONGEST_LINE):
                self._log(line[start : start + LONGEST_LINE].decode("utf-8", "replace").strip())

    def _log(self, text: str) -> None:
        level = _LEVELS.get(text.partition(":")[0], logging.WARNING)
        if text:
            emit(Event.PROGRAM, level, program="storescp", receiver=self._receiver, says=text)
