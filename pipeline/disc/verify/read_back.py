"""Read the finished medium back, by other code than wrote it, before it is offered to anybody.

One sequential pass compares every object's SHA-256 with its source, every DICOMDIR record and its parents with the
object it points to, and every name with the planned tree.
"""

import contextlib
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from types import MappingProxyType

from pipeline.dicom.placeholders import PLACEHOLDERS
from pipeline.disc.dicomdir.cross_check import mismatches, names_of_nobody
from pipeline.disc.errors import NotAsWritten
from pipeline.disc.formats.contents import Contents, DamagedZip, IsoContents, ZipContents, read_all
from pipeline.disc.formats.directory import Directory, NoDirectory, read_directory
from pipeline.disc.formats.independent_reader import FileDigest, HashTask, ObjectIdentity, look, looks
from pipeline.disc.formats.iso9660 import SHORT_NAME, IsoFile, NoIso, read_volume
from pipeline.disc.formats.parallel import spread
from pipeline.processes.process_pool import ProcessPool
from pipeline.spool.hashed_files import sha256_of

Digests = Mapping[IsoFile, FileDigest]

DICOMDIR = "DICOMDIR"
NOTHING_KNOWN: Digests = MappingProxyType({})
LARGE = 256 << 20  # Bytes; starting the pool's processes takes longer than reading a smaller medium in this one.
_BATCH, _MOST_FILES = 16 << 20, 64  # Bytes and files in one task.
_READERS = 2  # Threads: hashing is nearly all of the work, and other threads run meanwhile.
_UNREADABLE = (NoIso, NoDirectory, DamagedZip, OSError)


