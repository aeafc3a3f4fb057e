"""Prepare CT in JPEG 2000 in this process, coerced, encoded, proved and written, for a profiler to look at.

`make flame` has py-spy look at it, and draws what it saw. Two words more: how many CT, and another encoding.
"""

import hashlib
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pydicom

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from studies import slices  # noqa: E402  # found by the path above
from support.sites.line_site import settings_for  # noqa: E402

from pipeline.coercions import rules_of  # noqa: E402
from pipeline.line.prepare import PrepareTask, prepare  # noqa: E402
from pipeline.model import InstanceKey, Origin  # noqa: E402


def main() -> None:
    """Prepare one after the other."""
    instances, encoding = int((sys.argv[1:] or ["100"])[0]), (sys.argv[2:] or ["j2k"])[0]
    origin = Origin("modalities", "CT", "STORESTOW", None, datetime.now(UTC))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (study,) = slices(folder / "study", instances)
        rules = rules_of(settings_for(folder))
        for number, file in enumerate(sorted(study.iterdir())):
            header = pydicom.dcmread(file, stop_before_pixels=True)
            key = InstanceKey(header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID)
            sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
            target = folder / str(number)
            prepare(PrepareTask(number, file, sha256, key, origin, rules, (encoding,), target, folder))


if __name__ == "__main__":
    main()
