"""Compute from the size of a file what a task may cost a process; the kernel enforces these limits."""

import contextlib
import math
import mmap
import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

SMALLEST_BOUND = 2 << 30
# Seconds of processor time to read a file: a base, and an addition for each MiB; most files take a hundredth.
SECONDS, SECONDS_A_MEBIBYTE = 10.0, 1.0
MEMORY = 512 << 20  # Bytes to read a file of any size.
TIMES_TO_READ = 2  # Factor on the file's size: the file is mapped, and perhaps inflated or copied once.
# To prepare it, pydicom makes objects of the header: of a million elements in 17 MiB, which enhanced MR of 3,400
# frames has, 600 MiB in 17 s. Pixels are mapped, copied, encoded, encapsulated, written and decoded again.
TIMES_THE_SECONDS, TIMES_THE_MEMORY, TIMES_TO_ENCODE = 3, 2, 6
LARGE = 64 << 20  # Size in bytes from which a file counts as large.
# Wall-clock limit as a multiple of the processor time; beyond it the machine or its disk is at fault.
TIMES_ON_THE_CLOCK = 10


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """Limits of processor time, and of bytes of address space beyond those in use at the start."""

    cpu_seconds: float
    memory: int
    is_large: bool = False  # The task will take long, so it yields to others from the start.

    @property
    def clock_seconds(self) -> float:
        """Return the wall-clock seconds after which a task is postponed, because the machine is too slow."""
        return TIMES_ON_THE_CLOCK * self.cpu_seconds

    def apply(self) -> None:
        """Set the limits for this process: if they are exceeded, the kernel ends it or refuses memory."""
        _set_soft(resource.RLIMIT_CPU, math.ceil(time.process_time() + self.cpu_seconds))
        if sys.platform == "linux":  # macOS does not enforce this limit.
            _set_soft(resource.RLIMIT_AS, min(memory_bound(), _address_space() + self.memory))


def to_read(*files: Path) -> ProcessLimits:
    """Return the limits for reading these files as DICOM."""
    size = _size_of(files)
    return ProcessLimits(_seconds(size), MEMORY + TIMES_TO_READ * size, size > LARGE)


def to_encode(*files: Path) -> ProcessLimits:
    """Return the limits for preparing, encoding, decoding or comparing these files."""
    size = _size_of(files)
    memory = TIMES_THE_MEMORY * MEMORY + TIMES_TO_ENCODE * size
    return ProcessLimits(TIMES_THE_SECONDS * _seconds(size), memory, size > LARGE)


def _seconds(size: int) -> float:
    return SECONDS + SECONDS_A_MEBIBYTE * size / (1 << 20)


def _size_of(files: tuple[Path, ...]) -> int:
    size = 0
    for file in files:
        with contextlib.suppress(OSError):  # The task that opens the file reports what is wrong with it.
            size += file.stat().st_size
    return size


def memory_bound() -> int:
    """Return the bytes of address space for one process: half of the machine's memory, at least 2 GiB.

    A JPEG 2000 frame of 600 bytes can claim 65535 x 65535 pixels, for which a decoder took all of 24 GiB.
    """
    return max(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2, SMALLEST_BOUND)


def of_the_machine() -> ProcessLimits:
    """Return limits from the machine's size, for a task whose files say nothing about its cost."""
    return ProcessLimits(900.0, memory_bound())


def be_the_first_to_go() -> None:
    """Let the kernel kill this process first if memory runs out, and write no core dump, which may hold images."""
    _set_soft(resource.RLIMIT_CORE, 0)
    if sys.platform == "linux":  # macOS has no such setting.
        with contextlib.suppress(OSError):  # If a service manager forbids this, work must go on.
            Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _set_soft(kind: int, value: int) -> None:
    with contextlib.suppress(OSError):  # Work must go on here, too.
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _address_space() -> int:
    with open("/proc/self/statm", "rb", buffering=0) as file:  # noqa: PTH123  # asked before every task
        return int(file.read(128).split()[0]) * mmap.PAGESIZE
