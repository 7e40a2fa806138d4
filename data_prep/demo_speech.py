"""A small set of spoken words, made where no corpus is at hand.

    python -m data_prep.demo_speech --root data/demo

The ten command words of Speech Commands and sixteen of its other words, spoken by espeak-ng in many voices,
with noise, in the folders, names and list files of the real corpus. The speech is synthetic: it shows that
everything works and what it looks like, and its accuracies say nothing about real speech.

espeak-ng is GPL-3.0. It is not part of this project: PyPI's espeakng-loader brings it, and it runs in a
process of its own.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from tqdm.auto import tqdm

from randommix_audio.data import fit
from randommix_audio.data.files import atomic, locked, write_json

from .command import PrepareError, run
from .protocols import COMMANDS
from .speaking import Espeak, Word, espeak
from .word_folders import NOISE_FOLDER, TESTING_LIST, VALIDATION_LIST

SAMPLE_RATE = 16000
VERSION = 1  # of the set; a change of anything below makes another set
OTHER_WORDS = (
    *("bed", "bird", "cat", "follow", "happy", "house", "learn", "marvin"),
    *("nine", "seven", "sheila", "six", "tree", "visual", "wow", "zero"),
)
ACCENT = "en-us"
# Variants of espeak-ng; the splits share none. Some it has are left out: their breath differs from run to
# run.
VARIANTS = {
    "train": (
        *("Alex", "caleb", "Andrea", "Andy", "Annie", "Denis", "Diogo", "Gene", "Henrique", "Jacky", "Lee", "Marco"),
        *("Mario", "Michael", "Mike", "Reed", "RicishayMax", "Storm", "adam", "anika", "announcer", "antonio"),
        *("aunty", "belinda", "boris", "david", "ed", "edward", "f1", "Nguyen", "miguel", "grandma", "gustave", "john"),
        *("linda", "m1", "m2", "m4", "m7", "norbert", "paul", "quincy"),
    ),
    "validation": ("Hugo", "Tweaky", "kaukovalta", "m3", "michel", "steph", "steph2", "steph3"),
    "test": ("benjamin", "f4", "ian", "iven3", "m5", "m8", "max", "pablo", "rob", "shelby", "travis", "zac"),
}
TAKES = {"train": 3, "validation": 2, "test": 3}  # of each command word by each speaker
OTHERS = 12  # other words of each speaker, once each
SNR = (15.0, 40.0)  # dB
RATE = (90, 130)  # words per minute
NOISES = ("white_noise", "pink_noise", "mains_hum", "babble")
NOISE_SECONDS = 20


@dataclass(frozen=True)
class Speaker:
    """A voice of the set."""

    name: str
    voice: str
    split: str


def speakers() -> list[Speaker]:
    """All voices."""
    everyone = []
    for split, variants in VARIANTS.items():
        for variant in variants:
            voice = f"{ACCENT}+{variant}"
            everyone.append(Speaker(hashlib.sha1(voice.encode()).hexdigest()[:8], voice, split))
    return everyone


def generator(seed: int, *names: str) -> np.random.Generator:
    """Random numbers that depend on a seed and on what they are for, not on what was drawn before."""
    digest = hashlib.sha256("/".join([str(seed), *names]).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))


def clips_of(speaker: Speaker, seed: int) -> dict[str, Word]:
    """What a speaker says, by the name of the file below the root."""
    draw = generator(seed, speaker.voice)
    texts = [(text, take) for text in COMMANDS for take in range(TAKES[speaker.split])]
    texts += [(str(text), 0) for text in sorted(draw.choice(OTHER_WORDS, OTHERS, replace=False))]
    return {
        f"{text}/{speaker.name}_nohash_{take}.wav": Word(
            text, int(draw.integers(*RATE)), int(draw.integers(15, 86)), int(draw.integers(20, 81))
        )
        for text, take in texts
    }


def noise(kind: str, samples: int, draw: np.random.Generator, voices: list[np.ndarray] | None = None) -> np.ndarray:
    """(samples,) float32 noise with root mean square 1; babble is made of the voices."""
    if kind == "babble" and voices:
        sound = np.zeros(samples)
        for _ in range(max(8, 6 * samples // SAMPLE_RATE)):
            voice = voices[int(draw.integers(len(voices)))][:samples]
            at = int(draw.integers(0, samples - len(voice) + 1))
            sound[at : at + len(voice)] += voice * draw.uniform(0.3, 1.0)
    elif kind == "mains_hum":
        time = np.arange(samples) / SAMPLE_RATE
        base = draw.uniform(48, 62)
        sound = 0.1 * draw.normal(size=samples)
        for k in range(1, 30):
            sound += np.sin(2 * np.pi * (base * k * time + draw.random())) / k
    else:
        sound = draw.normal(size=samples)
        if kind == "pink_noise":
            spectrum = np.fft.rfft(sound)
            sound = np.fft.irfft(spectrum / np.sqrt(np.arange(len(spectrum)) + 1.0), samples)
    return (sound / (np.sqrt(np.mean(np.square(sound))) + 1e-9)).astype(np.float32)


def trimmed(wave: np.ndarray, floor: float = 0.02) -> np.ndarray:
    """The part of a word between its first and last sample above a share of its peak."""
    loud = np.flatnonzero(np.abs(wave) > floor * np.abs(wave).max())
    return wave[loud[0] : loud[-1] + 1] if len(loud) else wave


def recorded(wave: np.ndarray, draw: np.random.Generator, voices: list[np.ndarray]) -> np.ndarray:
    """(16000,) int16: a word as if recorded somewhere: moved, coloured, in noise, at some level.

    Args:
        wave: the word at 16 kHz.
        draw: of all that is random here.
        voices: what babble is made of.
    """
    word = trimmed(wave)[:SAMPLE_RATE]
    at = int(draw.integers(0, SAMPLE_RATE - len(word) + 1))
    clip = fit(np.pad(word, (at, 0)), SAMPLE_RATE)
    spectrum = np.fft.rfft(clip)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(SAMPLE_RATE, 1 / SAMPLE_RATE), 60) / 1000)
    clip = np.fft.irfft(spectrum * 10 ** (draw.uniform(-4, 4) * octaves / 20), SAMPLE_RATE)
    power = np.sqrt(np.mean(np.square(clip[at : at + len(word)])) + 1e-12)
    kind = NOISES[int(draw.integers(len(NOISES)))]
    clip = clip / power + noise(kind, SAMPLE_RATE, draw, voices) * 10 ** (-draw.uniform(*SNR) / 20)
    level = 10 ** (draw.uniform(-18, -2) / 20)
    return np.rint(clip / np.abs(clip).max() * level * 32767).astype(np.int16)


def speak(engine: Espeak, speaker: Speaker, root: Path, seed: int) -> None:
    """Make the clips of a speaker, if they are not all there."""
    wanted = clips_of(speaker, seed)
    if all((root / name).is_file() for name in wanted):
        return
    waves, rate = engine.say(speaker.voice, list(wanted.values()))
    waves = [soxr.resample(wave, rate, SAMPLE_RATE) for wave in waves]
    for (name, _), wave in zip(wanted.items(), waves, strict=True):
        write_wave(root / name, recorded(wave, generator(seed, name), waves))


def write_wave(path: Path, clip: np.ndarray) -> None:
    """Store int16 samples as WAV, whole or not at all."""
    with atomic(path, durable=False) as stream:
        soundfile.write(stream, clip, SAMPLE_RATE, format="WAV", subtype="PCM_16")


def write_noise(engine: Espeak, root: Path, seed: int) -> None:
    """Store the background recordings; the babble is of training voices."""
    everyone = [speaker for speaker in speakers() if speaker.split == "train"][:6]
    voices = []
    for speaker in everyone:
        waves, rate = engine.say(speaker.voice, [Word(text, 160, 50, 50) for text in OTHER_WORDS[8:]])
        voices += [soxr.resample(wave, rate, SAMPLE_RATE) for wave in waves]
    for kind in NOISES:
        sound = noise(kind, NOISE_SECONDS * SAMPLE_RATE, generator(seed, "noise", kind), voices)
        write_wave(root / NOISE_FOLDER / f"{kind}.wav", np.rint(sound / np.abs(sound).max() * 20000).astype(np.int16))


def write_lists(root: Path, seed: int) -> None:
    """Store which clips are for validation and testing, in the corpus's own format."""
    for split, file in (("validation", VALIDATION_LIST), ("test", TESTING_LIST)):
        names = sorted(name for s in speakers() if s.split == split for name in clips_of(s, seed))
        with atomic(root / file, "w") as stream:
            stream.write("".join(f"{name}\n" for name in names))


