"""One disk of two machines, which one of them has at a time: an image with a file system, mounted through a loop.

Where the kernel has no loops, as in some containers, the disk is a tmpfs that is bound to its machine's folder. It
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
from support.machine.dicom_programs import wait_until

_GOING_DOWN, _WITHOUT_THE_LOG = 0x8004587D, 2  # EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH of the kernel


@dataclass
class SharedDisk:
    """The disk; `has_power_to_lose` says whether what nobody flushed can be lost."""

    source: Path
    folder: Path
    has_power_to_lose: bool

    def attach(self) -> None:
        """Mount it, as the machine does that takes over; the journal of the file system is played back."""
        how = "-oloop" if self.has_power_to_lose else "--bind"
        subprocess.run(["mount", how, str(self.source), str(self.folder)], check=True)

    def detach(self) -> None:
        """Unmount it when nobody has it open any more: the kernel closes the files of the dead one by one."""

        def is_free() -> bool:
            done = subprocess.run(["umount", str(self.folder)], capture_output=True, check=False)
            return done.returncode == 0

        try:
            wait_until(is_free, seconds=20)
        except AssertionError as error:
            raise AssertionError(f"{self.folder} is in use: {self.users()}") from error

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
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _GOING_DOWN, struct.pack("I", _WITHOUT_THE_LOG))
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def shared_disk(folder: Path, *, mebibytes: int = 256) -> Iterator[SharedDisk]:
    """Yield a disk whose mount point is `folder/spool`; it is not attached."""
    folder.mkdir(parents=True)
    (folder / "spool").mkdir()
    image = folder / "image"
    with image.open("wb") as file:
        file.truncate(mebibytes << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], check=True)
    disk = SharedDisk(image, folder / "spool", has_power_to_lose=True)
    memory: Path | None = None
    try:
        disk.attach()
        disk.detach()
    except subprocess.CalledProcessError:
        memory = folder / "memory"
        memory.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "none", str(memory)], check=True)
        disk = SharedDisk(memory, folder / "spool", has_power_to_lose=False)
    try:
        yield disk
    finally:
        for place in (disk.folder, memory):
            if place and os.path.ismount(place):
                subprocess.run(["umount", "-l", str(place)], check=True)
