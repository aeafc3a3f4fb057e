"""What the rows of whole deliveries share: an archive, a router, a site for each mode."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from itertools import count
from pathlib import Path
from time import perf_counter

import requests
from studies import slices
from support.machine.dicom_programs import Orthanc, dcmsend, orthanc, wait_until
from support.sites.running_site import RunningSite, running_site

QUIET_SECONDS = 1
WAIT_SECONDS = 300.0
Contenders = Mapping[str, Callable[[], float]]
Run = Callable[[Path, bool], AbstractContextManager[Contenders]]


def contenders(transcoded: str | None, *encodings: str, apart: bool = False) -> Run:
    """Return a row's contenders: without `transcoded`, dcmsend straight into the archive is the peer.

    `transcoded` is the transfer syntax in which the peer's Orthanc stores what it receives; its plug-in Gdcm does
    that, and without it Orthanc would store it as it came and say nothing. With `apart` the
    archive has the first core for itself, and everything else has the second one.
    """

    @contextmanager
    def run(folder: Path, small: bool) -> Iterator[Contenders]:
        instances, numbers = 10 if small else 200, count()
        with ExitStack() as stack:
            with on_core(0) if apart else nullcontext():
                archive = stack.enter_context(orthanc(folder / "archive"))
            if apart:
                stack.enter_context(on_core(1))
            servers = {"archive": {"Url": f"{archive.dicomweb}/", "HasDelete": False}}
            web = {"Enable": True, "Root": "/dicom-web/", "Servers": servers}
            more = {"IngestTranscoding": transcoded, "plugins": ("DicomWeb", "Gdcm")} if transcoded else {}
            router = stack.enter_context(orthanc(folder / "router", DicomWeb=web, **more))

            def through(port: int, then: Callable[[str], object] = lambda _: None, quiet: float = 0.0) -> float:
                (study,) = slices(folder / f"study{next(numbers)}", instances)
                before, began = held(archive), perf_counter()
                assert dcmsend(port, study).acknowledged == instances
                then(str(study))
                wait_for(archive, before + instances)
                return perf_counter() - began - quiet

            named: dict[str, Callable[[], float]] = {}
            if not transcoded:
                named["dcmsend to the archive"] = lambda: through(archive.dicom_port)
            peer = "Orthanc IngestTranscoding + STOW" if transcoded else "Orthanc as router"
            named[peer] = lambda: through(router.dicom_port, lambda _: _pass_on(router, transcoded))
            for name, site in sites(folder, archive, stack, *encodings).items():
                named[name] = lambda port=site.port: through(port, quiet=QUIET_SECONDS)
            yield named

    return run


@contextmanager
def on_core(number: int) -> Iterator[None]:
    """Keep this process, and all it starts in the block, on one core, as `taskset` does."""
    before = os.sched_getaffinity(0)
    assert len(before) >= 2, "two cores are needed to keep the archive apart"
    os.sched_setaffinity(0, {sorted(before)[number]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def sites(folder: Path, archive: Orthanc, stack: ExitStack, *encodings: str) -> dict[str, RunningSite]:
    """Run a site for each encoding and mode, which delivers to the archive; return them by contender."""
    running = {}
    for encoding in encodings:
        for mode in ("study", "association"):
            table = {"name": "archive", "kind": "stow", "url": archive.studies, "encode": encoding}
            place = folder / f"{encoding}-{mode}"
            site = running_site(place, mode=mode, quiet_seconds=QUIET_SECONDS, destinations=[table])
            name = f"ours, {mode}" if encoding == "none" else f"ours, {encoding}, {mode}"
            running[name] = stack.enter_context(site)
    return running


def held(archive: Orthanc) -> int:
    """Return how many instances the archive counts."""
    return int(requests.get(f"{archive.rest}/statistics", timeout=30).json()["CountInstances"])


def wait_for(archive: Orthanc, instances: int) -> None:
    """Return when the archive counts so many instances."""
    wait_until(lambda: held(archive) >= instances, seconds=WAIT_SECONDS, what="the archive")


def _pass_on(router: Orthanc, transcoded: str | None) -> None:
    studies = requests.get(f"{router.rest}/studies", timeout=30).json()
    if transcoded:
        for study in studies:
            first = requests.get(f"{router.rest}/studies/{study}/instances", timeout=30).json()[0]["ID"]
            syntax = requests.get(f"{router.rest}/instances/{first}/metadata/TransferSyntax", timeout=30).text
            assert syntax == transcoded, f"Orthanc has stored {syntax}"
    asked = {"Resources": studies, "Synchronous": True}
    answer = requests.post(f"{router.rest}/dicom-web/servers/archive/stow", json=asked, timeout=300)
    answer.raise_for_status()
    for study in studies:
        requests.delete(f"{router.rest}/studies/{study}", timeout=60).raise_for_status()
