"""How often a recogniser errs on clips that were damaged in the ways that a practitioner meets."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from randommix_audio.evaluation import channels, noises
from randommix_audio.evaluation.attacks import evaluating, gradient_sign, stepped
from randommix_audio.evaluation.conditions import FILE_CODECS, GROUPS, Condition, speech_conditions
from randommix_audio.evaluation.occlusion import zero_blocks
from randommix_audio.evaluation.rows import row_keys
from randommix_audio.features import LogMel


@dataclass
class SpeechSet:
    """Clips of one length, and what is needed to damage them.

    Attributes:
        wave: (M, N) int16, or float in -1 .. 1.
        target: (M,) long, the class of each clip.
        speaker: (M,) long, who speaks in each, below 0 where nobody does; None where that is not known.
        background: Recordings of noise, each (n,) int16 or float.
        index: (M,) long, the number by which the random numbers of a clip are drawn; None counts them.
        voices: The set whose clips are heard as babble; None is this one.

    Raises:
        ValueError: If a column has another length or type.
    """

    wave: Tensor
    target: Tensor
    speaker: Tensor | None = None
    background: Sequence[Tensor] = field(default_factory=tuple)
    index: Tensor | None = None
    voices: "SpeechSet | None" = None

    def __post_init__(self) -> None:
        if self.wave.ndim != 2 or not self.wave.numel():
            raise ValueError(f"wave must be (clips, samples) and not empty, got {tuple(self.wave.shape)}")
        for sound in (self.wave, *self.background):
            if not sound.is_floating_point() and sound.dtype != torch.int16:
                raise ValueError(f"wave and background must be int16 or float in -1 .. 1, got {sound.dtype}")
        for name in ("target", "speaker", "index"):
            column = getattr(self, name)
            if column is not None and (column.shape != self.wave.shape[:1] or column.is_floating_point()):
                raise ValueError(
                    f"{name} must be {len(self.wave)} whole numbers, got {tuple(column.shape)} {column.dtype}"
                )

    def __len__(self) -> int:
        return len(self.wave)

    def part(self, rows: Tensor) -> "SpeechSet":
        """Some clips of the set, damaged as they are in the whole, whose clips go on to be heard as babble.

        Args:
            rows: (m,) long, their places.
        """
        speaker = None if self.speaker is None else self.speaker[rows]
        index = rows if self.index is None else self.index[rows]
        return SpeechSet(self.wave[rows], self.target[rows], speaker, self.background, index, self.voices or self)

    def missing(self) -> tuple[str, ...]:
        """Groups of conditions that this set has not what they need for: "background", "babble" or both."""
        speaker = None if self.speaker is None else (self.voices or self).speaker
        speakers = () if speaker is None else speaker[speaker >= 0].unique()
        lacking = [] if len(self.background) else ["background"]
        return (*lacking, *([] if len(speakers) > 1 else ["babble"]))

    def digest(self) -> str:
        """A hash of the clips, targets, speakers, noises and numbers: equal digests mean the same test."""
        found = hashlib.sha256()
        for column in (self.wave, self.target, self.speaker, self.index, *self.background):
            if column is None:
                found.update(b"none")
                continue
            found.update(f"{tuple(column.shape)} {column.dtype}".encode())
            found.update(column.detach().cpu().contiguous().numpy().tobytes())
        if self.voices is not None:
            found.update(self.voices.digest().encode())
        return found.hexdigest()

    def to(self, device: torch.device) -> "SpeechSet":
        """The same set on a device, with numbers and voices filled in."""
        index = torch.arange(len(self)) if self.index is None else self.index
        speaker = None if self.speaker is None else self.speaker.to(device)
        noise = [recording.to(device) for recording in self.background]
        moved = SpeechSet(self.wave.to(device), self.target.to(device), speaker, noise, index.to(device))
        moved.voices = moved.in_order() if self.voices is None else self.voices.to(device).in_order()
        return moved

    def in_order(self) -> "SpeechSet":
        """The clips in the order of their numbers: who is heard as babble hangs on these, not on the places."""
        if self.index is None or bool((self.index.diff() >= 0).all()):
            return self
        return self.part(self.index.argsort(stable=True))


@dataclass(frozen=True)
class _Batch:
    """Some clips of a set on the device: waveforms (B, N) float32 and what the damage is made from."""

    clips: SpeechSet
    rows: slice
    wave: Tensor
    target: Tensor
    seed: int
    front_end: LogMel
    network: nn.Module

    def keys(self, name: str) -> Tensor:
        assert self.clips.index is not None
        return row_keys(self.seed, name, self.clips.index[self.rows])

    def features(self) -> Tensor:
        """(B, 1, F, T) of the clips as they are."""
        return self.front_end(self.wave)[:, None]


Damage = Callable[[float], Tensor]  # severity -> waveforms (B, N) or features (B, 1, F, T)


def evaluate(
    front_end: LogMel,
    network: nn.Module,
    clips: SpeechSet,
    conditions: Sequence[Condition] | None = None,
    *,
    seed: int = 0,
    batch_size: int = 256,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Share of wrong answers under every condition, on the device of the front end.

    What is random depends on the seed, the group of conditions and the number of a clip; the severities of a group
    share it, so that only the severity differs between them.

    Args:
        front_end: Waveforms to features.
        network: (B, 1, F, T) features to logits (B, classes); in eval mode meanwhile.
        clips: The test set; its own clips are what is heard as babble, unless it is a part that has other voices.
        conditions: Of `speech_conditions`; None takes all of GROUPS.
        seed: Of everything random.
        batch_size: Clips at a time; results do not depend on it beyond rounding.
        progress: Called with the number of clips that one more condition was tested on.

    Returns:
        Plain values: "clips", "seed"; "conditions", for each by name its "group", "severity" and "error" in 0 .. 1;
        "groups", the mean over the severities of each; and "clean_error", "noise_error", "occlusion_error",
        "fgsm_error", the mean over all conditions of that kind (table of `GROUPS`), None where there are none;
        "mistakes", for each of these kinds that there is, under how many of its conditions each clip was misjudged.

    Raises:
        ValueError: If the set lacks what a condition needs, or the front end has no decibels for "fgsm_features".
    """
    chosen = speech_conditions() if conditions is None else tuple(dict.fromkeys(conditions))
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    _refuse_impossible(front_end, clips, chosen)
    wrong: dict[str, list[Tensor]] = {condition.name: [] for condition in chosen}
    with torch.no_grad(), evaluating(network):
        for batch in _batches(front_end, network, clips.to(front_end.window.device), seed, batch_size):
            for group, same in groupby(chosen, key=lambda condition: condition.group):
                damage = _DAMAGES[group](batch)
                for condition in same:
                    x = damage(condition.severity)
                    logits = network(front_end(x)[:, None] if condition.domain == "wave" else x)
                    wrong[condition.name].append(logits.argmax(1) != batch.target)
                    if progress is not None:
                        progress(len(batch.wave))
    marks = {name: torch.cat(parts).cpu() for name, parts in wrong.items()}
    return {
        "clips": len(clips),
        "seed": seed,
        **summary(chosen, {name: int(mark.sum()) / len(clips) for name, mark in marks.items()}),
        "mistakes": _mistakes(chosen, marks),
    }


