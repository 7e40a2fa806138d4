"""Words spoken by espeak-ng, through a child process (see `espeak_worker`)."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .command import PrepareError

_SAFE_PATH = 100  # espeak-ng holds its data path in 160 bytes and ends the process when that is too short
_LIBRARIES = {"win32": "espeak-ng.dll", "darwin": "libespeak-ng.dylib"}


@dataclass(frozen=True)
class Word:
    """A word to say: rate in words per minute, pitch and its range from 0 to 99."""

    text: str
    rate: int
    pitch: int
    range: int


@dataclass(frozen=True)
class Espeak:
    """Where the library and its data lie."""

    library: Path
    data: Path

    def say(self, voice: str, words: Sequence[Word]) -> tuple[list[np.ndarray], int]:
        """Say words with one voice, in a new process, so that equal calls give equal samples.

        Returns:
            one (n,) float32 array per word, full scale at 1, and the sample rate.

        Raises:
            PrepareError: the process failed, crashed, or took more than two minutes.
        """
        job = {"library": str(self.library), "data": str(self.data), "voice": voice}
        command = [sys.executable, "-m", f"{__package__}.espeak_worker"]
        try:
            done = subprocess.run(
                command,
                input=json.dumps(job | {"words": [asdict(word) for word in words]}).encode(),
                capture_output=True,
                timeout=120,
                cwd=Path(__file__).parent.parent,
            )
        except subprocess.TimeoutExpired:
            raise PrepareError(f"espeak-ng did not come to an end with voice {voice}") from None
        head, _, sound = done.stdout.partition(b"\n")
        if done.returncode != 0 or not head:
            last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
            raise PrepareError(f"espeak-ng failed with voice {voice} (code {done.returncode}: {last})")
        told = json.loads(head)
        samples = np.frombuffer(sound, dtype="<i2").astype(np.float32) / 32768
        if len(samples) != sum(told["lengths"]) or 0 in told["lengths"]:
            raise PrepareError(f"espeak-ng said nothing with voice {voice}")
        return np.split(samples, np.cumsum(told["lengths"])[:-1]), told["sample_rate"]


@contextmanager
def espeak() -> Iterator[Espeak]:
    """The espeak-ng of the package espeakng_loader, its data under a path short enough for it.

    Raises:
        PrepareError: the package is not installed.
    """
    found = importlib.util.find_spec("espeakng_loader")  # found, not imported
    if found is None or found.origin is None:
        raise PrepareError("espeak-ng is not installed: pip install espeakng-loader (GPL-3.0)")
    package = Path(found.origin).parent
    library = package / _LIBRARIES.get(sys.platform, "libespeak-ng.so")
    data = package / "espeak-ng-data"
    if len(os.fsencode(data)) <= _SAFE_PATH:
        yield Espeak(library, data)
        return
    with tempfile.TemporaryDirectory(prefix="es") as folder:
        near = Path(folder) / "espeak-ng-data"
        try:
            near.symlink_to(data, target_is_directory=True)
        except (OSError, NotImplementedError):  # Windows without the right to make links
            shutil.copytree(data, near)
        yield Espeak(library, near)
