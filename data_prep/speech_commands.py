"""Speech Commands: download, splits, and the tasks made of it.

    python -m data_prep.speech_commands --version 0.02 --root data/sc --protocol official12
    python -m data_prep.speech_commands --root /my/folder/of/words --protocol all --out data/mine

The corpus is Pete Warden's at Google, under CC BY 4.0 (https://arxiv.org/abs/1804.03209).
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from randommix_audio.data import AudioError, BankError, Entries, NoiseBank, Task, WaveBank, read
from randommix_audio.data.bank import row_length
from randommix_audio.data.errors import OtherBankError, UnreadableError
from randommix_audio.data.files import locked
from randommix_audio.data.task import SPLITS

from .command import PrepareError, run
from .download import extract, fetch
from .protocols import Protocol, Selection, select
from .word_folders import NOISE_FOLDER, WordFolders, has_words, scan

Version = Literal["0.01", "0.02"]
SAMPLE_RATE = 16000
MIRRORS = (
    "https://storage.googleapis.com/download.tensorflow.org/data",
    "http://download.tensorflow.org/data",
)


@dataclass(frozen=True)
class Archive:
    """A published archive; its hash is None where none was published."""

    name: str
    sha256: str | None


CORPUS = {
    "0.01": Archive("speech_commands_v0.01", "743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d"),
    "0.02": Archive("speech_commands_v0.02", "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"),
}
TEST_SET = {
    "0.01": Archive("speech_commands_test_set_v0.01", None),
    "0.02": Archive(
        "speech_commands_test_set_v0.02", "cc2a00c1147c2254e9be3fa0f779d8c17421dc349b86366567a8edfa9acd51df"
    ),
}


def download(archive: Archive, root: Path, mirrors: Sequence[str] = MIRRORS, progress: bool = True) -> Path:
    """The folder of an archive below root, fetched and unpacked if it is not there.

    Raises:
        DownloadError: it cannot be fetched or unpacked.
        BlockingIOError: another process is fetching or unpacking into root.
    """
    folder = root / archive.name
    if folder.is_dir():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    with locked(root):  # two that unpack at once would throw away each other's files
        if folder.is_dir():
            return folder
        urls = [f"{mirror.rstrip('/')}/{archive.name}.tar.gz" for mirror in mirrors]
        return extract(fetch(urls, root, archive.sha256, progress), folder, progress)


def find_corpus(
    root: Path, version: Version | None, with_test_set: bool, mirrors: Sequence[str] = MIRRORS, progress: bool = True
) -> tuple[Path, Path | None]:
    """The folder of words and, for protocols that use it, the folder of the official test set.

    A root that holds words itself is taken as it is. Otherwise the corpus of that version is looked for
    below it and downloaded if need be; without a version, whichever is there.
    """
    if has_words(root):
        kept = [root / TEST_SET[v].name for v in ((version,) if version else reversed(TEST_SET))]
        return root, next((folder for folder in kept if with_test_set and folder.is_dir()), None)
    if version is None:
        version = next((v for v in ("0.02", "0.01") if has_words(root / CORPUS[v].name)), None)  # type: ignore[assignment]
    if version is None:
        return root, None  # scan says what is wrong
    corpus = download(CORPUS[version], root, mirrors, progress)
    return corpus, download(TEST_SET[version], root, mirrors, progress) if with_test_set else None


def prepare(
    root: str | Path,
    out: str | Path | None = None,
    protocol: Protocol = "kaggle12",
    version: Version | None = None,
    seed: int = 0,
    seconds: float = 1.0,
    pad: Literal["end", "both"] = "end",
    skip_bad: bool = False,
    overwrite: bool = False,
    mirrors: Sequence[str] = MIRRORS,
    progress: bool = True,
) -> Task:
    """Make a task of a folder of words (or of a version to download) and store it; a stopped call goes on.

    Args:
        root: folder with one folder of audio files per word, or where to download to.
        out: where the task is stored; None takes `root`/prepared/`protocol`.
        protocol: which task, see `protocols`.
        version: "0.01" or "0.02" downloads that version unless it is there.
        seed: of what the protocol draws, 0 to 2^63 - 1.
        seconds: length of a clip; shorter ones get zeros, longer ones are cut.
        pad: zeros at the end, or at both ends.
        skip_bad: leave out files that cannot be read, background noise too.
        overwrite: replace a task that was prepared from other clips or settings, or in another format.
        mirrors: addresses of the folder that holds the archives.
        progress: show bars.

    Raises:
        PrepareError: the corpus cannot be found, fetched, or used for this protocol, or its background noise
            cannot be read.
        BankError: files cannot be read, or `out` holds something else, which stays as it is.
        BlockingIOError: another process is preparing the same folder.
    """
    root = Path(root)
    if not 0 <= seed < 2**63:
        raise PrepareError(f"seed must be 0 to 2^63 - 1, not {seed}")
    samples = row_length(seconds, SAMPLE_RATE)
    words, test_set = find_corpus(root, version, protocol == "official12", mirrors, progress)
    noise, corpus, bad_noise = _noise(scan(words), samples, skip_bad)
    selection = select(protocol, corpus, seed, test_set)
    out = root / "prepared" / protocol if out is None else Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "bank").mkdir(exist_ok=True)
    except OSError as error:
        raise PrepareError(f"{out}: cannot be made ({error.strerror}); pass --out with a folder to write to") from None
    settings = {
        "protocol": protocol,
        "version": version,
        "seed": seed,
        "seconds": seconds,
        "pad": pad,
        "silence": selection.silence,
        "noise": {path.name: path.stat().st_size for path in corpus.noise},
    }
    with locked(out):
        _refuse_another(out, settings, overwrite)
        bank = _bank(out, selection, seconds, pad, skip_bad, overwrite, progress)
        ready = _ready(out)
        if ready is not None and ready.metadata.get("settings") == settings:
            return ready
        task = _assemble(selection, bank, noise, seed)
        task.metadata = {
            "settings": settings,
            "notes": corpus.notes + selection.notes,
            "skipped": bank.skipped + bad_noise,
            "counts": task.counts(),
        }
        task.save(out)
        return Task.open(out)


def _ready(out: Path) -> Task | None:
    try:
        return Task.open(out)
    except BankError:
        return None


def _refuse_another(out: Path, settings: dict[str, Any], overwrite: bool) -> None:
    ready = _ready(out)
    was = settings if ready is None else ready.metadata.get("settings", {})
    if was == settings or overwrite:
        return
    told = [key for key in settings if was.get(key) != settings[key] and isinstance(was.get(key), (str, int, float))]
    what = ", ".join(f"{key} {was[key]}" for key in told) or "other clips"
    raise BankError(f"{out}: holds another task ({what}); pass --overwrite true or another --out")


def _bank(
    out: Path,
    selection: Selection,
    seconds: float,
    pad: Literal["end", "both"],
    skip_bad: bool,
    overwrite: bool,
    progress: bool,
) -> WaveBank:
    try:
        return WaveBank.build(
            out / "bank", selection.clips, SAMPLE_RATE, seconds, None, pad, skip_bad, overwrite, progress=progress
        )
    except OtherBankError as error:
        raise BankError(f"{out}: holds a task {error.what}; pass --overwrite true or another --out") from None
    except UnreadableError as error:
        raise BankError(f"{error} (pass --skip_bad true to leave them out)") from None


def _noise(
    corpus: WordFolders, samples: int, skip_bad: bool
) -> tuple[NoiseBank | None, WordFolders, list[tuple[str, str]]]:
    """The background noise, the corpus with the recordings that can be read, and those that cannot, with reasons.

    A recording that is shorter than a clip is repeated until it is as long as one.
    """
    waves, kept, bad = [], [], []
    for path in corpus.noise:
        try:
            waves.append(read(path, SAMPLE_RATE, dtype="int16")[0])
            kept.append(path)
        except AudioError as error:
            if not skip_bad:
                raise PrepareError(f"{error} (pass --skip_bad true to leave it out)") from None
            bad.append((f"{NOISE_FOLDER}/{path.name}", error.reason))
    short = [path.name for path, wave in zip(kept, waves, strict=True) if len(wave) < samples]
    notes = [f"background noise shorter than a clip, repeated: {', '.join(short)}"] if short else []
    corpus = replace(corpus, noise=kept, notes=corpus.notes + notes)
    if not kept:
        return None, corpus, bad
    waves = [np.resize(wave, max(len(wave), samples)) for wave in waves]
    starts = np.cumsum([0] + [len(wave) for wave in waves])
    return NoiseBank(np.concatenate(waves), starts, [path.stem for path in kept], SAMPLE_RATE), corpus, bad


def _assemble(selection: Selection, bank: WaveBank, noise: NoiseBank | None, seed: int) -> Task:
    place = {label: i for i, label in enumerate(selection.labels)}
    entries = {}
    for number, split in enumerate(SPLITS):
        rows = [i for i, part in enumerate(bank.splits) if part == split]
        part = Entries.of(bank, rows, [place[bank.labels[i]] for i in rows], noise)
        if selection.silence_label in place:
            silent = place[selection.silence_label]
            part.silence[:] = part.target == silent
            count = selection.silence.get(split, 0)
            offsets, gains = (
                _background(noise, count, bank.samples, seed, number) if selection.noisy_silence else (None, None)
            )
            part = part.with_silence(silent, offsets, gains, count)
        entries[split] = part
    return Task(selection.labels, bank, entries, noise)


def _background(
    noise: NoiseBank | None, count: int, samples: int, seed: int, number: int
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Where the silence of a split lies in the noise, and its gains from U(0, 1)."""
    if noise is None:
        return None, None
    state = int(np.random.SeedSequence([seed, number, 1]).generate_state(1)[0])
    generator = torch.Generator().manual_seed(state)
    return noise.draw(count, samples, generator), torch.rand(count, generator=generator)


