"""Patients' names for the shim: [patients] is asked once for each order, the answer is kept for some minutes."""

import threading
import time
from collections import OrderedDict

from pipeline import patients
from pipeline.dicom.accession import AccessionNumber
from pipeline.dicom.same_patient import Attribute
from pipeline.errors import Configuration, StorestowError
from pipeline.events import Event, alarm
from pipeline.model import OrderError
from pipeline.orders import OrderView, his
from pipeline.orders.compare_sources import IdentitySource
from pipeline.patients import MoreThanOnePatient, Patients, PatientUnknown, Person
from pipeline.web.http_errors import HttpError, kind_of
from pipeline.web.order_service import OrderService

KEPT_SECONDS = 300.0
MOST_KEPT = 256


class PatientNames:
    """Ask [patients], and keep the answers for a while, because the page of an order is shown many times."""

    def __init__(self, source: Patients, order_service: OrderService) -> None:
        self.source = source
        self._order_service = order_service
        self._kept: OrderedDict[AccessionNumber, tuple[float, Person]] = OrderedDict()
        self._lock = threading.Lock()

    def require_one(self, accessions: tuple[AccessionNumber, ...]) -> None:
        """Raise HttpError if the numbers are unknown or of two patients, before anything is ordered.

        If only the study itself can tell, nothing is asked here: the order compares the studies.
        """
        if self.source.knows_beforehand:
            people: dict[str, Person] = {accession: self.person(accession) for accession in accessions}
            if findings := his.among(people, self.source.table).differing:
                raise HttpError(
                    kind_of(OrderError.MORE_THAN_ONE_PATIENT),
                    "the accession numbers are two patients'",
                    differing=[difference.as_row() for difference in findings],
                )

    def name_of(self, view: OrderView) -> str:
        """Return the patient's name for a finished order, "" if nobody can tell it; the order stays done."""
        is_named_otherwise = any(
            IdentitySource.HIS in difference.between
            for difference in view.noted
            if Attribute.NAME in difference.attributes
        )
        if is_named_otherwise or any(IdentitySource.HIS in difference.between for difference in view.differing):
            return ""  # The PACS names somebody else: what holds these images is not called after the HIS.
        for accession in view.accessions:
            if accession not in view.missing:
                try:
                    return self.person(AccessionNumber(accession), view).patient_name or ""
                except HttpError:
                    return ""
        return ""

    def person(
        self, accession: AccessionNumber, view: OrderView | None = None, *, must_be_fresh: bool = False
    ) -> Person:
        """Return what is known under an accession number; raises HttpError."""
        if not must_be_fresh and (kept := self._remembered(accession)):
            return kept
        files = self._order_service.files_of(view.id) if view else ()
        try:
            person = patients.found(self.source, accession, files)
        except PatientUnknown as error:
            raise HttpError(kind_of(OrderError.PATIENT_UNKNOWN), str(error)) from error
        except MoreThanOnePatient as error:
            raise HttpError(kind_of(OrderError.MORE_THAN_ONE_PATIENT), str(error)) from error
        except StorestowError as error:
            alarm(Event.HELD, what="patients", reason=error)
            detail = "see the log" if isinstance(error, Configuration) else str(error)
            raise HttpError(kind_of(OrderError.PATIENTS_UNAVAILABLE), detail) from error
        self._remember(accession, person)
        return person

    def _remembered(self, accession: AccessionNumber) -> Person | None:
        with self._lock:
            at, person = self._kept.get(accession, (0.0, None))
        return person if person and time.monotonic() - at < KEPT_SECONDS else None

    def _remember(self, accession: AccessionNumber, person: Person) -> None:
        # What one study says may not hold for the next study with that number.
        if not self.source.knows_beforehand:
            return
        with self._lock:
            self._kept[accession] = (time.monotonic(), person)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
