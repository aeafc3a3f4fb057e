"""Start external programs: absolute paths, no shell, our own environment, and only the file descriptors given."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from pipeline.crash_points import around, door
from pipeline.errors import Transient

UMASK = 0o027  # Only the service's user and group may read received files.


@dataclass(frozen=True, slots=True)
class FinishedProgram:
    """The output of a program that has ended, standard output and standard error together."""

    exit_code: int
    output: str


@door
def start(
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    output: int | IO[bytes] = subprocess.DEVNULL,
    inherited: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start `argv` and return at once; standard output and standard error go to `output`.

    The child keeps the file descriptors in `inherited` under their numbers; all others are closed. Raises
    Transient if the machine cannot start it now.
    """
    try:
        with around("start"):
            return subprocess.Popen(
                list(argv),
                env=dict(environment),
                cwd="/",
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=tuple(inherited),
                umask=UMASK,
            )
    except OSError as error:
        raise Transient(f"{argv[0]} cannot be started: {error}") from error


@door
def run(argv: Sequence[str], environment: Mapping[str, str], *, timeout_seconds: float) -> FinishedProgram:
    """Run `argv` to its end; the caller must doubt the exit code, because 0 often proves nothing.

    Raises Transient if it cannot start, or was killed after `timeout_seconds`.
    """
    process = start(argv, environment, output=subprocess.PIPE)
    try:
        output, _ = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        raise Transient(f"{argv[0]} has not ended within {timeout_seconds:g} s") from error
    except BaseException:  # A signal ends this command; the program must not outlive it.
        process.kill()
        process.wait()
        raise
    return FinishedProgram(process.returncode, output.decode("utf-8", "replace"))


def run_to_end(
    argv: Sequence[str], environment: Mapping[str, str], *, stdin: IO[bytes], timeout_seconds: float
) -> int:
    """Run `argv` with `stdin` and return its exit code; its output is discarded.

    Raises Transient if it cannot be started, or was killed after its time-out.
    """
    process = start(argv, environment, stdin=stdin)
    try:
        return process.wait(timeout_seconds)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.wait()
        raise Transient(f"{argv[0]} has not ended within {timeout_seconds:g} s") from error
