"""Read what findscu, movescu and getscu report of an archive's responses; no exit code is believed."""

import re
from dataclasses import dataclass, field
from pathlib import Path

_REQUEST = re.compile(r"I: Sending Find Request")
_FILE = re.compile(r"I: Writing response dataset to file: (.+)")
_FINAL_FIND = re.compile(r"I: Received Final Find Response \((.*)\)")
_RESPONSE = re.compile(r"D: Message Type +: C-(?:MOVE|GET) RSP")
_COUNT = re.compile(r"D: (Remaining|Completed|Failed|Warning) Suboperations +: (\d+)")
_STATUS = re.compile(r"D: DIMSE Status +: 0x([0-9a-f]{4})(?:: (.*))?")
_PROBLEM = re.compile(r"[FE]: (.+)")
_ACCEPTED = re.compile(r"I: Association Accepted")
_FOR_NOW = re.compile(r"^[FED]: Result: Rejected Transient\b", re.MULTILINE)  # A-ASSOCIATE-RJ, PS3.8 table 9-21.
_DULL = re.compile(
    r"Association (?:Request Failed|Rejected):|[0-9a-f]{4}:[0-9a-f]{4} "
)  # The important words come after these.
PENDING = range(0xFF00, 0xFF02)  # PS3.7 annex C.1.6


@dataclass
class QueryAnswers:
    """The answers to one query: their files, and the words of the final status, None if none came."""

    files: list[Path] = field(default_factory=list)
    status: str | None = None

    @property
    def is_whole(self) -> bool:
        """Say whether the archive has sent its final response with success."""
        return self.status == "Success"


def find_answers(output: str) -> list[QueryAnswers]:
    """Return the answers to each query sent, in order."""
    found: list[QueryAnswers] = []
    for line in output.splitlines():
        if _REQUEST.match(line):
            found.append(QueryAnswers())
        elif found and (file := _FILE.match(line)):
            found[-1].files.append(Path(file[1]))
        elif found and (final := _FINAL_FIND.match(line)):
            found[-1].status = final[1]
    return found


def problems(output: str) -> str:
    """Return a program's complaints as one sentence, without meaningless lines."""
    return _sentence([found[1] for line in output.splitlines() if (found := _PROBLEM.match(line))])


def is_rejected_for_now(output: str) -> bool:
    """Tell whether the archive rejected the association for now: try again later (PS3.8 9.3.4)."""
    return bool(_FOR_NOW.search(output))


def _sentence(said: list[str]) -> str:
    return "; ".join(filter(None, dict.fromkeys(_DULL.sub("", line).strip() for line in said)))[:500]


@dataclass
class SubOperations:
    """Sub-operations of a C-MOVE or C-GET as the archive counts them (PS3.7 9.1.4)."""

    remaining: int = 0
    completed: int = 0
    failed: int = 0
    warned: int = 0

    @property
    def total(self) -> int:
        """Return the number of all sub-operations."""
        return self.remaining + self.completed + self.failed + self.warned


_FIELDS = {"Remaining": "remaining", "Completed": "completed", "Failed": "failed", "Warning": "warned"}


class Progress:
    """Follow a movescu or getscu: the archive's counts so far, and the end of each request.

    Counts add up over several requests. `status` is the worst final status, None until every request has one.
    """

    def __init__(self, requests: int) -> None:
        self.is_associated = False
        self.is_rejected_for_now = False
        self._problems: list[str] = []
        self._requests = requests
        self._ended = SubOperations()
        self._now = SubOperations()
        self._finals: list[tuple[int, str]] = []
        self._is_response = False

    def begin_again(self) -> None:
        """Forget the complaints of a program that got no association and runs again."""
        self.is_rejected_for_now = False
        self._problems.clear()

    def hear(self, line: str) -> None:
        """Read one line of the program's output."""
        self.is_rejected_for_now |= is_rejected_for_now(line)
        if _RESPONSE.match(line):
            self._is_response, self._now = True, SubOperations()
        elif problem := _PROBLEM.match(line):
            self._problems.append(problem[1])
        elif _ACCEPTED.match(line):
            self.is_associated = True
        elif self._is_response:
            self._read(line)

    def _read(self, line: str) -> None:
        if count := _COUNT.match(line):
            setattr(self._now, _FIELDS[count[1]], int(count[2]))
        elif status := _STATUS.match(line):
            self._is_response = False
            code = int(status[1], 16)
            if code not in PENDING:
                self._finals.append((code, status[2] or ""))
                self._ended = self._sum()
                self._now = SubOperations()

    def _sum(self) -> SubOperations:
        pairs = {name: getattr(self._ended, name) + getattr(self._now, name) for name in _FIELDS.values()}
        return SubOperations(**pairs)

    @property
    def counted(self) -> SubOperations:
        """Return the sub-operations of all requests so far."""
        return self._sum()

    @property
    def has_ended(self) -> bool:
        """Say whether every request has its final response."""
        return len(self._finals) >= self._requests

    @property
    def status(self) -> tuple[int, str] | None:
        """Return the worst final status and its words, None until every request has ended."""
        return max(self._finals, default=None) if self.has_ended else None

    @property
    def complaint(self) -> str:
        """Return the program's own complaints."""
        return _sentence(self._problems)
