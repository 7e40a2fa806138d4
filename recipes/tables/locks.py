"""Two calls that end at the same time write the same files one after the other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from randommix_audio.data.files import locked

BETWEEN = 0.1  # seconds between tries


@contextmanager
def waiting_for(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone, when others have let go of it; make it where it is new."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as lock:
        while True:
            try:
                lock.enter_context(locked(folder))
                break
            except BlockingIOError:
                time.sleep(BETWEEN)
        yield
