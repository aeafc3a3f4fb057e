"""Work on many files: in this process if they are few, in the pool if they are many."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from pipeline.errors import Transient
from pipeline.processes.process_pool import PoolProcessDied, ProcessPool

Task = TypeVar("Task")
Answer = TypeVar("Answer")


def spread(
    function: Callable[[Task], Answer], tasks: Iterable[Task], pool: ProcessPool | None
) -> Iterator[Answer]:
    """Yield the answer to every task in order; without `pool`, this process does the work.

    Raises what `function` raises, and Transient if a process of the pool died: it was killed, or lacked memory.
    """
    if pool is None:
        yield from map(function, tasks)
        return
    for _, answer in pool.each(function, tasks):
        if isinstance(answer, PoolProcessDied):
            raise Transient(f"the objects could not be read: {answer}") from answer
        if isinstance(answer, Exception):
            raise answer
        yield answer
