"""Compare ways to send a study by C-STORE: ours, ours inside TLS, DCMTK's dcmsend, pynetdicom (docs/adr/0007).

`python bench/cstore.py [FOLDER]`: every way in turn sends the instances of FOLDER (500 CT slices of 512 x 512
without one) to a fresh storescp that keeps bytes as they come, several rounds, the order changing; the table
has medians and the median ratio to dcmsend in the same round. TCP_NODELAY on both sides. Start-up of dcmsend and
its reading of every file beforehand count as its own; ours has hashed every file while it sends.
"""

import hashlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid
from pynetdicom import AE, _config, evt

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.peers.certificate_authority import Authority

from pipeline import dcmtk
from pipeline.config.program_tables import ProgramsTable
from pipeline.destinations import from_table
from pipeline.model import Consignment, InstanceKey, Item

ROUNDS = 5
SLICES = 500
SYSTEM = ProgramsTable()
_config.STORE_SEND_CHUNKED_DATASET = True  # the bytes of the file, as ours


def make_study(folder: Path) -> None:
    """Write CT slices of 512 x 512: pydicom's small one, sixteen times in each."""
    data_set = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    pixels = np.tile(data_set.pixel_array, (4, 4))
    data_set.Rows, data_set.Columns = pixels.shape
    for number in range(SLICES):
        data_set.PixelData = (pixels + number).astype("<i2").tobytes()
        data_set.InstanceNumber = number
        data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        data_set.save_as(folder / f"{number:05}.dcm")


def items_of(folder: Path) -> tuple[Item, ...]:
    """Return the instances below a folder, pinned."""
    return tuple(_item(path) for path in sorted(folder.rglob("*")) if path.is_file())


def _item(path: Path) -> Item:
    header = pydicom.dcmread(path, stop_before_pixels=True)
    content = path.read_bytes()
    return Item(
        key=InstanceKey(header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID),
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        sop_class_uid=str(header.SOPClassUID),
        transfer_syntax_uid=str(header.file_meta.TransferSyntaxUID),
        calling_ae_title="BENCH",
        called_ae_title="ANY-SCP",
        institution=None,
    )


def ours(port: int, items: tuple[Item, ...], _folder: Path, **keys: object) -> int:
    """Send by the destination as the worker would, without a ledger; `keys` are more of its table."""
    table = {"name": "bench", "kind": "cstore", "ae_title": "ANY-SCP", "host": "127.0.0.1", "port": port}
    destination = from_table({**table, "calling_ae_title": "BENCH", **keys})
    receipts = destination.deliver(Consignment(1, items[0].key.study_instance_uid, items))
    return sum(receipt.verified for receipt in receipts)


def dcmsend(port: int, _items: tuple[Item, ...], folder: Path) -> int:
    """Send by DCMTK, and count the answers it reports."""
    report = Path(tempfile.gettempdir(), f"dcmsend-{port}.report")
    program = dcmtk.program(SYSTEM, "dcmsend")
    argv = (
        program,
        "-pdu",
        "131072",
        "-nh",
        "-nuc",
        "-dn",
        "+sd",
        "+r",
        "+crf",
        report,
        "127.0.0.1",
        port,
        folder,
    )
    subprocess.run(
        [str(word) for word in argv], env=dcmtk.environment(SYSTEM), check=True, stdout=subprocess.DEVNULL
    )
    answered = report.read_text().count("0x0000")
    report.unlink()
    return answered


def pynetdicom(port: int, items: tuple[Item, ...], _folder: Path) -> int:
    """Send by pynetdicom, file by file, without decoding."""
    entity = AE("BENCH")
    entity.maximum_pdu_size = 131072
    for abstract, transfer in sorted({(item.sop_class_uid, item.transfer_syntax_uid) for item in items}):
        entity.add_requested_context(abstract, transfer)

    def no_delay(event: evt.Event) -> None:
        event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    association = entity.associate("127.0.0.1", port, evt_handlers=[(evt.EVT_CONN_OPEN, no_delay)])
    answered = 0
    for item in items:
        if association.is_established:  # on a busy machine it takes its own association for lost now and then
            answered += association.send_c_store(item.path).get("Status") == 0
    association.release()
    return answered


Way = tuple[Callable[[int, tuple[Item, ...], Path], int], tuple[str, ...]]


def ways_of(authority: Authority) -> dict[str, Way]:
    """Return every way with what the receiver is told besides."""
    us, peer = authority.identity("us"), authority.identity("peer")
    table = {"ca": str(authority.cert), "cert": str(us.cert), "key": str(us.key)}
    options = ("+tls", str(peer.key), str(peer.cert), "+cf", str(authority.cert))
    return {
        "ours": (ours, ()),
        "ours in TLS": (partial(ours, tls=table), options),
        "dcmsend": (dcmsend, ()),
        "pynetdicom": (pynetdicom, ()),
    }


@contextmanager
def storescp(folder: Path, options: tuple[str, ...]) -> Iterator[int]:
    """Run a receiver that keeps bytes as they come."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    folder.mkdir()
    argv = (*options, "--fork", "+B", "+xa", "-pm", "-dhl", "-pdu", "131072", "-od", str(folder), str(port))
    process = dcmtk.start((str(dcmtk.program(SYSTEM, "storescp")), *argv), dcmtk.environment(SYSTEM))
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(name, "study")
        if len(sys.argv) == 1:
            folder.mkdir()
            make_study(folder)
        items = items_of(folder)
        ways = ways_of(Authority(Path(name, "authority")))
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(ROUNDS):
            turn = list(ways)
            for way in turn[number % len(turn) :] + turn[: number % len(turn)]:
                send, options = ways[way]
                with storescp(Path(name, "in"), options) as port:
                    start = time.perf_counter()
                    answered = send(port, items, folder)
                    rates[way].append(len(items) / (time.perf_counter() - start))
                if answered != len(items):
                    print(f"{way}: {answered} of {len(items)} answered")
        print(f"{len(items)} instances, {sum(item.size for item in items) >> 20} MiB, {ROUNDS} rounds")
        print(f"{'':12}{'instances/s':>12}{'to dcmsend':>12}")
        for way, measured in rates.items():
            ratios = [one / other for one, other in zip(measured, rates["dcmsend"], strict=True)]
            print(f"{way:12}{statistics.median(measured):12.0f}{statistics.median(ratios):12.2f}")


if __name__ == "__main__":
    main()
