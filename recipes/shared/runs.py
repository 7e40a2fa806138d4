"""What every training program does around the trainer: take the folder of the run, say where and how it was trained."""

from __future__ import annotations

import platform
import statistics
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from data_prep.command import one_line
from recipes.shared import records
from recipes.shared.console import UserError
from recipes.shared.preact_resnet import count_parameters
from recipes.shared.trainer import Trainer


def begin(fabric: Fabric, folder: Path, config: dict[str, Any], resume: bool, lock: ExitStack) -> str:
    """Let the first process take and open the folder of a run, and tell the others what it found.

    Args:
        fabric: device and processes.
        folder: runs/<name>.
        config: plain options of the run.
        resume: whether a run that is there may go on.
        lock: holds the folder until it is closed.

    Returns:
        "new", "unfinished" or "finished", on every process.

    Raises:
        UserError: on every process, where the folder cannot be had.
    """
    found: tuple[str, str] = ("", "")
    if fabric.global_rank == 0:
        try:
            lock.enter_context(records.held(folder))
            found = (records.open_folder(folder, config, resume), "")
        except (UserError, OSError) as error:
            found = ("", one_line(error))
    state, mistake = fabric.broadcast(found)
    if mistake:
        raise UserError(mistake)
    return state


def circumstances(trainer: Trainer, metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """How long a training took, by what code, and where; for results.json.

    Args:
        trainer: at its end.
        metrics: the lines of metrics.jsonl.
    """
    device = trainer.fabric.device
    return {
        "commit": trainer.commit,
        "parameters": count_parameters(trainer.module),
        "seconds": round(trainer.seconds, 1),
        "clips_per_second": statistics.median(line["clips_per_second"] for line in metrics),
        "device": str(device) if device.type != "cuda" else torch.cuda.get_device_name(device),
        "processor": _processor(),
        "processes": trainer.fabric.world_size,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "checksums": trainer.checksums(),
    }


def _processor() -> str:
    """The processor's name, as the system knows it."""
    file = Path("/proc/cpuinfo")  # Linux; platform.processor() is empty there
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def say(fabric: Fabric, line: str) -> None:
    """Print a line, on the first process alone."""
    if fabric.global_rank == 0:
        print(line, flush=True)
