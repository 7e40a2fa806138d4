"""The tasks that people make of Speech Commands; their numbers cannot be compared with one another.

`kaggle12`: FMix's and RandomMix's. All words that are not commands are "unknown"; silence is zeros, a tenth
as many as there are clips. `official12`: TensorFlow's. Unknown and silence are drawn, each a tenth of the
command clips rounded up; silence is background noise at a gain from U(0, 1). `all`: every word a class.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from randommix_audio.data import Clip
from randommix_audio.data.task import SPLITS

from .command import PrepareError
from .word_folders import WordFolders, audio_files

Protocol = Literal["kaggle12", "official12", "all"]
COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


@dataclass
class Selection:
    """The clips of a task.

    Attributes:
        labels: class names in their order.
        clips: what goes into the bank.
        silence_label: name of the silence class, "" if there is none.
        silence: for each split, rows of silence that are made on the spot.
        noisy_silence: is that silence background noise, or zeros?
        notes: one line for each thing the user may wish to know.
    """

    labels: list[str]
    clips: list[Clip]
    silence_label: str = ""
    silence: dict[str, int] = field(default_factory=dict)
    noisy_silence: bool = False
    notes: list[str] = field(default_factory=list)


def select(protocol: Protocol, corpus: WordFolders, seed: int = 0, test_set: Path | None = None) -> Selection:
    """The clips, labels and silence that a protocol takes from a corpus.

    Args:
        protocol: see the top of this file.
        corpus: what there is.
        seed: of the draw of unknown words in `official12`.
        test_set: folder of the official test archive; `official12` takes it as its test split.

    Raises:
        PrepareError: fewer than two classes, or no training clips, remain.
    """
    makers: dict[str, Callable[[], Selection]] = {
        "kaggle12": lambda: _kaggle12(corpus),
        "official12": lambda: _official12(corpus, seed, test_set),
        "all": lambda: Selection(sorted(corpus.words), _clips(corpus, {w: w for w in corpus.words})),
    }
    if protocol not in makers:
        raise PrepareError(f"no protocol {protocol!r}: there are {', '.join(makers)}")
    selection = makers[protocol]()
    return _without_empty_labels(selection, corpus)


def _clips(corpus: WordFolders, label_of: dict[str, str]) -> list[Clip]:
    return [
        Clip(corpus.root / name, label_of[word], corpus.split[name], name)
        for word, names in corpus.words.items()
        for name in names
    ]


def _labels_of_words(corpus: WordFolders, unknown: str) -> tuple[dict[str, str], list[str]]:
    """For each word its label, and what to say about commands that are not there."""
    missing = [word for word in COMMANDS if word not in corpus.words]
    if len(missing) == len(COMMANDS):
        raise PrepareError(f"{corpus.root}: holds none of the ten command words; for any words pass --protocol all")
    notes = [f"commands that are not in {corpus.root}, left out: {', '.join(missing)}"] if missing else []
    return {word: word if word in COMMANDS else unknown for word in corpus.words}, notes


def _kaggle12(corpus: WordFolders) -> Selection:
    label_of, notes = _labels_of_words(corpus, "unknown")
    clips = _clips(corpus, label_of)
    silence = {split: int(0.1 * sum(clip.split == split for clip in clips)) for split in SPLITS}
    return Selection(["unknown", "silence", *COMMANDS], clips, "silence", silence, notes=notes)


def _official12(corpus: WordFolders, seed: int, test_set: Path | None) -> Selection:
    label_of, notes = _labels_of_words(corpus, "_unknown_")
    everything = _clips(corpus, label_of)
    chosen: list[Clip] = []
    silence = {}
    for number, split in enumerate(SPLITS):
        if split == "test" and test_set is not None:
            recorded = _official_test(test_set)
            notes.append(f"test: the {len(recorded)} clips of {test_set}")
            chosen, silence[split] = chosen + recorded, 0
            continue
        core = [clip for clip in everything if clip.split == split and clip.label != "_unknown_"]
        unknown = [clip for clip in everything if clip.split == split and clip.label == "_unknown_"]
        silence[split] = math.ceil(len(core) / 10)
        chosen += core + _draw(unknown, math.ceil(len(core) / 10), seed, number)
    if test_set is None:
        notes.append(f"no official test set beside {corpus.root}: test is the split of the corpus, its silence drawn")
    noisy = bool(corpus.noise)
    if not noisy:
        notes.append(f"no recordings in {corpus.root / '_background_noise_'}: silence is zeros")
    labels = ["_silence_", "_unknown_", *COMMANDS]
    return Selection(labels, chosen, "_silence_", silence, noisy, notes)


def _draw(clips: list[Clip], count: int, seed: int, number: int) -> list[Clip]:
    state = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(state))
    return [clips[i] for i in sorted(order[:count].tolist())]


def _official_test(folder: Path) -> list[Clip]:
    labels = ("_silence_", "_unknown_", *COMMANDS)
    clips = [
        Clip(path, label, "test", f"{folder.name}/{label}/{path.name}")
        for label in labels
        for path in audio_files(folder / label)
    ]
    if not clips:
        raise PrepareError(f"{folder}: holds none of the folders of the official test set ({', '.join(labels)})")
    return clips


def _without_empty_labels(selection: Selection, corpus: WordFolders) -> Selection:
    counted = {(clip.label, clip.split) for clip in selection.clips}
    for split, count in selection.silence.items():
        if count:
            counted.add((selection.silence_label, split))
    present = {label for label, _ in counted}
    dropped = [label for label in selection.labels if label not in present and label not in COMMANDS]
    if dropped:
        selection.notes.append(f"classes without clips, left out: {', '.join(dropped)}")
    selection.labels = [label for label in selection.labels if label in present]
    if len(selection.labels) < 2:
        raise PrepareError(f"{corpus.root}: gives only the class {selection.labels[0]!r}; at least two are needed")
    if not any(split == "train" for _, split in counted):
        raise PrepareError(f"{corpus.root}: the splits leave no training clips")
    for split in ("validation", "test"):
        if not any(part == split for _, part in counted):
            selection.notes.append(f"the {split} split is empty")
    return selection