def main(
    root: str,
    version: Version | None = None,
    protocol: Protocol = "kaggle12",
    out: str | None = None,
    seed: int = 0,
    seconds: float = 1.0,
    pad: Literal["end", "both"] = "end",
    skip_bad: bool = False,
    overwrite: bool = False,
    mirror: str | None = None,
) -> None:
    """Prepare Speech Commands, or any folder with one folder of recordings per word, for training.

    Args:
        root: folder of words, or the folder to download to.
        version: download this version if root holds no words: 0.01 (1.5 GB) or 0.02 (2.4 GB).
        protocol: kaggle12 (the paper's: all other words are unknown), official12 (TensorFlow's), or all
            words.
        out: where the prepared task goes; by default root/prepared/protocol.
        seed: of the draw of unknown words and silence, 0 or more.
        seconds: length of a clip.
        pad: where shorter clips get zeros: end, or both ends.
        skip_bad: leave out files that cannot be read instead of stopping.
        overwrite: replace a task that was prepared from other clips or settings, or in another format.
        mirror: address of a folder that holds the archives, instead of Google's.
    """
    task = prepare(
        root, out, protocol, version, seed, seconds, pad, skip_bad, overwrite, (mirror,) if mirror else MIRRORS
    )
    for note in task.metadata["notes"]:
        print(f"note: {note}", file=sys.stderr)
    if skipped := task.metadata["skipped"]:
        first = "; ".join(f"{key}: {reason}" for key, reason in skipped[:3])
        print(f"note: left out {len(skipped)} files that cannot be read ({first})", file=sys.stderr)
    print(task.table())
    print(f"prepared: {task.bank.folder.parent}")


if __name__ == "__main__":
    run(main)