def read_back(  # noqa: PLR0913, PLR0917  # each is another fact that the medium must bear out
    medium: Path,
    volume_id: str,
    expected: Mapping[str, str],
    pass_phrase: str | None,
    pool: ProcessPool,
    progress: Callable[[int], None],
    placeholders: tuple[str, ...] = PLACEHOLDERS,
    *,
    hashes_medium: bool = True,
    known: Digests = NOTHING_KNOWN,
) -> str:
    """Return the SHA-256 of the file `medium`, once everything in it has been found as `expected`.

    `expected` maps every path on the medium to the SHA-256 of its source; the paths below DICOM/ are the objects.
    `progress` gets the number of bytes read. Without `hashes_medium` the result is "": the hash of the whole
    medium proves no more than the hashes of its files. `known` has what a `ReadBehind` of this medium has read.
    Raises NotAsWritten with the first fault.
    """
    with ThreadPoolExecutor(2, thread_name_prefix="read-back") as beside:
        # This thread and the pass below read the same bytes, so one of them reads from the page cache.
        whole = beside.submit(sha256_of, medium) if hashes_medium else None
        with contextlib.closing(_open(medium, pass_phrase)) as contents:
            if isinstance(contents, IsoContents):
                _check_image(contents, medium, volume_id)
            _check_paths(set(contents.files), expected)
            directory = beside.submit(_directory, _index(contents))
            claims = _read_files(_looks(contents, medium, pool, known), expected, progress)
            _check_directory(directory.result(), volume_id, claims, placeholders)
        return whole.result() if whole else ""


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Turn errors of reading into NotAsWritten; use it around reading, never around `progress`."""
    try:
        yield
    except _UNREADABLE as error:
        raise NotAsWritten(f"what was written cannot be read back: {error}") from error


def _open(medium: Path, pass_phrase: str | None) -> IsoContents | ZipContents:
    with _readable():
        if zipfile.is_zipfile(medium):
            return ZipContents(medium, pass_phrase)
        return IsoContents(medium, by_long_names=True)


def _check_image(image: IsoContents, medium: Path, volume_id: str) -> None:
    if image.volume_id != volume_id:
        raise NotAsWritten(f"the image is called {image.volume_id}, not {volume_id}")
    if image.volume.joliet is None:
        raise NotAsWritten("the image has no Joliet tree")
    if image.volume.primary.volume_size > medium.stat().st_size:
        raise NotAsWritten("the image is shorter than it says")
    _check_names(image.volume.primary.files, image.volume.joliet.files)


def _check_names(primary: Mapping[str, IsoFile], joliet: Mapping[str, IsoFile]) -> None:
    """Check that both trees have the same files, and under the same names if a name is short enough."""
    short = {path: file.extents for path, file in primary.items()}
    long = {path: file.extents for path, file in joliet.items()}
    if sorted(short.values()) != sorted(long.values()):
        raise NotAsWritten("the short and the long file names do not lead to the same files")
    for path, extents in long.items():
        if all(SHORT_NAME.fullmatch(name) for name in path.split("/")) and short.get(path) != extents:
            raise NotAsWritten(f"{path} is another file by its short name")


def _check_paths(found: set[str], expected: Mapping[str, str]) -> None:
    if missing := expected.keys() - found:
        raise NotAsWritten(f"{len(missing)} files are missing from what was written, {min(missing)} first")
    if more := found - expected.keys():
        raise NotAsWritten(f"{len(more)} files were written that nobody meant, {min(more)} first")


def _looks(
    contents: IsoContents | ZipContents, medium: Path, pool: ProcessPool, known: Digests
) -> Iterator[FileDigest]:
    """Yield the digest of every file, those of `known` first, and otherwise in the order of the medium.

    The pool reads a large image, a few threads read a small one, and this thread reads a ZIP file.
    """
    if isinstance(contents, ZipContents):
        for path in contents.files:
            yield look(path, _pieces(contents, path))
        return
    files = contents.on_image()
    yield from (known[file] for file in files if file in known)
    left = [file for file in files if file not in known]
    tasks = (HashTask(medium, batch) for batch in _batches(left))
    is_large = sum(file.size for file in left) > LARGE
    with _readable():
        if is_large:
            yield from chain.from_iterable(spread(looks, tasks, pool))
            return
        with ThreadPoolExecutor(_READERS, thread_name_prefix="read-back") as readers:
            yield from chain.from_iterable(readers.map(looks, tasks))


class ReadBehind:
    """Read the files of an image while xorriso writes it, each once it lies in what has been written.

    xorriso writes from the first byte to the last and changes nothing behind it. `read_back` takes a digest from
    `digests` only if the finished image has that file at the very place where it was read.
    """

    def __init__(self, image: Path) -> None:
        self.digests: dict[IsoFile, FileDigest] = {}
        self._image = image
        self._batches: list[tuple[IsoFile, ...]] | None = None  # The next one is the last; None: not known yet.

    def look(self, size: int) -> bool:
        """Read the next files if they end below `size`, the bytes written so far; return whether there were any.

        Whatever is wrong with them is left to `read_back`.
        """
        try:
            if self._batches is None and (joliet := read_volume(self._image).joliet):
                self._batches = [*_batches(joliet.files.values())][::-1]
            if not self._batches or _end_of(self._batches[-1]) > size:
                return False
            batch = self._batches.pop()
            self.digests.update(zip(batch, looks(HashTask(self._image, batch)), strict=True))
        except (NotAsWritten, *_UNREADABLE):
            return False
        return True


def _end_of(files: Iterable[IsoFile]) -> int:
    return max(offset + length for file in files for offset, length in file.extents)


def _batches(files: Iterable[IsoFile]) -> Iterator[tuple[IsoFile, ...]]:
    """Yield files in groups of some size, so that each task is worth its overhead."""
    batch: list[IsoFile] = []
    size = 0
    for file in files:
        batch.append(file)
        size += file.size
        if size >= _BATCH or len(batch) >= _MOST_FILES:
            yield tuple(batch)
            batch, size = [], 0
    if batch:
        yield tuple(batch)


def _read_files(
    looked: Iterable[FileDigest], expected: Mapping[str, str], progress: Callable[[int], None]
) -> dict[str, ObjectIdentity]:
    """Return the identities of the objects by path; raises NotAsWritten for a file with an unexpected hash."""
    claims: dict[str, ObjectIdentity] = {}
    done = 0
    for digest in looked:
        if digest.sha256 != expected[digest.path]:
            raise NotAsWritten(f"{digest.path} does not read back as it was")
        if digest.claims is not None:
            claims[digest.path] = digest.claims
        done += digest.size
        progress(done)
    return claims


def _pieces(contents: Contents, path: str) -> Iterator[bytes]:
    with _readable():
        yield from contents.pieces(path)


def _index(contents: Contents) -> bytes:
    with _readable():
        return read_all(contents, DICOMDIR)


def _directory(index: bytes) -> Directory:
    with _readable():
        return read_directory(index)


def _check_directory(
    directory: Directory, volume_id: str, claims: Mapping[str, ObjectIdentity], placeholders: tuple[str, ...]
) -> None:
    if directory.file_set_id != volume_id:
        raise NotAsWritten(f"the File-set ID is {directory.file_set_id}, the volume {volume_id}")
    if directory.problems:
        raise NotAsWritten(directory.problems[0])
    paths = [listed.path for listed in directory.listed]
    if len(paths) != len(set(paths)):
        raise NotAsWritten("two records of the DICOMDIR name the same file")
    if set(paths) != claims.keys():
        raise NotAsWritten(f"the DICOMDIR lists {len(paths)} objects, {len(claims)} are there")
    _check_records(directory, claims, placeholders)


def _check_records(
    directory: Directory, claims: Mapping[str, ObjectIdentity], placeholders: tuple[str, ...]
) -> None:
    for listed in directory.listed:
        found = claims[listed.path]
        if wrong := list(mismatches(listed, found, placeholders)):
            raise NotAsWritten(f"the record of {listed.path} and the object disagree in {', '.join(wrong)}")
    if files := names_of_nobody(directory, claims):
        raise NotAsWritten(f"the PATIENT record above {files[0]} has a Patient's Name that no object below it has")
