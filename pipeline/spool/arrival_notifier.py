"""Wake the worker when a folder appears among the arrivals; without notifications the worker polls."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from watchdog.events import DirCreatedEvent, DirMovedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer


class ArrivalNotifier(FileSystemEventHandler):
    """Watch one folder, without its subfolders, while the context lasts."""

    def __init__(self, folder: Path, wake: Callable[[], None]) -> None:
        self._folder = folder
        self._wake = wake
        self._observer = Observer()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Wake for a folder that was moved in; ignore events that our own reading causes."""
        if isinstance(event, DirCreatedEvent | DirMovedEvent):
            self._wake()

    def __enter__(self) -> Self:
        try:
            self._observer.schedule(self, str(self._folder), recursive=False)
            self._observer.start()
        except OSError:
            pass  # No inotify watches are left: the worker polls.
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._observer.is_alive():
            self._observer.stop()
            self._observer.join()
