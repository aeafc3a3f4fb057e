"""Count the modules and functions that one study, and one order, runs through in one process.

A profiler notes each function of the package that is entered: for the line, while a CT goes through a real worker
from its arrival until it has settled; for an order, from the parsed link to the readable disc image, with the PACS
faked.
.venv/bin/python bench/walk.py [--names]
"""

import contextlib
import inspect
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Self
from unittest import mock

import pydicom

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.crash.killed_at import OneRoom
from support.sites.line_site import NULL, all_settled, arrive, instance, rounds, settings_for, working
from support.sites.placed_orders import arrive_from_pacs, settings_with_pacs

from pipeline import orders
from pipeline.dcmtk import SubOperations
from pipeline.dicom.accession import AccessionNumber
from pipeline.dicom.patient import Patient
from pipeline.model import OrderState
from pipeline.orders import c_find, retrieve_study, scheduler
from pipeline.orders.c_find import Series, SeriesAnswer, Studies, StudyAnswer
from pipeline.orders.retrieve_study import RetrievalOutcome
from pipeline.site import open_site
from pipeline.site.site import Site
from pipeline.web.order_request import Verb, wish_of

PACKAGE = str(Path(orders.__file__).parents[1])
WAIT_SECONDS = 120.0


class Walk:
    """The functions that are entered in any thread while the context lasts."""

    def __init__(self) -> None:
        self.entered: set[tuple[str, str]] = set()

    def __enter__(self) -> Self:
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _note(self, frame: FrameType, event: str, _argument: Any) -> None:
        code = frame.f_code
        is_function = code.co_flags & inspect.CO_OPTIMIZED  # A class body runs where its module is imported.
        if event == "call" and is_function and code.co_filename.startswith(PACKAGE) and code.co_name[0] != "<":
            self.entered.add((code.co_filename, code.co_qualname))


def walk_of_a_study(folder: Path) -> Walk:
    """Let one CT arrive, be coerced, encoded to JPEG 2000 and written to a folder, and settle."""
    shelf = {"name": "shelf", "kind": "folder", "folder": str(folder / "shelf"), "encode": "j2k"}
    (folder / "shelf").mkdir()
    with working(settings_for(folder, destinations=(shelf,))) as (site, worker):
        rounds(worker, until=lambda: True)
        with Walk() as walk:
            arrive(site.spool, instance(folder))
            rounds(worker, until=all_settled(site), seconds=WAIT_SECONDS)
    return walk


def walk_of_an_order(folder: Path) -> Walk:
    """Let one order be placed by its link, found, retrieved from a faked PACS, and made a disc image of."""
    file = instance(folder, AccessionNumber="A1")
    disc = {"name": "disc", "kind": "iso", "folder": str(folder / "discs")}
    (folder / "discs").mkdir()
    settings = settings_with_pacs(folder, destinations=(disc, NULL), shim={"download": "disc"})
    with working(settings) as (site, worker), faked_pacs(file):
        rounds(worker, until=lambda: True)
        with Walk() as walk:
            wish = wish_of(Verb.DOWNLOAD, [("accession_number", "A1")], settings)
            placed = orders.place(
                site.ledger, settings, verb=wish.verb, accessions=wish.accessions, destination=wish.destination
            )
            rounds(worker, until=partial(has_ended, site, placed.order_id), seconds=WAIT_SECONDS)
    return walk


def has_ended(site: Site, number: int) -> bool:
    """Tell whether an order is done; ends the program where it has ended otherwise."""
    with site.ledger.reading() as connection:
        view = orders.view(connection, number)
    if view is None or view.state in {OrderState.FAILED, OrderState.PARTIAL}:
        raise SystemExit(f"the order has not been done: {view}")
    return view.state == OrderState.DONE


@contextlib.contextmanager
def faked_pacs(file: Path) -> Iterator[None]:
    """Answer C-FIND and C-MOVE from one file, in this process."""
    header = pydicom.dcmread(file, stop_before_pixels=True)
    study, series = str(header.StudyInstanceUID), str(header.SeriesInstanceUID)
    patient = Patient.of(str(header.PatientID), "", str(header.PatientBirthDate), str(header.PatientName))
    found = Studies((StudyAnswer(study, AccessionNumber("A1"), patient, 1, 1),), {})

    told = Series((SeriesAnswer(series, "CT", 1),), (), is_whole=True)

    def sent(_row: Any, _questions: Any, _held: int, site: Any) -> RetrievalOutcome:
        arrive_from_pacs(site, file, age=0.0)
        return RetrievalOutcome((0, "Success"), SubOperations(completed=1))

    with (
        mock.patch.object(c_find, "studies_of", return_value=found),
        mock.patch.object(c_find, "series_of", return_value=told),
        mock.patch.object(c_find, "instances_of", return_value=[(series, str(header.SOPInstanceUID))]),
        mock.patch.object(retrieve_study, "_sent", sent),
        mock.patch.object(scheduler, "is_up", return_value=True),
    ):
        yield


def main() -> None:
    """Print both walks."""
    for name, take in (("a study", walk_of_a_study), ("an order", walk_of_an_order)):
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(open_site, "ProcessPool", OneRoom):
            walk = take(Path(folder))
        modules = {module for module, _ in walk.entered}
        sys.stdout.write(f"{name}: {len(modules)} modules, {len(walk.entered)} functions\n")
        if "--names" in sys.argv:
            for module, function in sorted(walk.entered):
                sys.stdout.write(f"  {Path(module).relative_to(PACKAGE)} {function}\n")


if __name__ == "__main__":
    main()
