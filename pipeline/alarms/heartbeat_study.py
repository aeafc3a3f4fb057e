"""A study of one small image that is sent through the whole line regularly: [alarm] heartbeat.

It is sent by C-STORE to one of our receivers, as a modality would send it, and must be verified in time at every
destination of that receiver. It therefore tests storescp, the hook, the worker, the codec and the archive at once.
"""

import hashlib
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from pipeline.alarms.conditions import Condition
from pipeline.config.alarm_tables import HeartbeatStudyTable
from pipeline.config.route_tables import RouteFacts
from pipeline.cstore.pdu_connection import Peer
from pipeline.cstore.send_instances import StorageScu
from pipeline.errors import StorestowError
from pipeline.events import Event, alarm, emit
from pipeline.ledger import Ledger, heartbeat_studies
from pipeline.ledger.heartbeat_studies import SentStudy
from pipeline.model import ARRIVED, InstanceKey, Item
from pipeline.site.node import name_in_cluster
from pipeline.site.routing import Routing
from pipeline.site.settings import Settings
from pipeline.spool.durable import unlink

HEARTBEAT_KEY = "heartbeat-study"
PATIENT = "STORESTOW-HEARTBEAT"  # Patient ID and name of no person.
MODALITY = "OT"
SEND_SECONDS = 20.0
ROWS = 64


class HeartbeatStudy:
    """Send a study when it is due, and report what is wrong with the last one."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings, self._ledger = settings, ledger
        self._node = name_in_cluster(settings)

    def look(self, now: float) -> list[Condition]:
        """Send a study if one is due at `now`; return a condition if the last was not verified in time."""
        table = self._settings.alarm.heartbeat
        if table is None:
            return []
        with self._ledger.reading() as connection:
            last = heartbeat_studies.read(connection, self._node)
        if last is not None and last.verified_at is None:
            last = self._judged(last, table, now)
        if last is None or now - last.sent_at >= table.every.total_seconds() or last.sent_at > now:
            last = self._send(last, table, now)
        if not last.is_missed:
            return []
        minutes = table.within.total_seconds() / 60
        words = f"a heartbeat study sent to {table.receiver} was not verified within {minutes:.0f} minutes"
        return [Condition(HEARTBEAT_KEY, words, is_of_node=True)]

    def _judged(self, last: SentStudy, table: HeartbeatStudyTable, now: float) -> SentStudy:
        destinations = self._destinations(table)
        with self._ledger.reading() as connection:
            verified_at = heartbeat_studies.verified_at(connection, last, destinations)
        if verified_at is not None:
            seconds = round(max(0.0, verified_at - last.sent_at), 1)
            last = last._replace(verified_at=verified_at, is_missed=False, seconds=seconds)
            emit(Event.HEARTBEAT_STUDY, study=last.study_instance_uid, seconds=seconds)
        elif now - last.sent_at > table.within.total_seconds() and not last.is_missed:
            last = last._replace(is_missed=True)
        else:
            return last
        self._keep(last)
        return last

    def _destinations(self, table: HeartbeatStudyTable) -> int:
        """Return to how many destinations the study goes."""
        receiver = self._settings.receiver_named(table.receiver)
        peer = None if receiver.mode == "study" else "127.0.0.1"
        sop_class = SecondaryCaptureImageStorage
        facts = RouteFacts(
            receiver.name, table.calling_ae_title, receiver.ae_title, peer, MODALITY, sop_class, None
        )
        return len(Routing(self._settings, receiver, [facts]).of(facts))

    def _send(self, last: SentStudy | None, table: HeartbeatStudyTable, now: float) -> SentStudy:
        study = generate_uid(prefix="2.25.")
        was_missed = last is not None and last.is_missed
        sent = SentStudy(study, now, None, was_missed, last.seconds if last else None)
        path = self._settings.site.spool / "run" / "heartbeat-study.dcm"
        try:
            item = _written(path, study, table.calling_ae_title)
            receipts = list(StorageScu(self._peer(table), lambda _items: None).send([item]))
            if not all(receipt.state in ARRIVED for receipt in receipts):
                sent = sent._replace(is_missed=True)
        except (StorestowError, OSError) as error:
            alarm(Event.HEARTBEAT_STUDY, study=study, reason=error)
            sent = sent._replace(is_missed=True)
        finally:
            unlink(path, missing_ok=True)
        self._keep(sent)
        return sent

    def _keep(self, study: SentStudy) -> None:
        with self._ledger.transaction() as connection:
            heartbeat_studies.write(connection, study, self._node)

    def _peer(self, table: HeartbeatStudyTable) -> Peer:
        receiver = self._settings.receiver_named(table.receiver)
        bound = receiver.bind if receiver.mode == "association" else "127.0.0.1"
        return Peer(
            host="127.0.0.1" if bound in {"0.0.0.0", "::"} else bound,  # noqa: S104  # not bound here
            port=receiver.port,
            ae_title=receiver.ae_title,
            calling_ae_title=table.calling_ae_title,
            connect_seconds=SEND_SECONDS,
            associate_seconds=SEND_SECONDS,
            response_seconds=SEND_SECONDS,
            max_pdu=16384,
        )


def _written(path: Path, study: str, calling_ae_title: str) -> Item:
    """Write a Secondary Capture Image without a real patient to `path`, and return it as the item to send."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    key = InstanceKey(study, generate_uid(prefix="2.25."), generate_uid(prefix="2.25."))
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID = (
        key.study_instance_uid,
        key.series_instance_uid,
        key.sop_instance_uid,
    )
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.PatientName, dataset.PatientID = PATIENT, PATIENT
    dataset.PatientBirthDate = dataset.PatientSex = dataset.StudyDate = dataset.StudyTime = ""
    dataset.AccessionNumber = dataset.ReferringPhysicianName = dataset.StudyID = ""
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    dataset.Modality, dataset.ConversionType = MODALITY, "SYN"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows = dataset.Columns = ROWS
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = bytes((row * 4) & 0xFF for row in range(ROWS) for _ in range(ROWS))
    dataset.save_as(path, enforce_file_format=True)
    content = path.read_bytes()
    return Item(
        key=key,
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        sop_class_uid=SecondaryCaptureImageStorage,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        calling_ae_title=calling_ae_title,
        called_ae_title="",
        institution=None,
    )
