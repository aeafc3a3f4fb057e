"""The folders (rooms) of the spool, and the functions that find, admit and delete files in them.

The room of a folder is the one fact that must survive the ledger: `incoming`, `arrivals`, `settled` or
`quarantine` (docs/design.md, State). Folders change rooms by one rename, so all rooms are on one local file
system. With a store that several nodes share ([cluster]), what is admitted lies there, and `line.hand_over` brings
it from this node's own folder (docs/scale.md).
"""

import contextlib
import errno
import fcntl
import functools
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from stat import S_ISREG
from types import ModuleType

import psutil

from pipeline.crash_points import around, door
from pipeline.errors import Configuration, Permanent, Transient
from pipeline.spool.durable import remove_tree, unlink

HOOKS = Path("hooks")
MARK = "ledger.spool"  # File with the identity of a spool or store.
_PERSON_MUST_ACT = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}
KNOCK = "knock-"  # Prefix of the folders whose making wakes the worker.
SAID = ".storescp.log"  # Prefix of files in a study's folder with storescp's messages about the objects in it.
NETWORK_FILE_SYSTEMS = (
    *("nfs", "cifs", "smb", "afp", "9p", "ceph", "gluster", "lustre", "gpfs", "webdav", "davfs"),
    *("fuse.sshfs", "fuse.gluster", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.davfs"),
)


class Spool:
    """The folder [site] spool with this node's own rooms, and the store with those that all nodes share.

    Without a store of its own both are the same folder.
    """

    def __init__(self, root: Path, store: Path | None = None) -> None:
        self.root = root
        self.store = store or root
        self.incoming = root / "incoming"  # Receivers write here, each into a folder of its own.
        self.received = root / "arrivals"  # The hook moves folders here; with a store they are handed over to it.
        self.ahead = root / "ahead"  # Pixels encoded before their study was complete; they can be encoded again.
        self.run = root / "run"  # Locks and generated configuration of running processes.
        self.arrivals = self.store / "arrivals"  # Admitted arrivals, until every instance has its account.
        self.settled = self.store / "settled"  # Arrivals with accounts, for `keep_originals`.
        self.quarantine = self.store / "quarantine"  # Arrivals that a person must look at.
        self.outputs = self.store / "outputs"  # Files made for deliveries; they can be made again.
        self.accounts = self.store / "accounts"  # Accounts of forgotten rows, a file a year.
        self.rooms_of_arrivals = (self.arrivals, self.settled, self.quarantine)  # An admitted folder is in one.
        self._mark: bytes | None = None
        self._own_rooms = (self.incoming, self.received, self.ahead, self.run)
        self._shared_rooms = (*self.rooms_of_arrivals, self.outputs)
        self.rooms = tuple(dict.fromkeys((*self._own_rooms, *self._shared_rooms)))

    @property
    def has_store(self) -> bool:
        """Say whether what is admitted lies in another folder than the receivers' own."""
        return self.store != self.root

    def require_store(self) -> None:
        """Raise Transient unless the store is the same as at the first call: what is not mounted looks empty."""
        if not self.has_store:
            return
        mark = self._read_mark()
        self._mark = self._mark or mark
        if mark is None or mark != self._mark:
            raise Transient(f"[cluster] store {self.store} is not there any more: is it mounted?")

    def _read_mark(self) -> bytes | None:
        try:
            return (self.store / MARK).read_bytes()
        except FileNotFoundError:
            return None

    def arrival_names(self) -> set[str]:
        """Return the names of the folders in `arrivals`, without copies that are still being made."""
        with os.scandir(self.arrivals) as entries:
            return {entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()}

    def received_names(self) -> set[str]:
        """Return the names of the folders that are still to be handed over to the store of [cluster].

        A hidden one has been, and is being deleted: a part of it must not be handed over as the whole.
        """
        if not self.has_store:
            return set()
        with os.scandir(self.received) as entries:
            return {entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()}

    def find(self, arrival: str, file: str) -> Path | None:
        """Return the present path of a file of an arrival, None if its folder is no longer kept."""
        # Look twice: a concurrent release may move the folder into a room we have already checked.
        twice = (*self.rooms_of_arrivals, *self.rooms_of_arrivals)
        return next((place for room in twice if is_file(place := room / arrival / file)), None)

    def remove(self, arrival: str, file: str) -> Path | None:
        """Delete a file of an arrival in whatever room it is; return its former path, None if it is in none."""
        while path := self.find(arrival, file):
            try:
                unlink(path)
            except FileNotFoundError:  # The arrival has changed rooms meanwhile.
                continue
            return path
        return None

    def remove_all(self, arrival: str) -> None:
        """Delete an arrival, even if it changes rooms meanwhile."""
        for room in (*self.rooms_of_arrivals, *self.rooms_of_arrivals):
            remove_tree(room / arrival, ignore_errors=True)

    def present(self, path: Path) -> Path | None:
        """Return the present path of a file pinned at `path`, None if it is gone: originals change rooms."""
        if is_file(path):
            return path
        return self.find(path.parent.name, path.name) if path.parent.parent in self.rooms_of_arrivals else None

    def incoming_of(self, receiver: str) -> Path:
        """Return the folder into which the receiver writes."""
        return self.incoming / receiver

    def objects_log(self, receiver: str) -> Path:
        """Return the file with storescp's messages about single objects (study mode)."""
        return self.run / f"{receiver}.objects.log"

    def wake_worker(self) -> None:
        """Wake the worker, which watches the room `run`; without file system events it looks a little later."""
        with contextlib.suppress(OSError):
            Path(tempfile.mkdtemp(prefix=KNOCK, dir=self.run)).rmdir()

    def prepare(self) -> None:
        """Create this node's own rooms, mode 0750, and check that files can be written and renamed in them.

        Raises Configuration, which names the path and the remedy, and Transient if the disk fails now.
        """
        rooms = self._own_rooms if self.has_store else self.rooms
        for room in (self.root, *rooms):
            _make(room)
        if (kind := network_file_system(self.root)) is not None:
            raise Configuration(
                f"spool {self.root} is on a network file system ({kind}); renames and locks are not to be trusted "
                "there: put [site] spool on a local disk"
            )
        _prove_usable(self.root, rooms)

    def prepare_store(self) -> None:
        """Create the rooms of a store that other nodes share, and check them as `prepare` does.

        Receivers do not need it: they go on while the store cannot be used. Raises Configuration, and Transient if
        the store fails now.
        """
        if not self.has_store:
            return
        with self.in_use():
            if not self.store.is_dir():
                raise Configuration(
                    f"[cluster] store {self.store} is no folder: mount it, on every node at this path"
                )
            for room in self._shared_rooms:
                _make(room)
            _prove_usable(self.store, self._shared_rooms)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Raise Transient for an OSError in the block: a disk or store that fails now may work again."""
        try:
            yield
        except OSError as error:
            raise Transient(f"{error.filename or self.store} cannot be used now: {error.strerror}") from error

    def prepare_receiver(self, receiver: str) -> Path:
        """Create the receiver's incoming folder as `prepare` creates rooms, and return it."""
        folder = self.incoming_of(receiver)
        _make(folder)
        _prove_writable(folder)
        return folder


def network_file_system(path: Path) -> str | None:
    """Return the type of the network file system `path` is on, None if the file system is local."""
    real = path.resolve()
    mounts = {Path(disk.mountpoint): disk.fstype for disk in psutil.disk_partitions(all=True)}
    nearest = next((mounts[folder] for folder in (real, *real.parents) if folder in mounts), "")
    return nearest if nearest.lower().startswith(NETWORK_FILE_SYSTEMS) else None


@door
def admit(incoming: Path, folder: Path) -> str | None:
    """Rename a finished folder of `incoming` into the arrivals, exactly as the hook does.

    Return the arrival's name, None if another process has admitted it. Raises Permanent if the path is no study or
    association folder, Transient if the rename failed.
    """
    try:
        with around("admit"):
            arrival: str | None = _hook().admit(str(incoming), str(folder))
    except ValueError as error:
        raise Permanent(f"{folder} {error}") from error
    except OSError as error:
        raise Transient(f"{folder} cannot be admitted: {error}") from error
    return arrival


def hook_file(name: str = "study-complete") -> Path:
    """Return a hook beside the package in a checkout, or where the wheel has installed it.

    Raises Configuration if it is in neither place.
    """
    places = (Path(__file__).parents[2] / HOOKS / name, Path(sys.prefix) / "share" / "storestow" / HOOKS / name)
    for place in places:
        if place.is_file():
            return place
    raise Configuration(f"{name} is missing from {' and '.join(map(str, places))}; install storestow again")


@functools.cache
def _hook() -> ModuleType:
    loader = SourceFileLoader("study_complete", str(hook_file()))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def is_there(path: Path) -> bool:
    """Tell whether there is a file or folder `path`; raises OSError if a failing disk or share cannot tell.

    `Path.is_dir` and `is_file` answer False there from Python 3.14 on, and what is unreadable would count as gone.
    """
    return _mode_of(path) is not None


def is_file(path: Path) -> bool:
    """Tell whether there is a file `path`, as `is_there` does."""
    mode = _mode_of(path)
    return mode is not None and S_ISREG(mode)


def _mode_of(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a lock on `folder` during the block: another thread or process that calls this waits."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _prove_usable(root: Path, rooms: Iterable[Path]) -> None:
    for room in rooms:
        _prove_writable(room)
        if room.stat().st_dev != root.stat().st_dev:
            raise Configuration(
                f"{room} is on another file system than {root}; folders change rooms by a rename: "
                f"put all of {root} on one file system"
            )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        remedy = "create it for the user storestow runs as, or choose another [site] spool"
        raise _classified(error, f"{folder} cannot be made", remedy) from error


def _prove_writable(folder: Path) -> None:
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        remedy = "give it to the user storestow runs as"
        raise _classified(error, f"{folder} cannot be written to", remedy) from error


def _classified(error: OSError, what: str, remedy: str) -> Configuration | Transient:
    if error.errno in _PERSON_MUST_ACT:
        return Configuration(f"{what}: {error.strerror}; {remedy}")
    return Transient(f"{what} now: {error.strerror}")
