"""What the pool is asked to do for one file."""

from datetime import UTC, datetime
from pathlib import Path

from pipeline.line.identify import read
from pipeline.line.prepare import PrepareTask
from pipeline.model import Origin


def task_of(file: Path, folder: Path, encoding: str = "none") -> PrepareTask:
    """Return the task of preparing `file` for one destination, to be made in `folder`."""
    found = read(file)
    assert found.key is not None
    origin = Origin("cdrecord", "PACS", "CDRECORD", None, datetime.now(UTC))
    return PrepareTask(1, file, found.received_sha256, found.key, origin, (), (encoding,), folder / "out", folder)
