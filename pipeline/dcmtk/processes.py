"""Start external programs: absolute paths, no shell, an environment of our own, nothing inherited unasked."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from pipeline.errors import Transient

UMASK = 0o027  # what is received is for the service's user and group alone


@dataclass(frozen=True, slots=True)
class FinishedProgram:
    """What a program that has ended said, on standard output and standard error together."""

    exit_code: int
    output: str


def start(
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    output: int | IO[bytes] = subprocess.DEVNULL,
    inherited: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start `argv` and return at once; standard output and standard error go to `output`.

    `inherited` are the file descriptors it keeps under their numbers; all others are closed for it.
    Raises Transient where the machine cannot start it now.
    """
    try:
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


def run(argv: Sequence[str], environment: Mapping[str, str], *, timeout_seconds: float) -> FinishedProgram:
    """Run `argv` to its end; its exit code is for the caller to doubt (0 often proves nothing).

    Raises Transient where it cannot be started, or has not ended in time and was killed.
    """
    process = start(argv, environment, output=subprocess.PIPE)
    try:
        output, _ = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        raise Transient(f"{argv[0]} has not ended within {timeout_seconds:g} s") from error
    except BaseException:  # a signal ends this command: the program must not outlive it
        process.kill()
        process.wait()
        raise
    return FinishedProgram(process.returncode, output.decode("utf-8", "replace"))
