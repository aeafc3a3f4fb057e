"""A file system that is soon full, where this is root on Linux and may mount one."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path


def may_mount() -> bool:
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    return subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0


def make_read_only(folder: Path) -> None:
    """Let nothing more be opened for writing, made or renamed below `folder`; what is open stays so."""
    for _ in range(500):
        subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
        if subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=False).returncode == 0:
            return
        make_writable(folder)  # another thread has opened a file for writing by the new mount, perhaps for good
        time.sleep(0.01)
    raise RuntimeError(f"{folder} could not be made read-only")


def make_writable(folder: Path) -> None:
    """Take back what `make_read_only` did."""
    subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
