"""Compare a study asked for by the link of the HIS with the C-MOVE alone that has to be in it.

`python bench/order.py [FOLDER]`: Orthanc is the PACS and holds the study in FOLDER (one accession number), else
500 CT slices of 512 x 512. In turn, several rounds: movescu to a plain storescp, GET /mkiso.php on a fresh site.
The tables have medians of seconds, the medians of the ratios to movescu in the same round, and where an order's
time goes. TCP_NODELAY on all sides. Orthanc is told to end an association when it has sent: by default it keeps
it open for five seconds more, in which we cannot know that nothing follows.
"""

import contextlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pydicom
import requests
from disc import synthetic

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.machine.dicom_programs import ENVIRONMENT, free_port, orthanc, program, running, wait_until
from support.peers.archives import Archive
from support.sites.orders_site import OrdersSite, orders_site

from pipeline import orders

ROUNDS = 3
PIECE = 1 << 20
QUIET_SECONDS = 10  # of the receiver; an order that is complete must not wait for it
Times = dict[str, float]


def move(archive: Archive, folder: Path, port: int, study: str, count: int) -> Times:
    """Have the study sent to a plain storescp and return how long that took."""
    folder.mkdir()
    receiver = [program("storescp"), "+B", "+xa", "-dhl", "-pdu", "131072", "-od", folder, str(port)]
    with running(receiver, log=folder.with_suffix(".log"), port=port):
        began = time.perf_counter()
        argv = [program("movescu"), "-S", "-aet", "BENCH", "-aec", archive.ae_title, "-aem", "BENCH", "--no-port"]
        keys = ["-k", "0008,0052=STUDY", "-k", f"0020,000D={study}", "127.0.0.1", str(archive.port)]
        subprocess.run([*argv, *keys], env=ENVIRONMENT, check=True, capture_output=True)
        taken = time.perf_counter() - began
        assert len(list(folder.iterdir())) == count
    shutil.rmtree(folder)
    return {"movescu alone": taken}


def order(site: OrdersSite, http: int, accession: str) -> tuple[Times, Times]:
    """Ask for the disc and return the times to its first and last byte, and those of the order's stages."""
    began = time.perf_counter()
    with _watched(site, began) as stages:
        url = f"http://127.0.0.1:{http}/mkiso.php?accession_number={accession}"
        with requests.get(url, stream=True, timeout=600) as answer:
            answer.raise_for_status()
            pieces = answer.iter_content(PIECE)
            next(pieces)
            first = time.perf_counter() - began
            for _ in pieces:
                pass
        last = time.perf_counter() - began
    return {"to the first byte": first, "to the last byte": last}, stages


@contextlib.contextmanager
def _watched(site: OrdersSite, began: float) -> Iterator[Times]:
    """Yield the seconds the one order spends in each stage; complete when the block has ended."""
    stages: Times = {}
    over = threading.Event()

    def watch() -> None:
        now, stage = began, "placed"
        with site.ledger() as ledger:
            while not over.is_set():
                with ledger.reading() as look:
                    view = orders.view(look, 1)
                last, now = now, time.perf_counter()
                stages[stage] = stages.get(stage, 0.0) + now - last
                if view is not None and view.ended_at:
                    break
                stage = str(view.stage) if view else stage
                over.wait(0.03)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield stages
    finally:
        over.set()
        watcher.join()


def ours(folder: Path, archive: Archive, port: int, accession: str) -> tuple[Times, Times]:
    """Run a fresh site and ask it once."""
    http, discs = free_port(), folder / "discs"
    discs.mkdir(parents=True)
    disc = {"name": "disc", "kind": "iso", "folder": str(discs)}
    shim = {"port": http, "download": "disc"}
    slow = {"quiet_seconds": QUIET_SECONDS}
    with orders_site(folder, archive, port, destinations=[disc], shim=shim, receiver=slow) as site:
        wait_until(lambda: _is_up(f"http://127.0.0.1:{http}/api/health"), what="the shim")
        times = order(site, http, accession)
    shutil.rmtree(folder)
    return times


def _is_up(url: str) -> bool:
    try:
        return requests.get(url, timeout=20).ok
    except requests.RequestException:
        return False


@contextlib.contextmanager
def pacs(folder: Path, files: list[Path], ports: dict[str, int]) -> Iterator[Archive]:
    """Run Orthanc with the study and both move destinations."""
    known = {name: {"AET": name, "Host": "127.0.0.1", "Port": port} for name, port in ports.items()}
    allowed = {"DicomAlwaysAllowFind": True, "DicomAlwaysAllowMove": True, "DicomAssociationCloseDelay": 0}
    with orthanc(folder, DicomModalities=known, **allowed) as one:
        archive = Archive("ORTHANC", one.dicom_port, one.log)
        archive.store(*files)
        yield archive


def prepared(folder: Path) -> Path:
    """Return a folder with the study to ask for: the one named on the command line, else one made here."""
    if len(sys.argv) > 1:
        return Path(sys.argv[1])
    made = synthetic(folder)
    for file in made.iterdir():
        data_set = pydicom.dcmread(file)
        data_set.AccessionNumber = "BENCH1"
        data_set.save_as(file)
    return made


def main() -> None:
    """Measure and print."""
    rounds: list[Times] = []
    stages: list[Times] = []
    with tempfile.TemporaryDirectory() as name:
        files = sorted(path for path in prepared(Path(name, "study")).rglob("*") if path.is_file())
        header = pydicom.dcmread(files[0], stop_before_pixels=True)
        accession, study = str(header.AccessionNumber), str(header.StudyInstanceUID)
        ports = {"CDRECORD": free_port(), "BENCH": free_port()}
        with pacs(Path(name, "pacs"), files, ports) as archive:
            for number in range(ROUNDS):
                alone = move(archive, Path(name, f"in{number}"), ports["BENCH"], study, len(files))
                asked, spent = ours(Path(name, f"site{number}"), archive, ports["CDRECORD"], accession)
                rounds.append(alone | asked)
                stages.append(spent)
        print(f"{len(files)} instances, {sum(file.stat().st_size for file in files) >> 20} MiB, {ROUNDS} rounds")
    print(f"{'':20}{'seconds':>9}{'to movescu':>12}")
    for key in rounds[0]:
        ratios = [one[key] / one["movescu alone"] for one in rounds]
        print(f"{key:20}{statistics.median(one[key] for one in rounds):9.2f}{statistics.median(ratios):12.2f}")
    print("of which, as the order's stages:")
    for key in dict.fromkeys(stage for one in stages for stage in one):
        print(f"{key:20}{statistics.median(one.get(key, 0.0) for one in stages):9.2f}")


if __name__ == "__main__":
    main()
