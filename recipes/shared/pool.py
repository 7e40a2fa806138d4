"""Several programs at the same time, each with its log, ended together with the one that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol

BETWEEN = 0.2  # seconds between looks at what is running


@dataclass(frozen=True)
class Step:
    """A program to be run.

    Args:
        name: of what it is done for, for those who read what is printed.
        words: its command line.
        log: where its output is appended.
    """

    name: str
    words: tuple[str, ...]
    log: Path

    def last_line(self) -> str:
        """The last line of the log, which is where a failure is told."""
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.is_file() else []
        return lines[-1] if lines else "no output"


class Queue(Protocol):
    """What is to be run, and in which order."""

    def next(self) -> Step | None:
        """What can be started now; None where nothing can."""

    def ended(self, step: Step, code: int, seconds: float) -> Step | None:
        """Take note that a step has ended, with its exit status; what follows in its place, if anything does."""

    def empty(self) -> bool:
        """Whether there is nothing left to start."""


def run(queue: Queue, jobs: int, threads: int) -> None:
    """Run all that a queue has, at most `jobs` at a time; an exception, SIGTERM too, ends what is running.

    Args:
        queue: what to run.
        jobs: programs at the same time.
        threads: for the mathematics of each.
    """
    running: Running = {}
    before = signal.signal(signal.SIGTERM, _interrupted)  # else the programs would go on by themselves
    try:
        while running or not queue.empty():
            while len(running) < jobs and (step := queue.next()):
                _begin(step, threads, running, queue)
            time.sleep(BETWEEN)
            for step in [step for step, (process, _) in running.items() if process.poll() is not None]:
                process, begun = running.pop(step)
                if then := queue.ended(step, process.returncode, time.monotonic() - begun):
                    _begin(then, threads, running, queue)
    except BaseException:
        for process, _ in running.values():
            process.terminate()
        for process, _ in running.values():
            process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


Running = dict[Step, tuple[subprocess.Popen[bytes], float]]
NOT_FOUND = 127  # what a shell gives for a program that cannot be started


def _begin(step: Step, threads: int, running: Running, queue: Queue) -> None:
    """Start a program; one that cannot be started has ended at once, and the others go on."""
    try:
        running[step] = _start(step, threads)
    except OSError as error:
        with open(step.log, "a", encoding="utf-8") as log:
            log.write(f"{step.words[0]}: {error.strerror}\n")
        queue.ended(step, NOT_FOUND, 0.0)


def _start(step: Step, threads: int) -> tuple[subprocess.Popen[bytes], float]:
    step.log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with open(step.log, "ab") as out:
        process = subprocess.Popen(step.words, stdout=out, stderr=subprocess.STDOUT, env=environment)
    return process, time.monotonic()


def _interrupted(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt
