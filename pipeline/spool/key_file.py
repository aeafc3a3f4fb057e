"""Keep a random key in a file of the spool: created once, readable by its owner only, shared by all processes."""

import contextlib
import os
import secrets
from pathlib import Path

from pipeline.errors import Configuration, Transient
from pipeline.spool.durable import flush, flush_path, unlink
from pipeline.spool.store_file import give_name

KEY_BYTES = 32


def key_in(path: Path) -> bytes:
    """Return the key at `path`, creating it if there is none; two processes that create it get the same key.

    The folder of `path` must exist. Raises Transient if the file can be neither created nor read (a full disk, no
    spool yet), and Configuration if it holds anything but a key: delete it, and another one is made.
    """
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = _made(path)
    except OSError as error:
        raise Transient(f"the key {path} cannot be read: {error.strerror}") from error
    if len(key) != KEY_BYTES:
        raise Configuration(f"{path} does not hold a key of {KEY_BYTES} bytes; delete it, and another one is made")
    return key


def _made(path: Path) -> bytes:
    beside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            flush(file.fileno())
        give_name(beside, path)  # If another process was faster, its key counts.
        flush_path(path.parent)
        return path.read_bytes()
    except OSError as error:
        raise Transient(f"the key {path} cannot be made: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            unlink(beside, missing_ok=True)
