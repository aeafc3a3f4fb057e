"""kind = "stow": send to a DICOMweb archive by STOW-RS, and verify by QIDO-RS (docs/adr/0004-stow.md)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny

from pipeline import guards
from pipeline.config.keys import AbsolutePath, Duration, Size
from pipeline.destinations import START_OR_CORRECT, Destination
from pipeline.dicom import encodings
from pipeline.dicomweb.auth import Auth, NoAuth
from pipeline.dicomweb.urls import checked_template, is_fixed
from pipeline.errors import Configuration, PeerUnavailable, Permanent, StorestowError, Transient
from pipeline.guards import Guard
from pipeline.guards.none import NoGuard
from pipeline.model import Consignment, InstanceKey, Item, Receipt, ReceiptState

if TYPE_CHECKING:
    from pipeline.dicomweb.http_client import HttpClient
    from pipeline.dicomweb.study_upload import StudyUpload


class StowDestination(Destination):
    """Send to `url`, and ask there what has arrived."""

    asks_first: ClassVar[bool] = True
    lists_what_it_has: ClassVar[bool] = True
    takes_parts: ClassVar[bool] = True

    kind: Literal["stow"]
    url: Annotated[str, AfterValidator(checked_template)]
    """Address of the archive's studies. It may hold %@ or {calling_aet}, {called_aet} and {institution}.
    Example: `"http://archive.example.org:8080/dcm4chee-arc/aets/DCM4CHEE/rs/studies"`"""
    connections: Annotated[int, Field(ge=1, le=32)] = 2
    """Requests with instances at once in a delivery; one that has none to send asks what is stored."""
    batch_bytes: Size = 8 << 20
    """Bytes of instances in one request, about; a larger instance goes alone."""
    auth: Auth = NoAuth()
    """How we show who we are; see the kinds below.
    Example: `{ kind = "basic", user = "storestow", password_file = "/etc/storestow/archive.password" }`"""
    ca_bundle: AbsolutePath | None = None
    """Certificates of the authority that signs the archive's; the system's where it is not written.
    Example: `"/etc/storestow/archive-ca.crt"`"""
    guard: Annotated[SerializeAsAny[Guard], BeforeValidator(guards.from_table)] = NoGuard()
    """Who is asked whether another institution has registered the study; see the kinds below.
    Example: `{ kind = "qido" }`"""
    present: Literal["compare", "believe"] = "compare"
    """Whether what the archive holds although we never sent it is compared, or counts as delivered."""
    connect_timeout: Duration = timedelta(seconds=10)
    """How long to wait for a connection."""
    read_timeout: Duration = timedelta(seconds=60)
    """How long to wait for the next bytes of an answer."""
    answer_timeout: Duration = timedelta(minutes=5)
    """How long a whole answer may take."""

    def deliver(self, consignment: Consignment) -> Iterator[Receipt]:
        """Ask the archive what it has, send the missing instances, and ask again.

        Raises Held if the guard finds the study registered elsewhere; nothing has been sent then. See
        `Destination.deliver` for what else it raises.
        """
        from pipeline.dicomweb.study_upload import carry, sorted_out
        from pipeline.dicomweb.upload import Pace

        if self.guard.is_on or not is_fixed(self.url):  # Guard and address are found before an upload begins.
            consignment = replace(consignment, added=None)
        parcels, without_address = sorted_out(self.url, consignment.items)
        pace = Pace(self.connections, self.batch_bytes)
        with self._door() as door:
            if not consignment.guard_released:
                self._ask_guard(parcels, door)
            yield from without_address
            problems: list[StorestowError] = [
                Configuration(receipt.message)
                for receipt in without_address
                if receipt.state is ReceiptState.PENDING
            ]
            for parcel in parcels:
                try:
                    yield from carry(parcel, door, consignment, pace, believes_present=self.present == "believe")
                except PeerUnavailable:
                    raise
                except (Transient, Configuration) as error:  # Instances with other addresses are still sent.
                    problems.append(error)
        if problems:
            raise next((problem for problem in problems if isinstance(problem, Configuration)), problems[0])

    def holds(self, items: Sequence[Item]) -> set[InstanceKey]:
        """Return which of `items` QIDO-RS lists; those that are not in a list are asked for one by one."""
        from pipeline.dicomweb.qido import Qido
        from pipeline.dicomweb.study_upload import sorted_out

        parcels, without_address = sorted_out(self.url, items)
        if without_address:
            raise Configuration(without_address[0].message)
        found: set[InstanceKey] = set()
        with self._door() as door:
            for parcel in parcels:
                qido = Qido(door, parcel.url)
                found |= qido.among(parcel.items, were_sent=True)
                if qido.doubt:
                    raise qido.doubt
        return found

    def problems(self) -> Iterator[str]:
        """Send the queries of a delivery for a study that does not exist, if `url` is fixed; yield problems."""
        from pipeline.dicomweb.qido import Qido

        try:
            with self._door() as door:
                if is_fixed(self.url):
                    Qido(door, self.url).is_answered(with_series=self.guard.is_on)
                else:  # Without an instance the address is not known; ask whether any server answers.
                    parts = urlsplit(self.url)
                    door.get(f"{parts.scheme}://{parts.netloc}/", {})
        except Configuration:
            raise
        except PeerUnavailable as error:
            yield f"destination {self.name}: {error}; {START_OR_CORRECT}"
        except StorestowError as error:
            yield f"destination {self.name}: {error}"

    def notes(self) -> Iterator[str]:
        """Yield how instances are treated that the archive already has, and whether it supports the encoding."""
        syntax = encodings.transfer_syntax_of(self.encode)
        if is_fixed(self.url) and (syntax or self.present != "believe"):
            yield from self._asked_notes(syntax)
        elif syntax:
            yield f"{self._unknown(syntax)}: nobody was asked, because its url depends on who sends"
        if self.present == "believe":
            yield 'present = "believe": what it holds already counts as delivered, and nobody compares it'
        elif not is_fixed(self.url):
            yield (
                "its url depends on who sends, so nobody was asked now whether what it holds already can be "
                "compared by WADO-RS: where it cannot, the originals stay until `storestow accept`"
            )

    def _asked_notes(self, syntax: str | None) -> Iterator[str]:
        """Yield remarks, after asking the archive for an instance it has as if it were to be compared."""
        from pipeline.dicomweb.qido import Qido

        try:
            with self._door() as door:
                held = Qido(door, self.url).any_instance()
                if self.present != "believe":
                    yield self._how_present_is_compared(door, held)
                if syntax:
                    yield self._whether_known(door, held, syntax)
        except StorestowError as error:
            yield f"what it is able to do is not known: {error}"

    def _how_present_is_compared(self, door: "HttpClient", held: InstanceKey | None) -> str:
        from pipeline.dicomweb import wado

        if held is None:
            return "it lists nothing yet: whether what it holds can be compared by WADO-RS is not known"
        try:
            wado.gives_back(door, self.url, held)
        except Permanent as reason:
            return (
                f"what it holds already cannot be compared with what we hold ({reason}): "
                "the originals of such instances stay until `storestow accept`"
            )
        except StorestowError as error:
            return f"whether what it holds already can be compared by WADO-RS is not known: {error}"
        return "what it holds already is compared with what we hold, by WADO-RS"

    def _whether_known(self, door: "HttpClient", held: InstanceKey | None, syntax: str) -> str:
        """Say whether the archive gives an instance back in `syntax`: DICOMweb cannot ask what it would store."""
        from pipeline.dicomweb import wado

        name = encodings.transfer_syntax_name(syntax)
        if held is None:
            return f"{self._unknown(syntax)}: it lists nothing yet that could be asked for in it"
        try:
            if wado.gives_back_in(door, self.url, held, syntax):
                return f'encode = "{self.encode}": it gives instances back in {name}, so it knows it'
        except StorestowError as error:
            return f"{self._unknown(syntax)}: {error}"
        return f"{self._unknown(syntax)}: it does not give the instance asked for back in it"

    def _unknown(self, syntax: str) -> str:
        name = encodings.transfer_syntax_name(syntax)
        return (
            f'encode = "{self.encode}": whether it stores and shows {name} is not known, '
            "so look at one study before you rely on it (docs/destinations.md)"
        )

    def _door(self) -> "HttpClient":
        from pipeline.dicomweb.http_client import HttpClient, HttpTimeouts

        waits = HttpTimeouts(
            self.connect_timeout.total_seconds(),
            self.read_timeout.total_seconds(),
            self.answer_timeout.total_seconds(),
        )
        return HttpClient(self.auth, waits, ca_bundle=self.ca_bundle)

    def _ask_guard(self, parcels: "Sequence[StudyUpload]", door: "HttpClient") -> None:
        """Raise Held unless every upload that has sent nothing yet may be sent; the others were checked before."""
        from pipeline.dicomweb.qido import Qido

        for parcel in parcels:
            if self.guard.is_on and parcel.is_untouched:
                found = self.guard.institutions_of(parcel.study_instance_uid, Qido(door, parcel.url))
                guards.check(found, parcel.items)


DESTINATION = StowDestination
