"""The output of `storestow disc`; everything from a disc is escaped for the terminal."""

import contextlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as ProgressBar

from pipeline.disc.errors import NoPatientID, SeveralPatients
from pipeline.disc.model import Disc, Progress
from pipeline.disc.model import as_json as result_of
from pipeline.disc.verify.findings import Inspection, counted
from pipeline.events import escaped

_console = Console(highlight=False)
_MOST_NAMED = 5  # Files named for one reason.
_STAGES = {"read": "reading objects", "decode": "decoding", "write": "writing", "verify": "reading back"}


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """Show a progress bar for each stage on standard error, if that is a terminal."""
    with ProgressBar(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bars:
        known = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in known:
                known[stage] = bars.add_task(_STAGES.get(stage, stage), total=total)
            bars.update(known[stage], completed=done)

        yield show


def show_disc(disc: Disc, *, as_json: bool) -> None:
    """Print the disc that was made: its file, medium, hash, and everything left out."""
    if as_json:
        print(json.dumps(_result(disc), indent=2))  # noqa: T201
    else:
        _show(disc)


def _result(disc: Disc) -> dict[str, Any]:
    """Return the `.json` of the disc, with the source file of everything left out.

    The names of source files are for the caller only and never on a disc.
    """
    table = result_of(disc, disc.path.name)
    named = zip(table["left_out"], disc.left_out, strict=True)
    return table | {"left_out": [entry | {"file": str(one.source)} for entry, one in named]}


def _show(disc: Disc) -> None:
    objects = f"{_objects(len(disc.instances))} in {sum(len(study.series) for study in disc.studies)} series"
    _say(f"{disc.path}: {disc.size:,} bytes for {disc.medium.name.upper()}, volume {disc.volume_id}, {objects}")
    _say(f"sha256 {disc.sha256}")
    decoded = sum(instance.decoded_from is not None for instance in disc.instances)
    if decoded:
        _say(f"{counted(decoded, 'object was', 'objects were')} decoded to Explicit VR Little Endian for it")
    if disc.duplicates:
        were = counted(disc.duplicates, "file was a repetition", "files were repetitions")
        _say(f"{were} of an object that is on it")
    for reason, count in Counter(omission.reason for omission in disc.left_out).items():
        _say(f"LEFT OUT {count}: {reason}")
        of_this_kind = [omission for omission in disc.left_out if omission.reason == reason]
        for omission in of_this_kind[:_MOST_NAMED]:
            _say(f"    {omission.sop_instance_uid or '-'}  {omission.source}")
        if count > _MOST_NAMED:
            _say(f"    and {count - _MOST_NAMED} more; --json names every file")
    _say("read back: every object and every record of its DICOMDIR is as it should be")


def show_inspection(found: Inspection, *, as_json: bool) -> None:
    """Print the faults of a disc, and the counts."""
    if as_json:
        print(json.dumps({"good": found.is_good, **asdict(found)}, indent=2))  # noqa: T201
        return
    for finding in found.findings:
        colour = "red" if finding.level == "error" else "yellow"
        _console.print(
            f"[{colour}]{finding.level}[/] {escape(escaped(finding.text, 2000).strip(chr(34)))}", soft_wrap=True
        )
    objects = f"{_objects(found.objects)} of {counted(found.patients, 'patient', 'patients')}"
    listed = f"{found.listed} listed in the DICOMDIR"
    sums = f", {counted(found.checksums, 'checksum holds', 'checksums hold')}" if found.checksums else ""
    _say(f"{objects}, {listed}{sums}")
    verdict = (
        "nothing wrong was found" if not found.findings else "good, with notes" if found.is_good else "NOT GOOD"
    )
    _say(verdict)


def show_examples(refused: SeveralPatients | NoPatientID) -> None:
    """Print which files to look at; no log has them, because file names may be persons' names."""
    if isinstance(refused, NoPatientID):
        _show_files("without Patient ID, for example", refused.examples)
        return
    for difference in refused.differences:
        _show_files(f"{difference.attribute} is another in each of these, for example", difference.examples)


def _show_files(what: str, files: Sequence[Path]) -> None:
    _say(f"{what}:")
    for file in files[:_MOST_NAMED]:
        _say(f"    {file}")


def _objects(number: int) -> str:
    return counted(number, "object", "objects")


def _say(text: str) -> None:
    _console.print(escape(escaped(text, 2000).strip('"')), soft_wrap=True)
