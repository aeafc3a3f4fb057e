"""A PACS that answers as a test tells it to: by the book, or as archives are known to lie and fail."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from io import BytesIO
from pathlib import Path
from unittest import mock

import pydicom
from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_FIND, C_MOVE
from pynetdicom.dsutils import decode, encode
from pynetdicom.service_class import QueryRetrieveServiceClass
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)
from support.machine.dicom_programs import free_port
from support.peers.archives import OUR_AE_TITLE, Archive
from support.peers.raw_sender import Association, HungUp, Object

PENDING, SUCCESS = 0xFF00, 0x0000


@dataclass
class Move:
    """One C-MOVE request being answered; `wanted` is what it names."""

    pacs: "OddPacs"
    service: QueryRetrieveServiceClass
    request: C_MOVE
    context: object
    identifier: Dataset

    @property
    def wanted(self) -> list[Dataset]:
        series = self.identifier.get("SeriesInstanceUID")
        held = self.pacs.holdings.get(str(self.identifier.StudyInstanceUID), [])
        return [one for one in held if not series or one.SeriesInstanceUID == series]

    def send(self, datasets: Sequence[Dataset]) -> int:
        """Send instances to the receiver; return how many it took.

        pynetdicom's requestor loses a response now and then on a busy machine: its other thread reads it first.
        """
        if not datasets:
            return 0
        taken = 0
        objects = [_object(dataset) for dataset in datasets]
        with contextlib.suppress(HungUp, OSError), self._association(objects) as association:
            for instance in objects:
                taken += association.store(instance) == SUCCESS
                if self.pacs.seconds_an_instance:
                    time.sleep(self.pacs.seconds_an_instance)
        return taken

    def freeze(self, datasets: Sequence[Dataset], until: threading.Event) -> None:
        """Send instances, then keep the association open and do nothing at all, for two minutes at most."""
        objects = [_object(dataset) for dataset in datasets]
        association = self._association(objects)
        for instance in objects:
            association.store(instance)
        until.wait(120)
        with contextlib.suppress(OSError):
            association.abort()

    def _association(self, objects: Sequence[Object]) -> Association:
        names = {"calling": self.pacs.ae_title, "called": OUR_AE_TITLE}
        return Association(self.pacs.destination_port, objects, **names)

    def respond(
        self, status: int, *, remaining: int | None = None, completed: int = 0, failed: int = 0, warned: int = 0
    ) -> None:
        response = C_MOVE()
        response.MessageIDBeingRespondedTo = self.request.MessageID
        response.AffectedSOPClassUID = self.request.AffectedSOPClassUID
        response.Status = status
        response.NumberOfRemainingSuboperations = remaining
        response.NumberOfCompletedSuboperations = completed
        response.NumberOfFailedSuboperations = failed
        response.NumberOfWarningSuboperations = warned
        self.service.dimse.send_msg(response, self.context.context_id)

    def abort(self) -> None:
        self.service.assoc.abort()


def _object(dataset: Dataset) -> Object:
    syntax = dataset.file_meta.TransferSyntaxUID
    content = encode(dataset, syntax.is_implicit_VR, syntax.is_little_endian)
    assert content is not None
    return Object(dataset.SOPClassUID, dataset.SOPInstanceUID, syntax, content)


def by_the_book(move: Move) -> None:
    wanted = move.wanted
    move.respond(PENDING, remaining=len(wanted))
    taken = move.send(wanted)
    move.respond(SUCCESS if taken == len(wanted) else 0xB000, completed=taken, failed=len(wanted) - taken)


@dataclass
class OddPacs:
    """What it holds and how it answers; tests set `find` and `move`."""

    port: int
    destination_port: int
    ae_title: str = "ODDPACS"
    holdings: dict[str, list[Dataset]] = field(default_factory=dict)
    move: Callable[[Move], None] = by_the_book
    seconds_an_instance: float = 0.0
    find: Callable[["OddPacs", Dataset], Iterator[tuple[int, Dataset | None]]] | None = None
    lists_instances: bool = True
    counts_instances: bool = True
    final_has_data_set: bool = False  # of a C-FIND
    ends_after_a_query: bool = False
    rejects_for_now: dict[str, int] = field(default_factory=dict)  # how often, by the SOP class proposed
    moves: list[Dataset] = field(default_factory=list)
    queries: list[Dataset] = field(default_factory=list)

    def hold(self, *files: Path) -> None:
        for file in files:
            dataset = pydicom.dcmread(file)
            self.holdings.setdefault(str(dataset.StudyInstanceUID), []).append(dataset)

    def reset(self) -> None:
        fresh = OddPacs(self.port, self.destination_port)
        for one in fields(self):
            if one.name not in {"port", "destination_port", "holdings"}:
                setattr(self, one.name, getattr(fresh, one.name))

    def answers(self, identifier: Dataset) -> Iterator[tuple[int, Dataset | None]]:
        """Yield what it has, by the book, but for what it was told not to tell."""
        level = identifier.QueryRetrieveLevel
        if level == "IMAGE" and not self.lists_instances:
            yield 0xA900, None
            return
        for found in self._matching(identifier):
            first = found[0]
            answer = Dataset()
            answer.QueryRetrieveLevel = level
            for element in identifier:
                if element.keyword in first:
                    answer[element.tag] = first[element.tag]
            if "NumberOfStudyRelatedSeries" in identifier and self.counts_instances:
                answer.NumberOfStudyRelatedSeries = str(len({one.SeriesInstanceUID for one in found}))
            if self.counts_instances and level == "STUDY":
                answer.NumberOfStudyRelatedInstances = str(len(found))
            if self.counts_instances and level == "SERIES":
                answer.NumberOfSeriesRelatedInstances = str(len(found))
            yield PENDING, answer

    def _matching(self, identifier: Dataset) -> list[list[Dataset]]:
        by = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
        keys = ("AccessionNumber", "StudyInstanceUID", "SeriesInstanceUID")
        groups: dict[str, list[Dataset]] = {}
        for one in (one for some in self.holdings.values() for one in some):
            if all(not identifier.get(key) or one.get(key) == identifier.get(key) for key in keys):
                groups.setdefault(str(one[by[identifier.QueryRetrieveLevel]].value), []).append(one)
        return list(groups.values())

    def archive(self) -> Archive:
        return Archive(self.ae_title, self.port, Path("/dev/null"))


@contextlib.contextmanager
def odd_pacs(destination_port: int) -> Iterator[OddPacs]:
    """Run such a PACS in threads of the test; it sends to `destination_port`."""
    pacs = OddPacs(free_port(), destination_port)

    def find_scp(service: QueryRetrieveServiceClass, request: C_FIND, context: object) -> None:
        syntax = context.transfer_syntax[0]
        how = (syntax.is_implicit_VR, syntax.is_little_endian)
        identifier = decode(request.Identifier, *how)
        pacs.queries.append(identifier)

        def respond(status: int, answer: Dataset | None = None) -> None:
            response = C_FIND()
            response.MessageIDBeingRespondedTo = request.MessageID
            response.AffectedSOPClassUID = request.AffectedSOPClassUID
            response.Status = status
            if answer is not None:
                response.Identifier = BytesIO(encode(answer, *how))
            service.dimse.send_msg(response, context.context_id)

        last = None
        for status, answer in (pacs.find or OddPacs.answers)(pacs, identifier):
            respond(status, answer)
            last = answer or last
            if status != PENDING:
                return
        respond(SUCCESS, last if pacs.final_has_data_set else None)
        if pacs.ends_after_a_query:
            service.assoc.abort()

    def requested(event: evt.Event) -> None:
        for context in event.assoc.requestor.requested_contexts:
            if pacs.rejects_for_now.get(context.abstract_syntax, 0):
                pacs.rejects_for_now[context.abstract_syntax] -= 1
                event.assoc.acse.send_reject(0x02, 0x03, 0x02)  # transient, local limit exceeded: PS3.8 9.3.4
                time.sleep(0.2)  # the peer closes the connection; whoever closes first may lose the rejection
                event.assoc.kill()
                return

    def move_scp(service: QueryRetrieveServiceClass, request: C_MOVE, context: object) -> None:
        syntax = context.transfer_syntax[0]
        identifier = decode(request.Identifier, syntax.is_implicit_VR, syntax.is_little_endian)
        pacs.moves.append(identifier)
        pacs.move(Move(pacs, service, request, context, identifier))

    ae = AE(ae_title=pacs.ae_title)
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelMove)
    ae.network_timeout = 120
    handlers = [(evt.EVT_REQUESTED, requested)]
    with mock.patch.multiple(QueryRetrieveServiceClass, _move_scp=move_scp, _c_find_scp=find_scp):
        server = ae.start_server(("127.0.0.1", pacs.port), block=False, evt_handlers=handlers)
        try:
            yield pacs
        finally:
            server.shutdown()
