"""Throw mutated bytes at one target, in a process of its own with little memory.

python -m support.hostile.fuzzing TARGET SEED COUNT SECONDS FOLDER [CORPUS]

The input in hand lies in FOLDER/current, so that whatever ends this process, its cause is known.
"""

import random
import resource
import sys
import time
import warnings
from pathlib import Path

from pydicom.data import get_testdata_files
from support.hostile.hostile_files import EXPLICIT, IMPLICIT, element, image, nested, part10
from support.hostile.hostile_http import SEEDS as OF_HTTP
from support.hostile.hostile_targets import SECONDS, survive
from support.hostile.hostile_words import SEEDS as OF_WORDS
from support.hostile.mutations import mutated
from support.peers.association_requests import context, request

MEMORY = 3 << 30  # bytes of address space; numpy and the codecs alone take a third of it
LARGEST_SEED = 40_000  # bytes: small files are mutated where it matters, and fast
TOML = b"""[site]
spool = "/var/spool/storestow"
keep_originals = "7d"
alarm_below = "5 GiB"
[programs]
storescp = "/usr/bin/storescp"
[[receiver]]
name = "modalities"
ae_title = "STORESTOW"
port = 11112
mode = "association"
allow_peers = ["192.0.2.0/24"]
idle_timeout = "5m"
tls = { cert = "c.pem", key = "k.pem", ca = "ca.pem" }
to = ["archive"]
[[destination]]
name = "archive"
kind = "stow"
url = "http://127.0.0.1:8080/{calling_aet}/rs/studies"
encode = "j2k"
auth = { kind = "basic", user = "u", password_env = "P" }
[[coercion]]
set = { ReferringPhysicianName = "-^-^-^-" }
when = "empty"
[[receiver]]
name = "orders"
ae_title = "CDRECORD"
port = 11113
mode = "association"
coerce = false
to = []
[pacs]
ae_title = "PACS"
host = "192.0.2.10"
port = 104
calling_ae_title = "CDRECORD"
receiver = "orders"
[[destination]]
name = "disc"
kind = "iso"
folder = "/var/discs"
[shim]
host = "127.0.0.1"
api_key = "k"
download = "disc"
forward = ["archive"]
max_concurrent = 8
order_timeout = "1h"
allowed_origins = ["https://his.example.org"]
[patients]
kind = "sql"
query = [{ url = "sqlite://", select = "SELECT 1" }]
"""
STOW_JSON = (
    b'{"00081190":{"vr":"UR","Value":["http://a/studies/1.2"]},"00081199":{"vr":"SQ","Value":[{"00081155":'
    b'{"vr":"UI","Value":["1.2.3"]},"00081196":{"vr":"US","Value":[45056]}}]},"00081198":{"vr":"SQ","Value":'
    b'[{"00081155":{"vr":"UI","Value":["1.2.4"]},"00081197":{"vr":"US","Value":[272]}}]}}'
)
STOW_XML = (
    b'<?xml version="1.0"?><NativeDicomModel><DicomAttribute tag="00081199" vr="SQ"><Item number="1">'
    b'<DicomAttribute tag="00081155" vr="UI"><Value number="1">1.2.3</Value></DicomAttribute></Item>'
    b"</DicomAttribute></NativeDicomModel>"
)


def seeds(target: str, corpus: Path | None) -> list[bytes]:
    """Return what mutations start from: real objects where the target reads objects."""
    if target in OF_HTTP | OF_WORDS:
        return (OF_HTTP | OF_WORDS)[target]()
    if target == "request":
        return [request(b"CT1", b"STORESTOW", *(context(2 * n + 1, b"1.2.840.10008.1.1") for n in range(9)))]
    if target == "stow":
        return [STOW_JSON, STOW_XML]
    if target == "site":
        return [TOML]
    if target == "hook":
        return [b"S_1.2.3", b"../../S_outside", b"$(touch pwned)", "Ä\n#p#a".encode(), b"S_" + b"1." * 200]
    bundled = [Path(name) for name in get_testdata_files()]
    found = [*bundled, *(corpus.rglob("*") if corpus else [])]
    small = [
        file.read_bytes() for file in sorted(found) if file.is_file() and 132 < file.stat().st_size < LARGEST_SEED
    ]
    made = [
        part10(image("1.2.3"), "1.2.3"),
        part10(
            image("1.2.3", before_pixels=nested(5, defined=False) + element(0x00400555, b"UN", b"x" * 20)), "1.2.3"
        ),
        part10(image("1.2.3"), "1.2.3", syntax=IMPLICIT),
        part10(image("1.2.3"), "1.2.3", syntax=EXPLICIT)[132:],
    ]
    return [*small, *made * max(1, len(small) // 20)]


def fuzz(
    target: str, known: list[bytes], chance: random.Random, *, count: int, seconds: float, folder: Path
) -> int:
    """Return how many inputs were survived; stops at the first that was not, or when time is up."""
    begin = time.monotonic()
    current, room = folder / "current", folder / "room"
    for number in range(count):
        if time.monotonic() - begin > seconds:
            return number
        content = mutated(chance.choice(known), known, chance)
        current.write_bytes(content)
        room.mkdir(exist_ok=True)
        survive(target, content, room)
    return count


def main() -> None:
    """Fuzz as the command line says, and print how many inputs were survived."""
    target, seed, count, seconds, folder, *corpus = sys.argv[1:]
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (int(float(seconds) + 20 * SECONDS),) * 2)
    known = seeds(target, Path(corpus[0]) if corpus else None)
    limits = {"count": int(count), "seconds": float(seconds), "folder": Path(folder)}
    print(fuzz(target, known, random.Random(int(seed)), **limits))


if __name__ == "__main__":
    main()
