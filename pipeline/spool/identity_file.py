"""The file with the identity of a spool, a store or a folder, by which several nodes tell it from another."""

import uuid
from pathlib import Path

from pipeline.crash_points import door
from pipeline.spool.durable import flush_path, unlink, write_durably
from pipeline.spool.store_file import give_name


@door
def identity_of(file: Path) -> str:
    """Return the identity in `file`, made by whoever asks first; nodes that ask at once get the same.

    Raises OSError.
    """
    if not file.exists():
        own = file.with_name(f".{file.name.lstrip('.')}.{uuid.uuid4().hex}")
        write_durably(own, uuid.uuid4().hex.encode())
        give_name(own, file)
        unlink(own, missing_ok=True)
        flush_path(file.parent)
    return file.read_text(encoding="ascii").strip()
