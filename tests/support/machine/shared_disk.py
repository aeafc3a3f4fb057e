"""One disk of two machines, which one of them has at a time: an image with a file system, mounted through a loop.

Where nobody may mount, or the kernel has no loops, as in some containers, a folder is handed over by its name. It
cannot lose its power: what was written is there.
"""

import contextlib
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from support.machine.dicom_programs import program, wait_until

_GOING_DOWN, _WITHOUT_THE_LOG = 0x8004587D, 2  # EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH of the kernel


@dataclass
class SharedDisk:
    """The disk, and where a machine that has it mounts it; `is_mounted` is false where it is a folder."""

    source: Path
    folder: Path
    is_mounted: bool

    def attach(self) -> None:
        """Mount it, as the machine does that takes over; the journal of the file system is played back."""
        if self.is_mounted:
            subprocess.run(
                ["mount", "-oloop", str(self.source), str(self.folder)], check=True, capture_output=True
            )
            return
        self.folder.rmdir()
        self.source.rename(self.folder)

    def detach(self) -> None:
        """Unmount it when nobody has it open any more: the kernel closes the files of the dead one by one."""
        try:
            wait_until(self._is_detached, seconds=60)
        except AssertionError as error:
            raise AssertionError(f"{self.folder} is in use: {self.users()}") from error

    def _is_detached(self) -> bool:
        if self.is_mounted:
            return subprocess.run(["umount", self.folder], capture_output=True, check=False).returncode == 0
        self.folder.rename(self.source)
        self.folder.mkdir()
        return True

    def users(self) -> list[str]:
        """Return who has something of it open."""
        found: list[str] = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                about = Path(f"/proc/{process.pid}")
                held = {link.readlink() for link in (about / "cwd", *(about / "fd").iterdir())}
                words = " ".join(process.cmdline())[:80]
                found += [f"{words}: {path}" for path in held if path.is_relative_to(self.folder)]
        return found

    def cut_power(self) -> None:
        """Lose at this moment whatever nobody has flushed, and let nothing more be read or written."""
        if not self.is_mounted:
            return
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _GOING_DOWN, struct.pack("I", _WITHOUT_THE_LOG))
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def shared_disk(folder: Path, *, mebibytes: int = 256) -> Iterator[SharedDisk]:
    """Yield a disk whose mount point is `folder/spool`; it is not attached."""
    mount_point = folder / "spool"
    mount_point.mkdir(parents=True)
    disk = _with_a_file_system(folder / "image", mount_point, mebibytes << 20)
    if disk is None:
        (folder / "disk").mkdir()
        disk = SharedDisk(folder / "disk", mount_point, is_mounted=False)
    try:
        yield disk
    finally:
        if os.path.ismount(mount_point):
            subprocess.run(["umount", "-l", mount_point], check=True)


def _with_a_file_system(image: Path, mount_point: Path, size: int) -> SharedDisk | None:
    """Return a new disk that can be mounted, None where that is not possible here."""
    with image.open("wb") as file:
        file.truncate(size)
    disk = SharedDisk(image, mount_point, is_mounted=True)
    try:
        subprocess.run(
            [program("mkfs.ext4"), "-q", "-F", "-m", "0", image], check=True, capture_output=True, timeout=60
        )
        disk.attach()
    except (AssertionError, OSError, subprocess.SubprocessError):  # no such program, not root, or no loops
        return None
    disk.detach()
    return disk
