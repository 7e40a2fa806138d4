"""Trains in children that kill themselves with SIGKILL at a given moment; test_resume.py runs it.

The undisturbed run is trained here, which loads whatever torch loads late; every other run is a fork. Arguments: task
folder, folder of runs, moments. A moment `disk:7` is just before the seventh time that bytes are forced to the disk or
a file gets its final name; `step:4` is just before the fourth optimizer step. For each moment there are two children:
one that is killed, and one that goes on to the end.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.recipes.conftest import run_here

EPOCHS = 3
OPTIONS = (
    f"--epochs={EPOCHS}",
    "--mixer_args={per: row}",
    "--augment.noise_p=0.5",
    "--augment.shift_p=0.5",
    "--augment.shift_ms=50",
    "--augment.time_masks=1",
    "--augment.time_mask=3",
    "--dropout=0.2",
    "--ema_decay=0.9",
    "--clip_norm=1.0",
    "--label_smoothing=0.1",
    "--warmup_epochs=1",
)


def dying(call: Callable[..., Any], left: list[int]) -> Callable[..., Any]:
    """The call, but at its last permitted time the process dies instead."""

    def counted(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)

    return counted


def child(task: Path, runs: Path, name: str, moment: str) -> int:
    """Train in a fork; the status that waitpid gives."""
    if (pid := os.fork()) == 0:
        code = 1
        try:
            kind, _, count = moment.partition(":")
            left = [int(count or 0)]
            if kind == "disk":
                os.fsync, os.replace = dying(os.fsync, left), dying(os.replace, left)
            if kind == "step":
                torch.optim.SGD.step = dying(torch.optim.SGD.step, left)
            run_here(task, runs, f"--name={name}", "--resume=auto", *OPTIONS)
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1]


def main() -> None:
    task, runs = Path(sys.argv[1]), Path(sys.argv[2])
    run_here(task, runs, "--name=undisturbed", "--resume=auto", *OPTIONS)
    for moment in sys.argv[3:]:
        name = moment.replace(":", "")
        status = child(task, runs, name, moment)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, f"{moment} never came"
        assert child(task, runs, name, "") == 0, f"the run killed at {moment} did not go on"


if __name__ == "__main__":
    main()
