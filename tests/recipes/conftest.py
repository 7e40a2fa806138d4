"""A tiny task made on the spot: tones of three pitches in noise, a few background recordings, silence."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from randommix_audio.data import Clip, Entries, NoiseBank, Task, WaveBank

RATE = 4000  # Hz: short waveforms keep the tests quick
LABELS = ["low", "high", "silence"]
ROOT = Path(__file__).parents[2]
FRONT_END = {"n_fft": 256, "hop_length": 256, "n_mels": 12}
SMALL = (
    *("--width=4", "--batch_size=8", "--device=cpu", "--threads=1", "--lr=0.05", "--pictures=false"),
    f"--front_end={FRONT_END}",
)


def make_task(folder: Path, clips_per_word: int = 14, noise: bool = True) -> Path:
    """Write a prepared task: `low` is 400 Hz, `high` 1200 Hz, each in noise of its own, silence is zeros."""
    random = np.random.default_rng(0)
    clips, splits = [], ["train"] * (clips_per_word - 6) + ["validation"] * 3 + ["test"] * 3
    (folder / "wav").mkdir(parents=True)
    for word, pitch in (("low", 400), ("high", 1200)):
        for i, split in enumerate(splits):
            path = folder / "wav" / f"{word}{i}.wav"
            tone = np.sin(2 * np.pi * pitch * random.uniform(0.9, 1.1) * np.arange(RATE) / RATE)
            soundfile.write(path, 0.3 * tone + 0.1 * random.standard_normal(RATE), RATE)
            clips.append(Clip(path, word, split, path.name))
    bank = WaveBank.build(folder / "bank", clips, sample_rate=RATE, progress=False)
    recordings = [(3000 * random.standard_normal(size)).astype(np.int16) for size in (3 * RATE, RATE + 17)]
    starts = np.cumsum([0] + [len(r) for r in recordings])
    background = NoiseBank(np.concatenate(recordings), starts, ["one", "two"], RATE) if noise else None
    entries = {}
    for split in ("train", "validation", "test"):
        rows = [i for i, s in enumerate(bank.splits) if s == split]
        spoken = Entries.of(bank, rows, [LABELS.index(bank.labels[i]) for i in rows], background)
        entries[split] = spoken.with_silence(2, None, None, 3)
    Task(LABELS, bank, entries, background, {"protocol": "tones"}).save(folder)
    return folder


@pytest.fixture(scope="session")
def task_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_task(tmp_path_factory.mktemp("tones") / "task")


def command(module: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", f"recipes.speech_commands.{module}", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1"}


def run(module: str, *arguments: object, timeout: int = 300) -> subprocess.CompletedProcess[str]:
    """Run one of the recipe's programs to its end in a process of its own."""
    return subprocess.run(
        command(module, *arguments),
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=ROOT,
        env=environment(),
    )


def run_twice(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a module in two processes of one training, as torchrun does."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    network = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [*launch, module, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=ROOT,
        env={**environment(), **network, "PYTHONPATH": path},
    )


@contextmanager
def stopped_after(steps: int) -> Iterator[None]:
    """Stop the training inside as Ctrl-C does, after so many steps of SGD."""
    step, left = torch.optim.SGD.step, [steps]

    def stopping(*arguments: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return step(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", stopping)
        with pytest.raises(KeyboardInterrupt):
            yield


def run_here(folder: Path, runs: Path, *arguments: str) -> dict:
    """Train in this process, which is quicker than starting one."""
    from recipes.shared import console
    from recipes.speech_commands.config import Config
    from recipes.speech_commands.train import train

    argv = [f"--data={folder}", f"--runs={runs}", *SMALL, *arguments]
    config, configuration = console.parse(Config, "train", argv)
    return train(config, config.run_name(configuration))


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint, weights_only=True)["model"]
