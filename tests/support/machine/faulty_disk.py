"""A file system that passes everything to a folder, and fails or hangs where a test says so.

The script is the process that serves it, one for each mount: what hangs there holds up nobody else. It needs root,
/dev/fuse and libfuse. A test writes what shall fail into a file, and reads from another what has failed.
"""

import contextlib
import ctypes
import errno
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.machine.dicom_programs import ENVIRONMENT, stop, wait_until

HANG = "hang"
EVERY = ("open", "create", "opendir", "getattr", "read", "write", "fsync", "rename", "unlink", "mkdir", "statfs")


@dataclass(frozen=True)
class FaultyDisk:
    """A mounted folder; `folder` is where the files lie, which others may mount, too."""

    mount_point: Path
    folder: Path
    told: Path
    failed: Path

    def fail(self, what: str, *operations: str, where: str = "") -> int:
        """Let operations on the paths that `where` matches fail with this errno's name, or hang.

        All do where none is named. Return how much has failed before.
        """
        before = len(self.failures())
        beside = self.told.with_suffix(".new")
        beside.write_text(json.dumps({"what": what, "operations": operations or EVERY, "where": where}))
        beside.rename(self.told)
        return before

    def work(self) -> None:
        """Let nothing fail any more, and what hangs go on."""
        self.told.unlink(missing_ok=True)

    def failures(self) -> list[str]:
        """Return operation and path of all that has failed or hung so far."""
        return self.failed.read_text().splitlines()


@contextlib.contextmanager
def faulty_disk(folder: Path, mount_point: Path) -> Iterator[FaultyDisk]:
    """Mount `folder` at `mount_point` during the block; both must exist."""
    told, failed = (mount_point.with_name(f"{mount_point.name}.{end}") for end in ("fault", "failed"))
    failed.touch()
    argv = [sys.executable, Path(__file__), folder, mount_point, told, failed]
    environment = {**ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parents[2])}
    log = mount_point.with_name(f"{mount_point.name}.log")
    with log.open("ab") as output:
        serving = subprocess.Popen(argv, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        wait_until(lambda: os.path.ismount(mount_point) or serving.poll() is not None, what="the mount")
        assert serving.poll() is None, log.read_text()
        yield FaultyDisk(mount_point, folder, told, failed)
    finally:
        told.unlink(missing_ok=True)
        subprocess.run(["umount", "-l", mount_point], check=False)
        stop(serving)


class _Passthrough:
    """The operations of the file system, as mfusepy calls them."""

    use_ns = True

    def __init__(self, folder: str, told: str, failed: str, is_interrupted: Callable[[], bool]) -> None:
        self._folder, self._told, self._failed = folder, told, failed
        self._is_interrupted = is_interrupted

    def _real(self, operation: str, path: str, *others: str) -> str:
        """Return the real path, after what a test wants to happen."""
        while told := self._fault(operation, path, *others):
            with open(self._failed, "a") as failed:  # noqa: PTH123
                failed.write(f"{operation} {path}\n")
            if told != HANG:
                raise OSError(getattr(errno, told), os.strerror(getattr(errno, told)))
            while self._fault(operation, path, *others) == HANG:
                if self._is_interrupted():  # As with NFS, a process that is killed need not wait.
                    raise OSError(errno.EINTR, "interrupted")
                time.sleep(0.02)
        return self._folder + path

    def _fault(self, operation: str, *paths: str) -> str | None:
        try:
            with open(self._told) as file:  # noqa: PTH123
                told: dict[str, Any] = json.load(file)
        except FileNotFoundError:
            return None
        is_meant = operation in told["operations"] and any(re.search(told["where"], path) for path in paths)
        return str(told["what"]) if is_meant else None

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        status = os.fstat(fh) if fh else os.lstat(self._real("getattr", path))
        names = ("st_mode", "st_size", "st_uid", "st_gid", "st_nlink", "st_ino", "st_blocks")
        times = {name: getattr(status, f"{name}_ns") for name in ("st_atime", "st_mtime", "st_ctime")}
        return {**{name: getattr(status, name) for name in names}, **times}

    def opendir(self, path: str) -> int:
        return os.open(self._real("opendir", path), os.O_RDONLY | os.O_DIRECTORY)

    def readdir(self, path: str, fh: int) -> Sequence[str]:
        self._real("readdir", path)
        return [".", "..", *os.listdir(fh)]

    def releasedir(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        self._real("fsync", path)
        os.fsync(fh)
        return 0

    def open(self, path: str, flags: int) -> int:
        return os.open(self._real("open", path), flags & ~os.O_APPEND)

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        return os.open(self._real("create", path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        self._real("read", path)
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._real("write", path)
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        os.truncate(self._real("write", path), length)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._real("fsync", path)
        os.fsync(fh)
        return 0

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0

    def rename(self, old: str, new: str) -> int:
        Path(self._real("rename", old, new)).rename(self._folder + new)
        return 0

    def link(self, target: str, source: str) -> int:
        Path(self._folder + target).hardlink_to(self._real("rename", source, target))
        return 0

    def unlink(self, path: str) -> int:
        Path(self._real("unlink", path)).unlink()
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        Path(self._real("mkdir", path)).mkdir(mode)
        return 0

    def rmdir(self, path: str) -> int:
        Path(self._real("unlink", path)).rmdir()
        return 0

    def chmod(self, path: str, mode: int) -> int:
        Path(self._folder + path).chmod(mode)
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        os.utime(self._folder + path, ns=times)
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        found = os.statvfs(self._real("statfs", path))
        return {name: getattr(found, name) for name in dir(found) if name.startswith("f_") and name != "f_fsid"}


def _serve(folder: str, mount_point: str, told: str, failed: str) -> None:
    import mfusepy  # here, because who only mounts needs no libfuse in its process

    class Operations(_Passthrough, mfusepy.Operations):
        pass

    libfuse = mfusepy._libfuse
    libfuse.fuse_interrupted.restype = ctypes.c_int
    operations = Operations(folder, told, failed, lambda: bool(libfuse.fuse_interrupted()))
    no_cache = {"attr_timeout": 0, "entry_timeout": 0, "negative_timeout": 0}
    mfusepy.FUSE(operations, mount_point, foreground=True, allow_other=True, default_permissions=True, **no_cache)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
