"""Ask by QIDO-RS which instances of a study the archive has, and from which institutions (PS3.18 10.6)."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar
from urllib.parse import quote

from pipeline.dicomweb import http_status
from pipeline.dicomweb.http_client import HttpClient, Reply
from pipeline.dicomweb.response import data_sets_in, text
from pipeline.dicomweb.transport_errors import NoReply
from pipeline.errors import Configuration, PeerUnavailable, StorestowError, Transient
from pipeline.model import InstanceKey, Item

SOP_INSTANCE_UID = "00080018"
INSTITUTION_NAME = "00080080"
STUDY_INSTANCE_UID = "0020000D"
SERIES_INSTANCE_UID = "0020000E"

_PAGE = 500  # Results; a page is held in memory.
_MOST_PAGES = 2_000  # No study has more pages; an archive that lists without end must not keep us waiting.
FEW = 4  # So many instances are asked for one by one, more by listing their study.
_IN_A_LIST = 50  # UIDs in one query: with more, its URL would be longer than some servers accept.
_BELIEVED_SECONDS = 600.0  # An archive that has found all UIDs of a list is asked by lists for so long.
_MOST_BELIEVED = 1000  # Addresses; an address may contain an AE title, which the peer chooses.
_SERIES = 20  # Results on the first page of a study's series.
NOBODYS_UID = "2.25.310270653712349170532158934017245711"  # A UID of no study, which `check` asks about.

_TOO_MANY = {400, 413}  # Statuses for a limit that the archive does not allow.
# Statuses for an offset that the archive does not know, or that is behind the last result.
_NO_SUCH_PAGE = {400, 404, 413, 416}
# Bodies of servers that have no service at this path: WildFly and dcm4chee, Orthanc.
_NO_SERVICE = (b'"errorMessage"', b"RESTEASY", b'"HttpError"')


@dataclass(frozen=True, slots=True)
class _Listing:
    """The instances that an archive lists; `is_whole` says that the list is known to be complete."""

    keys: set[InstanceKey]
    is_whole: bool


class Qido:
    """A QIDO-RS client for one archive; a returned value is always an answer of the archive.

    An archive may return fewer results than the query allows (PS3.18 8.3.4.4), so the length of a page proves
    nothing. A list ends with a page that is empty or has nothing new, or once all wanted instances have been seen.

    Raises Transient, mostly PeerUnavailable, if there is no answer, and Configuration if a person must change
    something first.
    """

    # By address: when the archive last found all UIDs of a list, and the length of the longest such list.
    _known_lists: ClassVar[dict[str, tuple[float, int]]] = {}

    def __init__(self, door: HttpClient, studies_url: str, clock: Callable[[], float] = time.time) -> None:
        self._door = door
        self._url = studies_url
        self._clock = clock
        self._most = _PAGE  # The largest limit the archive has not refused.
        # Every search got this 404: the archive is empty, or has no QIDO-RS.
        self._refusal: StorestowError | None = None
        self._has_answered = False
        self.was_empty = False  # The archive has said that it has nothing of the study that is asked about.
        self._takes_lists = True  # False once the archive did not find by a list what it had been sent.

    @property
    def doubt(self) -> StorestowError | None:
        """Return why it is unknown whether QIDO-RS exists here, None if it has answered.

        Some archives answer 404 if nothing matches. An archive that answers 404 to every search may be empty or
        have no QIDO-RS: one instance is then sent and looked up before any other.
        """
        return None if self._has_answered else self._refusal

    def is_answered(self, *, with_series: bool = False) -> None:
        """Send the queries of a delivery about a study that does not exist, and raise the errors they meet."""
        key = InstanceKey(NOBODYS_UID, f"{NOBODYS_UID}.1", f"{NOBODYS_UID}.1.1")
        self._is_listed(key)
        self._listing(NOBODYS_UID, set(), self._most)
        if self.doubt:
            raise self.doubt
        if with_series:
            self.institutions_of(NOBODYS_UID)

    def among(self, items: Iterable[Item], *, were_sent: bool = False) -> set[InstanceKey]:
        """Return the keys of those `items`, all of one study, that the archive has.

        An instance that is not listed is asked for by itself if it was sent before (`were_sent`: all were), or if
        the list may be incomplete: a short list never causes a second sending. Once the archive `was_empty`, it is
        not asked again about what was never sent.
        """
        wanted = {item.key: were_sent or item.attempted for item in items}
        if self.was_empty:
            wanted = {key: was_sent for key, was_sent in wanted.items() if was_sent}
        if len(wanted) <= FEW:
            return {key for key in wanted if self._is_listed(key)}
        study = next(iter(wanted)).study_instance_uid
        listing = None if were_sent else self._among_by_lists(study, wanted.keys())
        if listing is None:
            listing = self._listing(study, wanted.keys(), len(wanted))
        there = listing.keys & wanted.keys()
        doubtful = (key for key, was_sent in wanted.items() if was_sent or not listing.is_whole)
        return there | {key for key in doubtful if key not in there and self._is_listed(key)}

    def confirmed(self, keys: Iterable[InstanceKey]) -> set[InstanceKey]:
        """Return which of `keys`, all of one study, the archive finds by lists of their UIDs.

        The whole study is not listed. Not every archive supports lists of UIDs (PS3.18 8.3.4.1), so an instance
        that is not found may be there. Errors of the archive are not raised; a later call of `among` raises them.
        """
        wanted = set(keys)
        found: set[InstanceKey] = set()
        if self._takes_lists and wanted:
            with suppress(StorestowError):
                for listing in self._by_lists(wanted, _IN_A_LIST):
                    found |= listing.keys
            if wanted <= found:
                self._believe_lists(min(len(wanted), _IN_A_LIST))
            else:
                self._takes_lists = False
                self._known_lists.pop(self._url, None)
        return found & wanted

    def _believe_lists(self, length: int) -> None:
        """Note that the archive has found all UIDs of a list of this `length`."""
        if length > 1:
            longest = max(length, self._longest_list())
            if len(self._known_lists) >= _MOST_BELIEVED:
                self._known_lists.clear()
            self._known_lists[self._url] = (time.monotonic(), longest)

    def _longest_list(self) -> int:
        """Return the length of the longest list of UIDs that the archive has recently found in full, else 0."""
        when, length = self._known_lists.get(self._url, (0.0, 0))
        return length if time.monotonic() - when < _BELIEVED_SECONDS else 0

    def _among_by_lists(self, study: str, wanted: AbstractSet[InstanceKey]) -> _Listing | None:
        """Return which of `wanted` the archive finds by lists of their UIDs; None if its answers prove nothing.

        No list is longer than one that the archive has found in full. Each list also has the UID of an instance
        that is known to be there: some servers answer a long URL with 404, and then do not find that one either.
        """
        longest = self._longest_list()
        if longest <= FEW:
            return None
        first = next(self._pages(f"{self._study(study)}/instances", _FIELDS, 1), [])
        witness = next((_key_of(instance, study, "") for instance in first), None)
        if witness is None:
            self.was_empty = not self.doubt
            return _Listing(set(), is_whole=True)
        found: set[InstanceKey] = set()
        with suppress(StorestowError):
            for listing in self._by_lists(wanted, longest - 1, witness):
                if not listing.is_whole or witness not in listing.keys:
                    break
                found |= listing.keys
            else:
                return _Listing(found, is_whole=True)
        self._known_lists.pop(self._url, None)
        return None

    def _by_lists(
        self, wanted: AbstractSet[InstanceKey], length: int, witness: InstanceKey | None = None
    ) -> Iterator[_Listing]:
        """Yield what the archive finds by lists of `length` SOP Instance UIDs; all instances are of one study.

        A listing is whole if the archive has shown its end, or has found all instances in the list.
        """
        keys = sorted(wanted)
        for at in range(0, len(keys), length):
            some = {*keys[at : at + length], *([witness] if witness else [])}
            uids = sorted({key.sop_instance_uid for key in some})
            study = keys[at].study_instance_uid
            listing = self._listing(study, some, len(uids), {"SOPInstanceUID": ",".join(uids)})
            yield replace(listing, is_whole=listing.is_whole or some <= listing.keys)

    def institutions_of(self, study_instance_uid: str) -> list[str]:
        """Return the Institution Names of the study's series that have one."""
        parameters: dict[str, str | int] = {"includefield": INSTITUTION_NAME}
        pages = self._pages(f"{self._study(study_instance_uid)}/series", parameters, _SERIES)
        names = {name for page in pages for series in page if (name := text(series, INSTITUTION_NAME))}
        if self.doubt:
            raise self.doubt
        return sorted(names)

    def any_instance(self) -> InstanceKey | None:
        """Return any instance that the archive holds, None if it lists none."""
        study = next((text(study, STUDY_INSTANCE_UID) for study in self._first(self._url)), "")
        instances = self._first(f"{self._study(study)}/instances") if study else []
        found = next((_key_of(instance, study, "") for instance in instances), None)
        return found if found and all((found.series_instance_uid, found.sop_instance_uid)) else None

    def _first(self, url: str) -> list[dict[str, Any]]:
        return next(self._pages(url, {}, 1), [])

    def _is_listed(self, key: InstanceKey) -> bool:
        series = key.series_instance_uid
        url = f"{self._study(key.study_instance_uid)}/series/{quote(series, safe='')}/instances"
        pages = self._pages(url, _FIELDS | {"SOPInstanceUID": key.sop_instance_uid}, 1)
        return any(_key_of(instance, key.study_instance_uid, series) == key for page in pages for instance in page)

    def _listing(
        self, study: str, wanted: AbstractSet[InstanceKey], limit: int, only: Mapping[str, str] | None = None
    ) -> _Listing:
        """Return what the archive lists of the study, at least until all `wanted` have been seen."""
        keys: set[InstanceKey] = set()
        for page in self._pages(f"{self._study(study)}/instances", {**_FIELDS, **(only or {})}, limit):
            if not page:
                self.was_empty = self.was_empty or not (keys or only or self.doubt)
                return _Listing(keys, is_whole=True)
            keys |= {_key_of(instance, study, "") for instance in page}
            if wanted and wanted <= keys:
                break
        return _Listing(keys, is_whole=False)

    def _study(self, uid: str) -> str:
        return f"{self._url}/{quote(uid, safe='')}"

    def _pages(self, url: str, parameters: dict[str, str | int], limit: int) -> Iterator[list[dict[str, Any]]]:
        """Yield the results page by page; a last empty page shows that the list is complete.

        The first page has at most `limit` results; a longer list continues in larger pages.
        """
        seen: set[tuple[str, ...]] = set()
        offset = 0
        for _ in range(_MOST_PAGES):
            reply, limit = self._page_of_at_most(url, parameters, offset, limit)
            if offset and reply.status in _NO_SUCH_PAGE:
                if reply.status == 404:
                    yield []
                return
            page = self._results(reply, url)
            uids = {_uids_of(found) for found in page}
            if page and uids <= seen:  # The same results again: the archive ignores offset.
                return
            yield page
            if not page:
                return
            seen |= uids
            offset += len(page)
            limit = min(limit * 2, self._most)
        raise PeerUnavailable(f"{self._url}: QIDO-RS lists without end")

    def _page_of_at_most(
        self, url: str, parameters: dict[str, str | int], offset: int, limit: int
    ) -> tuple[Reply, int]:
        """Return a page and its limit, which is smaller if the archive refuses larger limits."""
        limit = min(limit, self._most)
        where: dict[str, str | int] = {"offset": offset} if offset else {}
        is_refused = False
        while True:
            reply = self._page(url, parameters | where | {"limit": limit})
            if limit == 1 or not (reply.status in _TOO_MANY or reply.is_too_large):
                break
            limit, is_refused = limit // 2, True
        if is_refused and reply.status not in _TOO_MANY:
            self._most = limit  # The limit holds from now on.
        return reply, limit

    def _page(self, url: str, parameters: dict[str, str | int]) -> Reply:
        """Return the reply to a query; a 404 counts as a reply if the archive answers other queries."""
        reply = self._asked(url, parameters)
        problem = http_status.of_the_archive(reply, self._url, self._clock())
        if problem and reply.status != 404:
            raise problem
        if problem and not self._has_answered and not self._refusal:
            self._has_answered = url != self._url and self._answers_a_search()
            if not self._has_answered and _is_no_service(reply):
                raise problem
            self._refusal = problem
        self._has_answered = self._has_answered or reply.status in {200, 204}
        return reply

    def _answers_a_search(self) -> bool:
        """Search for any study after a 404, and tell whether the archive answers; raises a certain error."""
        reply = self._asked(self._url, {"limit": 1})
        problem = http_status.of_the_archive(reply, self._url, self._clock())
        if problem and (reply.status != 404 or _is_no_service(reply)):
            raise problem
        return reply.status in {200, 204}

    def _asked(self, url: str, parameters: dict[str, str | int]) -> Reply:
        try:
            return self._door.get(url, parameters)
        except NoReply as error:
            raise PeerUnavailable(str(error)) from error

    def _results(self, reply: Reply, url: str) -> list[dict[str, Any]]:
        if reply.status in {204, 404}:  # Nothing matches: dcm4chee answers 204, others 404.
            return []
        if reply.status != 200:
            kind = PeerUnavailable if reply.status >= 500 else Transient  # A 400 may concern this study alone.
            raise kind(f"{url}: QIDO-RS was answered with HTTP {reply.status}")
        if reply.is_too_large:
            raise Transient(f"{url}: QIDO-RS was answered with more than is read of one answer")
        found = data_sets_in(reply.body)
        if found is None:
            raise Configuration(f"{url}: QIDO-RS was answered with something that is no DICOM JSON; check url")
        return found


_FIELDS: dict[str, str | int] = {"includefield": f"{SOP_INSTANCE_UID},{SERIES_INSTANCE_UID}"}


def _key_of(found: dict[str, Any], study: str, series: str) -> InstanceKey:
    """Return the key of a result; UIDs that the result lacks are taken from the query."""
    return InstanceKey(
        text(found, STUDY_INSTANCE_UID) or study,
        text(found, SERIES_INSTANCE_UID) or series,
        text(found, SOP_INSTANCE_UID),
    )


def _uids_of(found: dict[str, Any]) -> tuple[str, ...]:
    return tuple(text(found, tag) for tag in (STUDY_INSTANCE_UID, SERIES_INSTANCE_UID, SOP_INSTANCE_UID))


def _is_no_service(reply: Reply) -> bool:
    """Tell whether a 404 says that the service is missing, and not the study."""
    return reply.media_type == "text/html" or any(mark in reply.body for mark in _NO_SERVICE)