def generate(root: str | Path, seed: int = 0, progress: bool = True, workers: int | None = None) -> Path:
    """Make the set in a folder; a stopped call goes on, a finished set is left as it is.

    Args:
        root: the folder, made if needed.
        seed: of everything that is random; equal seeds give equal files.
        progress: show a bar.
        workers: voices spoken at a time; None takes one per core.

    Raises:
        PrepareError: espeak-ng is missing or failed, or the folder holds something else.
    """
    root = Path(root)
    settings = {"made by": "data_prep.demo_speech", "version": VERSION, "seed": seed}
    mark = root / "demo.json"
    if not _begin(root, mark, settings):
        return root
    for folder in (*COMMANDS, *OTHER_WORDS, NOISE_FOLDER):
        (root / folder).mkdir(exist_ok=True)
    with locked(root), espeak() as engine, ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        everyone = speakers()
        done: Iterator[object] = pool.map(lambda speaker: speak(engine, speaker, root, seed), everyone)
        often = 0.1 if sys.stderr.isatty() else 15.0
        bar = tqdm(done, total=len(everyone), unit="voice", desc="speaking", disable=not progress, mininterval=often)
        for _ in bar:
            pass
        write_noise(engine, root, seed)
    write_lists(root, seed)
    write_json(mark, settings | {"complete": True})
    return root


def _begin(root: Path, mark: Path, settings: dict[str, object]) -> bool:
    """Is there anything to do? The mark says whose folder this is, and whether the set in it is complete."""
    if mark.is_file():
        try:
            found = json.loads(mark.read_text(encoding="utf-8"))
        except ValueError:
            found = {}
        complete = bool(found.pop("complete", False))
        if found != settings:
            raise PrepareError(f"{root}: holds a demo set of another seed or version; delete it or take another --root")
        return not complete
    if root.is_dir() and any(root.iterdir()):
        raise PrepareError(f"{root}: is not empty and holds no demo set; take another --root")
    root.mkdir(parents=True, exist_ok=True)
    write_json(mark, settings)
    return True


def main(root: str = "data/demo", seed: int = 0) -> None:
    """Make a small set of spoken words with espeak-ng (GPL-3.0), in the format of Speech Commands.

    Args:
        root: folder of the set; made, or gone on with.
        seed: of everything that is random.
    """
    folder = generate(root, seed)
    count = sum(1 for _ in folder.glob("*/*_nohash_*.wav"))
    print(f"demo set: {count} clips of {len(speakers())} voices in {folder}")


if __name__ == "__main__":
    run(main)
