"""QIDO-RS: which instances and institutions the archive has of a study (PS3.18 10.6)."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import quote

from pipeline.dicomweb import status
from pipeline.dicomweb.door import Door, Reply
from pipeline.dicomweb.failure import NoReply
from pipeline.dicomweb.response import data_sets_in, text
from pipeline.errors import Configuration, PeerUnavailable, Transient
from pipeline.model import InstanceKey, Item

SOP_INSTANCE_UID = "00080018"
INSTITUTION_NAME = "00080080"
STUDY_INSTANCE_UID = "0020000D"
SERIES_INSTANCE_UID = "0020000E"

_PAGE = 500  # results; a page is held in memory
_MOST_PAGES = 2_000  # no study is larger; an archive that repeats itself for ever must not hold us
_FEW = 4  # instances asked for one by one rather than by listing their study


class Qido:
    """Ask one archive; what is returned is an answer.

    Raises Transient, PeerUnavailable mostly, for everything that is none, and Configuration where a person
    must change something first.
    """

    def __init__(self, door: Door, studies_url: str, clock: Callable[[], float] = time.time) -> None:
        self._door = door
        self._url = studies_url
        self._clock = clock

    def is_answered(self) -> None:
        """Ask the cheapest question there is, for the errors it raises."""
        self._page(self._url, {"limit": 1})

    def instances_of(self, study_instance_uid: str) -> set[InstanceKey]:
        """Return what is listed of the study."""
        return self._instances(study_instance_uid, f"{self._study(study_instance_uid)}/instances", {})

    def among(self, items: Iterable[Item]) -> set[InstanceKey]:
        """Return the keys of those of `items`, all of one study, that are listed."""
        wanted = {item.key for item in items}
        if len(wanted) > _FEW:
            study = next(iter(wanted)).study_instance_uid
            return wanted & self.instances_of(study)
        return {key for key in wanted if self._is_listed(key)}

    def institutions_of(self, study_instance_uid: str) -> list[str]:
        """Return the Institution Names of the study's series, as far as they have one."""
        found = self._all(f"{self._study(study_instance_uid)}/series", {"includefield": INSTITUTION_NAME})
        return sorted({name for series in found if (name := text(series, INSTITUTION_NAME))})

    def _is_listed(self, key: InstanceKey) -> bool:
        series = quote(key.series_instance_uid, safe="")
        url = f"{self._study(key.study_instance_uid)}/series/{series}/instances"
        return key in self._instances(
            key.study_instance_uid,
            url,
            {"SOPInstanceUID": key.sop_instance_uid},
            series_instance_uid=key.series_instance_uid,
        )

    def _study(self, uid: str) -> str:
        return f"{self._url}/{quote(uid, safe='')}"

    def _instances(
        self, study: str, url: str, parameters: dict[str, str | int], *, series_instance_uid: str = ""
    ) -> set[InstanceKey]:
        fields: dict[str, str | int] = {"includefield": f"{SOP_INSTANCE_UID},{SERIES_INSTANCE_UID}"}
        return {
            InstanceKey(
                text(found, STUDY_INSTANCE_UID) or study,
                text(found, SERIES_INSTANCE_UID) or series_instance_uid,
                text(found, SOP_INSTANCE_UID),
            )
            for found in self._all(url, parameters | fields)
        }

    def _all(self, url: str, parameters: dict[str, str | int]) -> Iterator[dict[str, Any]]:
        """Yield every result, page by page, until a page is short and the archive does not say it has more."""
        offset, limit, last = 0, _PAGE, None
        for _ in range(_MOST_PAGES):
            reply, limit = self._page_of_at_most(url, parameters | {"offset": offset}, limit)
            found = _results(reply, url)
            if not found or found == last:  # the same page again: offset is not understood there
                return
            yield from found
            if len(found) < limit and not reply.is_cut_short:
                return
            offset, last = offset + len(found), found
        raise PeerUnavailable(f"{self._url}: QIDO-RS lists without end")

    def _page_of_at_most(self, url: str, parameters: dict[str, str | int], limit: int) -> tuple[Reply, int]:
        """Return a page and its size, smaller where the archive answers 413 (dcm4chee: too many results)."""
        while (reply := self._page(url, parameters | {"limit": limit})).status == 413 and limit > 1:
            limit //= 2
        return reply, limit

    def _page(self, url: str, parameters: dict[str, str | int]) -> Reply:
        try:
            reply = self._door.get(url, parameters)
        except NoReply as error:
            raise PeerUnavailable(str(error)) from error
        if problem := status.of_the_archive(reply, self._url, self._clock()):
            raise problem
        return reply


def _results(reply: Reply, url: str) -> list[dict[str, Any]]:
    if reply.status == 204:  # dcm4chee's "nothing matches"
        return []
    if reply.status != 200:
        kind = PeerUnavailable if reply.status >= 500 else Transient  # a 400 may speak of this study alone
        raise kind(f"{url}: QIDO-RS was answered with HTTP {reply.status}")
    found = data_sets_in(reply.body)
    if found is None:
        raise Configuration(f"{url}: QIDO-RS was answered with something that is no DICOM JSON; check url")
    return found
