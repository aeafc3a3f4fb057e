"""How much one task may cost a process: decided by the size of its file, kept by the kernel."""

import contextlib
import math
import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

SMALLEST_BOUND = 2 << 30
SECONDS, SECONDS_A_MEBIBYTE = 10.0, 1.0  # of processor time to read a file; most take a hundredth of it
MEMORY = 512 << 20  # bytes to read a file, whatever its size
TIMES_TO_READ = 2  # its size: mapped, and perhaps inflated or held once
# To prepare it, pydicom makes objects of the header: of a million elements in 17 MiB, which enhanced MR of 3,400
# frames has, 600 MiB in 17 s. Pixels are mapped, copied, encoded, encapsulated, written and decoded again.
TIMES_THE_SECONDS, TIMES_THE_MEMORY, TIMES_TO_ENCODE = 3, 2, 6
LARGE = 64 << 20  # bytes of a file
TIMES_ON_THE_CLOCK = 10  # the processor time allowed: longer is the machine's fault, or its disk's


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """Processor time, and bytes of address space beyond what the process takes before it begins."""

    cpu_seconds: float
    memory: int
    is_large: bool = False  # it will take long, so that it gives way from the start

    @property
    def clock_seconds(self) -> float:
        """Tell after how long on the clock a task is put off: that says nothing about its file."""
        return TIMES_ON_THE_CLOCK * self.cpu_seconds

    def apply(self) -> None:
        """Have the kernel end this process, or refuse it memory, where it exceeds these from now on."""
        _set_soft(resource.RLIMIT_CPU, math.ceil(time.process_time() + self.cpu_seconds))
        if sys.platform == "linux":  # macOS does not enforce this limit
            _set_soft(resource.RLIMIT_AS, min(memory_bound(), _address_space() + self.memory))


def to_read(*files: Path) -> ProcessLimits:
    """Return what reading these files as DICOM may cost."""
    size = _size_of(files)
    return ProcessLimits(_seconds(size), MEMORY + TIMES_TO_READ * size, size > LARGE)


def to_encode(*files: Path) -> ProcessLimits:
    """Return what preparing, encoding, decoding or comparing these files may cost."""
    size = _size_of(files)
    memory = TIMES_THE_MEMORY * MEMORY + TIMES_TO_ENCODE * size
    return ProcessLimits(TIMES_THE_SECONDS * _seconds(size), memory, size > LARGE)


def _seconds(size: int) -> float:
    return SECONDS + SECONDS_A_MEBIBYTE * size / (1 << 20)


def _size_of(files: tuple[Path, ...]) -> int:
    size = 0
    for file in files:
        with contextlib.suppress(OSError):  # whoever opens it says what is wrong with it
            size += file.stat().st_size
    return size


def memory_bound() -> int:
    """Return the bytes of address space one process may have: half of the machine's memory, at least 2 GiB.

    A JPEG 2000 frame of 600 bytes can claim 65535 x 65535 pixels, for which a decoder took all of 24 GiB.
    """
    return max(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2, SMALLEST_BOUND)


def of_the_machine() -> ProcessLimits:
    """Return the limits of a task that no one file's size speaks for."""
    return ProcessLimits(900.0, memory_bound())


def be_the_first_to_go() -> None:
    """Die first where the machine's memory runs out, and leave no core, which would hold a patient's images."""
    _set_soft(resource.RLIMIT_CORE, 0)
    if sys.platform == "linux":  # macOS has no such order
        with contextlib.suppress(OSError):  # where a service manager forbids it, that must not stop the line
            Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _set_soft(kind: int, value: int) -> None:
    with contextlib.suppress(OSError):  # as above
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _address_space() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
