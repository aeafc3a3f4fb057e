"""How long after the last slice of a large CT, which comes at 20 slices a second, all of it is in the archive."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import pydicom
from pynetdicom import AE
from rows_of_delivery import QUIET_SECONDS, held, sites, wait_for
from studies import slices
from support.machine.dicom_programs import orthanc
from table import Row

SLICES_A_SECOND = 20.0


def _sent_slowly(port: int, files: list[Path]) -> float:
    """Send one study in one association, and return the moment its last slice was acknowledged."""
    entity, first = AE("SENDER"), pydicom.dcmread(files[0], stop_before_pixels=True)
    entity.add_requested_context(first.SOPClassUID, first.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title="STORESTOW")
    began = time.monotonic()
    for number, file in enumerate(files):
        time.sleep(max(0.0, began + number / SLICES_A_SECOND - time.monotonic()))
        assert association.send_c_store(file).Status == 0
    ended = time.monotonic()
    association.release()
    return ended


@contextmanager
def _contenders(folder: Path, small: bool) -> Iterator[Mapping[str, Callable[[], float]]]:
    instances, numbers = 20 if small else 2000, count()
    with ExitStack() as stack:
        archive = stack.enter_context(orthanc(folder / "archive"))

        def tail(port: int) -> float:
            (study,) = slices(folder / f"sent{next(numbers)}", instances)
            before = held(archive)
            ended = _sent_slowly(port, sorted(study.iterdir()))
            wait_for(archive, before + instances)
            return time.monotonic() - ended - QUIET_SECONDS

        running = sites(folder, archive, stack, "j2k")
        yield {name: lambda port=site.port: tail(port) for name, site in running.items()}


ROW = Row(
    "tail of 2,000 slices at 20 a second in JPEG 2000, quiet time taken off",
    _contenders,
    {"ours, j2k, study": 2.0, "ours, j2k, association": 2.0},
    seconds=240,
    rounds=1,
    is_ratio=False,
)
