"""A tiny corpus in which every character is a tone of its own, and short trainings on it."""

from pathlib import Path

import numpy as np
import soundfile

from data_prep.an4 import prepare

RATE = 16000
PITCH = {"A": 500.0, "B": 1200.0, "C": 2400.0}  # Hz
SECONDS = 0.2  # of a character; a space is as long, and silent
FRONT_END = {"n_mels": 16}
SMALL = (
    *("--width=12", "--blocks=1", "--kernel=5", "--dropout=0", "--batch_size=8", "--device=cpu", "--threads=1"),
    *("--warmup_epochs=0", "--average_last=1", "--pictures=false", "--lr=0.01", f"--front_end={FRONT_END}"),
)


def spoken(text: str, random: np.random.Generator) -> np.ndarray:
    """The samples of a text."""
    time = np.arange(round(SECONDS * RATE)) / RATE
    ramp = np.minimum(1, 20 * np.minimum(time, SECONDS - time) / SECONDS)
    parts = [np.zeros_like(time) if c == " " else ramp * np.sin(2 * np.pi * PITCH[c] * time) for c in text]
    wave = 0.3 * np.concatenate(parts)
    return wave + 0.01 * random.standard_normal(len(wave))


def texts(count: int, random: np.random.Generator) -> list[str]:
    """Texts of one to three words of one to three different neighbours."""
    found = []
    for _ in range(count):
        words = []
        for _ in range(random.integers(1, 4)):
            word = [str(random.choice(list(PITCH)))]
            while len(word) < random.integers(1, 4):
                word.append(str(random.choice([c for c in PITCH if c != word[-1]])))
            words.append("".join(word))
        found.append(" ".join(words))
    return found


def record(root: Path, train: int = 24, validation: int = 4, test: int = 6) -> Path:
    """Write a folder of recordings with transcripts.tsv; two utterances for each speaker."""
    random = np.random.default_rng(0)
    lines = ["split\tpath\tspeaker\ttext"]
    for split, count in (("train", train), ("validation", validation), ("test", test)):
        for i, text in enumerate(texts(count, random)):
            path = f"wav/{split}/{i:03d}.wav"
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(root / path, spoken(text, random), RATE)
            lines.append(f"{split}\t{path}\t{split}{i // 2}\t{text.lower()}")
    (root / "transcripts.tsv").write_text("\n".join(lines) + "\n")
    return root


def make_corpus(folder: Path, **counts: int) -> Path:
    """Record and prepare."""
    prepare(record(folder / "tones", **counts), folder / "prepared", progress=False)
    return folder / "prepared"


def run_here(data: Path, runs: Path, *arguments: str) -> dict:
    """Train in this process, which is quicker than starting one."""
    from recipes.an4.config import Config
    from recipes.an4.train import train
    from recipes.shared import console

    argv = [f"--data={data}", f"--runs={runs}", *SMALL, *arguments]
    config, configuration = console.parse(Config, "train", argv)
    return train(config, config.run_name(configuration))