def _mistakes(conditions: Sequence[Condition], marks: dict[str, Tensor]) -> dict[str, list[int]]:
    """Of every kind of condition, under how many of them each clip was taken for something else."""
    kinds: dict[str, list[Tensor]] = {}
    for condition in conditions:
        if kind := _kind(condition):
            kinds.setdefault(kind, []).append(marks[condition.name])
    return {kind: torch.stack(same).sum(0).tolist() for kind, same in kinds.items()}


def _kind(condition: Condition) -> str | None:
    return "clean" if condition.group == "clean" else (GROUPS | FILE_CODECS)[condition.group].mean


def summary(conditions: Sequence[Condition], errors: dict[str, float]) -> dict[str, Any]:
    """The parts of `evaluate`'s result that follow from the error of each condition by name."""
    groups: dict[str, list[float]] = {}
    kinds: dict[str, list[float]] = {"clean": [], "noise": [], "occlusion": [], "fgsm": []}
    for condition in conditions:
        if kind := _kind(condition):
            kinds[kind].append(errors[condition.name])
        if condition.group != "clean":
            groups.setdefault(condition.group, []).append(errors[condition.name])
    return {
        **{f"{kind}_error": _mean(values) for kind, values in kinds.items()},
        "groups": {group: _mean(values) for group, values in groups.items()},
        "conditions": {c.name: {"group": c.group, "severity": c.severity, "error": errors[c.name]} for c in conditions},
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _refuse_impossible(front_end: LogMel, clips: SpeechSet, conditions: Sequence[Condition]) -> None:
    groups = {condition.group for condition in conditions}
    if impossible := groups.intersection(clips.missing()):
        needs = {"background": "recordings of noise", "babble": "clips of at least two known speakers"}
        raise ValueError("; ".join(f"{group} needs {needs[group]}: leave it out" for group in sorted(impossible)))
    if "fgsm_features" in groups:
        front_end.decibels_per_unit()


def _batches(front_end: LogMel, network: nn.Module, clips: SpeechSet, seed: int, batch_size: int) -> Iterator[_Batch]:
    for first in range(0, len(clips), batch_size):
        rows = slice(first, first + batch_size)
        wave = noises.as_float(clips.wave[rows])
        yield _Batch(clips, rows, wave, clips.target[rows], seed, front_end, network)


def _clean(batch: _Batch) -> Damage:
    return lambda severity: batch.wave


def _noisy(name: str, make: Callable[[_Batch, Tensor], Tensor]) -> Callable[[_Batch], Damage]:
    def damage(batch: _Batch) -> Damage:
        noise = make(batch, batch.keys(name))
        return lambda snr: noises.add_noise(batch.wave, noise, snr, batch.front_end.sample_rate)

    return damage


def _babble(batch: _Batch, keys: Tensor) -> Tensor:
    clips, voices = batch.clips, batch.clips.voices
    assert clips.speaker is not None
    assert voices is not None
    assert voices.speaker is not None
    return noises.babble(keys, clips.speaker[batch.rows], voices.wave, voices.speaker, batch.front_end.sample_rate)


def _reverberation(batch: _Batch) -> Damage:
    keys, rate = batch.keys("reverberation"), batch.front_end.sample_rate
    return lambda rt60: channels.reverberated(batch.wave, channels.room_responses(keys, rt60, rate))


def _plain(change: Callable[[Tensor, float, int], Tensor]) -> Callable[[_Batch], Damage]:
    """A change of the waveform without anything random: change(wave, severity, sample_rate)."""
    return lambda batch: lambda severity: change(batch.wave, severity, batch.front_end.sample_rate)


def _telephone(wave: Tensor, bits: float, sample_rate: int) -> Tensor:
    return channels.mu_law(channels.band_limited(wave, 300, 3400, sample_rate), int(bits))


def _time_shift(batch: _Batch) -> Damage:
    keys = batch.keys("time_shift")
    return lambda seconds: channels.shifted(batch.wave, keys, seconds, batch.front_end.sample_rate)


def _occlusion(name: str, size: Callable[[float], tuple[float, float]]) -> Callable[[_Batch], Damage]:
    def damage(batch: _Batch) -> Damage:
        x, keys = batch.features(), batch.keys(name)
        return lambda part: zero_blocks(x, keys, size=size(part), fill=batch.front_end.pad_value)

    return damage


def _fgsm_features(batch: _Batch) -> Damage:
    x, unit = batch.features(), batch.front_end.decibels_per_unit()
    direction = gradient_sign(batch.network, x, batch.target)
    return lambda decibels: stepped(x, direction, decibels / unit, low=None, high=None)


def _fgsm_wave(batch: _Batch) -> Damage:
    whole = nn.Sequential(batch.front_end, nn.Unflatten(1, (1, -1)), batch.network)
    direction = gradient_sign(whole, batch.wave, batch.target)
    return lambda eps: stepped(batch.wave, direction, eps, low=-1.0, high=1.0)


_DAMAGES: dict[str, Callable[[_Batch], Damage]] = {
    "clean": _clean,
    "white": _noisy("white", lambda batch, keys: noises.white(keys, batch.wave.shape[1])),
    "pink": _noisy("pink", lambda batch, keys: noises.pink(keys, batch.wave.shape[1])),
    "background": _noisy(
        "background", lambda batch, keys: noises.background(keys, batch.clips.background, batch.wave.shape[1])
    ),
    "babble": _noisy("babble", _babble),
    "reverberation": _reverberation,
    "louder": _plain(lambda wave, decibels, rate: channels.gained(wave, decibels)),
    "quieter": _plain(lambda wave, decibels, rate: channels.gained(wave, decibels)),
    "clipping": _plain(channels.clipped),
    "time_shift": _time_shift,
    "low_pass": _plain(lambda wave, high, rate: channels.band_limited(wave, 0, high, rate)),
    "telephone": _plain(_telephone),
    "mu_law": _plain(lambda wave, bits, rate: channels.mu_law(wave, int(bits))),
    "time_occlusion": _occlusion("time_occlusion", lambda part: (1.0, part)),
    "freq_occlusion": _occlusion("freq_occlusion", lambda part: (part, 1.0)),
    "block_occlusion": _occlusion("block_occlusion", lambda part: (part, part)),
    "fgsm_features": _fgsm_features,
    "fgsm_wave": _fgsm_wave,
    "vorbis": _plain(lambda wave, strength, rate: channels.encoded(wave, rate, "vorbis", strength)),
    "mp3": _plain(lambda wave, strength, rate: channels.encoded(wave, rate, "mp3", strength)),
}
