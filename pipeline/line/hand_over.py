"""Hand over: bring an admitted folder from this node's own spool to the store that all nodes share.

With a store this takes the place of making a folder durable where it lies. The order of the steps survives a
crash: the copy is complete and on the store's disk before it gets its name, the name stands before the row, and
the row before this node's own folder goes. Each step may be repeated: there is always the own folder or the stored
one, and the arrival has one row.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from stat import S_ISREG

from pipeline.line.identify import ReadAhead
from pipeline.spool.durable import copy_durably, flush_path, remove_tree, rename, rename_durably
from pipeline.spool.hashed_files import state_of
from pipeline.spool.spool import Spool, is_there

# Files of a folder that are copied at the same time: a share needs milliseconds for each flush.
_COPIED_AT_ONCE = 4


def stored_name(name: str, node: str) -> str:
    """Return the name in the store of a folder that `node` has received: no two nodes have one name."""
    return f"{name}@{node}"


def node_of(name: str) -> str:
    """Return the node that brought an arrival to the store, "" if it lies where it was received."""
    return name.partition("@")[2]


def copy_to_store(name: str, stored: str, spool: Spool, ahead: ReadAhead | None = None) -> None:
    """Copy the received folder `name` to the arrivals of the store under the name `stored`, unless it is there.

    What was read `ahead` of a file counts for its copy, too. Raises OSError if the store or the spool cannot be
    used now: nothing under the name `stored` is incomplete.
    """
    rooms = spool.rooms_of_arrivals
    if not any(is_there(room / stored) for room in (*rooms, *rooms)):  # It may be moved meanwhile.
        copy = spool.arrivals / f".{stored}"
        _copy(spool.received / name, copy, ahead)
        rename_durably(copy, spool.arrivals / stored)
    flush_path(spool.arrivals)  # This node may have been killed between the rename and its flush.


def drop_received(name: str, spool: Spool) -> None:
    """Delete this node's own folder, whose copy is in the ledger. Raises OSError."""
    leaving = spool.received / f".{name}"
    rename(spool.received / name, leaving)  # A part of a folder must never be handed over as the whole.
    remove_tree(leaving)


def clear_left_over(spool: Spool, node: str) -> None:
    """Delete what a crash of this node left: folders that were handed over, and unfinished copies."""
    if not spool.has_store:
        return
    for left in (*spool.received.glob(".*"), *spool.arrivals.glob(f".*@{node}")):
        remove_tree(left)


def _copy(source: Path, copy: Path, ahead: ReadAhead | None) -> None:
    """Copy the files of a folder durably; receivers make no folders within it, and links are no instances."""
    remove_tree(copy, ignore_errors=True)
    with os.scandir(source) as entries:
        files = [Path(entry.path) for entry in entries if S_ISREG(entry.stat(follow_symlinks=False).st_mode)]
    try:
        copy.mkdir(mode=0o750)
        with ThreadPoolExecutor(_COPIED_AT_ONCE, thread_name_prefix="hand-over") as threads:
            for _copied in threads.map(lambda file: _copy_file(file, copy, ahead), files):
                pass
        flush_path(copy)
    except BaseException:
        remove_tree(copy, ignore_errors=True)
        raise


def _copy_file(source: Path, folder: Path, ahead: ReadAhead | None) -> None:
    known = ahead.look_up(state_of(source.stat())) if ahead else None
    copy = folder / source.name
    sha256 = copy_durably(source, copy)
    if ahead and known and known.received_sha256 == sha256:
        state = state_of(copy.stat())
        ahead.keep(state, replace(known, state=state))
