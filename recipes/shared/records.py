"""What a run leaves in its folder: configuration, metrics, results. All of it survives a kill at any moment."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml

from data_prep.command import one_line
from randommix_audio.data.files import locked
from randommix_audio.files import write_atomically
from recipes.shared.console import UserError

CONFIG, RESULTS = "config.yaml", "results.json"

# Options that may differ when a run goes on: they say where and how fast it runs, not what it computes. Of the data the
# place is free; that they are the same is told by their digest.
FREE = frozenset(
    {"resume", "runs", "name", "device", "workers", "resident", "threads", "pictures", "store_every", "data"}
)
# Options that came later, and what the runs before them were made with.
ADDED = {"model": "preact_resnet18"}
TIMES = ("seconds", "clips_per_second")


def save(state: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """torch.save, atomically. Tensors and plain Python values only, so that it loads with weights_only=True."""
    buffer = io.BytesIO()  # torch turns a full disk into a RuntimeError without a reason; a plain write does not
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def load(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint with weights_only=True.

    Raises:
        UserError: where the file is missing or no checkpoint.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such checkpoint")
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise UserError(f"{path}: not a readable checkpoint ({type(error).__name__})") from error
    if not isinstance(state, dict) or "model" not in state:
        raise UserError(f"{path}: not a checkpoint of these recipes")
    return state


def commit() -> str:
    """`git describe --always --dirty` of the code that runs, or "unknown" where it is no git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return said.stdout.strip() or "unknown"


@contextmanager
def held(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Hold a run folder for this process alone, so that no second one trains into it; make it where it is new.

    Raises:
        UserError: where something else lies there.
        BlockingIOError: another process holds it.
    """
    folder = Path(folder)
    _refuse_foreign(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        yield


def state_of(folder: str | os.PathLike[str], config: dict[str, Any]) -> str:
    """What a run folder is; nothing is written.

    Args:
        folder: runs/<name>.
        config: plain options of the run that is to be there.

    Returns:
        "new", "unfinished" or "finished".

    Raises:
        UserError: where the folder holds a run with other options, or something else.
    """
    folder = Path(folder)
    _refuse_foreign(folder)
    if not (folder / CONFIG).is_file():
        return "new"
    if other := differing(read_config(folder), plain(config)):
        name, old, new = other
        raise UserError(f"{folder}: was made with {name} {old}, not {new}; give another --name")
    return "finished" if (folder / RESULTS).is_file() else "unfinished"


def open_folder(folder: str | os.PathLike[str], config: dict[str, Any], resume: bool) -> str:
    """Decide what a run folder is, and make it where it is new.

    Args:
        folder: runs/<name>.
        config: plain options of this run, stored as config.yaml.
        resume: whether a run that is there may go on.

    Returns:
        "new", "unfinished" or "finished".

    Raises:
        UserError: where the folder holds another run, or any run and `resume` is False.
    """
    folder = Path(folder)
    if not resume and (folder / CONFIG).is_file():
        state = "finished" if (folder / RESULTS).is_file() else "unfinished"
        raise UserError(f"{folder}: holds a run already ({state}); give another --name, or --resume auto to go on")
    state = state_of(folder, config)
    if state == "new" or (state == "unfinished" and read_config(folder) != plain(config)):
        write_atomically(folder / CONFIG, yaml.safe_dump(plain(config), sort_keys=False))
    return state


def _refuse_foreign(folder: Path) -> None:
    if (folder / CONFIG).is_file() or not folder.exists():
        return
    # Left by a kill before the first file had its name, or made by `held`.
    if folder.is_dir() and all(f.name.startswith(".") or f.suffix == ".partial" for f in folder.iterdir()):
        return
    raise UserError(f"{folder}: exists and is not the folder of a run; give another --name")


def read_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The options that a run was made with.

    Raises:
        UserError: where they are damaged.
    """
    path = Path(folder) / CONFIG
    try:
        stored = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: damaged ({one_line(error)}); give another --name") from error
    if not isinstance(stored, dict):
        raise UserError(f"{path}: damaged (holds no options); give another --name")
    return stored


def plain(value: Any) -> Any:
    """The value as YAML and JSON can hold it: tuples as lists, paths as strings."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def differing(old: dict[str, Any], new: dict[str, Any]) -> tuple[str, Any, Any] | None:
    """The first option, with its two values, that changes what is computed; None where there is none.

    An option that the code of the old run did not know yet was off, or as ADDED says.
    """
    for name in sorted(set(old) | set(new)):
        was, now = old.get(name, ADDED.get(name)), new.get(name)
        if name not in FREE and was != now and (name in old or now):
            return name, was, now
    return None


class MetricsLog:
    """metrics.jsonl: one line for each epoch, appended; cut back when a run goes on from an earlier epoch.

    Args:
        path: the file.
        keep: bytes that the checkpoint knows of; what lies behind them is cut off.
        active: False on every process but the first, which then writes nothing.
    """

    def __init__(self, path: str | os.PathLike[str], keep: int = 0, active: bool = True) -> None:
        self.path = Path(path)
        self.active = active
        self.size = keep
        if active:
            with open(self.path, "ab") as file:
                if file.tell() < keep:
                    raise UserError(f"{self.path}: has lost lines that last.ckpt knows of; give another --name")
                file.truncate(keep)

    def append(self, line: dict[str, Any]) -> None:
        """Write one line and push it to the disk."""
        data = (json.dumps(line) + "\n").encode()
        self.size += len(data)
        if not self.active:
            return
        with open(self.path, "ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def place(given: str | None, default: Path) -> Path:
    """Where a program is to write a file; refused before the work is done, not after.

    Args:
        given: what the user asked for; None takes the default.
        default: beside a file that is read first.

    Raises:
        UserError: where the folder is missing, or the file is one.
    """
    out = default if given is None else Path(given)
    if given is not None and not out.parent.is_dir():
        raise UserError(f"{out.parent}: no such folder")
    if out.is_dir():
        raise UserError(f"{out}: is a folder; name a file")
    return out


def read_metrics(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """All lines of a metrics.jsonl.

    Raises:
        UserError: where it is damaged.
    """
    try:
        return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise UserError(f"{path}: damaged ({one_line(error)})") from error


def without_times(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines without what a clock measured: two equal runs agree in these to the last bit."""
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def write_json(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Write a JSON file atomically, each row of numbers in one line."""
    text = json.dumps(plain(content), indent=1)
    text = re.sub(r"\[[\s\d.,eE+-]+\]", lambda row: " ".join(row[0].split()), text)
    write_atomically(path, text + "\n")


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        UserError: where it is damaged or holds something else.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: damaged ({one_line(error)})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: damaged (holds no object)")
    return content
