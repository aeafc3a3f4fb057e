"""Run a program that must not outlive its owner.

    python leash.py PROGRAM ARGUMENT...

The owner holds the other end of standard input. When that closes, because the owner asks for it or because
it died in whatever way, the program and all it started are stopped: first asked, then killed.
"""

import os
import subprocess
import sys
import threading

import psutil

LOOK_SECONDS = 0.5
PATIENCE_SECONDS = 20  # storescp finishes its object, the worker its stage, Orthanc its database


def main(argv: list[str]) -> int:
    """Run `argv` until it ends or standard input closes; leave nothing of it behind; return its exit code."""
    owner_left = threading.Event()
    threading.Thread(target=_wait_for_end_of_input, args=(owner_left,), daemon=True).start()
    program = psutil.Popen(argv, stdin=subprocess.DEVNULL)
    family: set[psutil.Process] = set()
    while program.poll() is None and not owner_left.wait(LOOK_SECONDS):
        family |= _descendants(program)  # now: once the program is dead nobody knows whose children they were
    family |= _descendants(program)
    _stop([program])  # alone, for it may want to end its own children in order
    _stop([process for process in family if process.is_running()])
    code: int = program.wait()
    return code if code >= 0 else 128 - code


def _wait_for_end_of_input(owner_left: threading.Event) -> None:
    while os.read(0, 1):
        pass
    owner_left.set()


def _descendants(program: psutil.Process) -> set[psutil.Process]:
    try:
        return set(program.children(recursive=True))
    except psutil.NoSuchProcess:
        return set()


def _stop(processes: list[psutil.Process]) -> None:
    for send in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            try:
                send(process)
            except psutil.NoSuchProcess:
                continue
        _, processes = psutil.wait_procs(processes, timeout=PATIENCE_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
