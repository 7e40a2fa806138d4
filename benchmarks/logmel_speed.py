"""How fast LogMel is beside other libraries, logarithm included, in one run.

Settings: window 25 ms, hop 10 ms, 80 bands; n_fft the next power of two (16 kHz: 512, window 400, hop 160). Peers that
give torchaudio's features are compared with LogMel's like settings, those that give Kaldi's with the preset "kaldi".
A peer that is not installed is named as missing; none of them is needed.
"""

import argparse
import importlib
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import randommix_audio as rma
from benchmarks import timing
from benchmarks.timing import Ratio, Times, Work, ratio

FLOOR = 1e-10
ABOUT = (
    "Medians of interleaved rounds; ratios with their quartiles, above 1 where ours is faster. Limit: reading the wave "
    "and writing the features once, at the speed of a copy of that size. Difference: the largest from torchaudio.\n"
)
PACKAGES = ("torchaudio", "librosa", "lhotse", "nnAudio", "kaldi-native-fbank")
REFERENCE, STFT = "torchaudio", "torch.stft alone"


class Case(NamedTuple):
    """A batch, and the front end for it."""

    rows: int
    seconds: float
    rate: int = 16000
    slow_peers: bool = True
    """Whether libraries are timed that take a second for it."""

    def __str__(self) -> str:
        return f"({self.rows}, {self.seconds:g} s) at {self.rate / 1000:g} kHz"

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments that torchaudio, librosa and LogMel have in common."""
        window = self.rate // 40
        return {
            "n_fft": 2 ** math.ceil(math.log2(window)),
            "win_length": window,
            "hop_length": self.rate // 100,
            "n_mels": 80,
        }

    def front_end(self) -> rma.LogMel:
        """Ours, with torchaudio's filter bank."""
        return rma.LogMel(self.rate, mel_scale="torchaudio", mel_norm=None, floor=FLOOR, **self.settings)

    def wave(self) -> Tensor:
        """(rows, samples) int16: loud and quiet syllables of noise, with a tone that slides through all of them."""
        samples = round(self.seconds * self.rate)
        time = torch.arange(samples) / self.rate
        loudness = 10 ** (1.5 * torch.cos(2 * torch.pi * 2.0 * time) - 2)
        tone = 0.05 * torch.sin(2 * torch.pi * (200 + 0.2 * self.rate * time / self.seconds) * time)
        noise = torch.randn(self.rows, samples, generator=torch.Generator().manual_seed(0)).clamp(-3, 3) / 3
        return ((loudness * noise + tone) * 32000).clamp(-32768, 32767).to(torch.int16)


CASES = (
    Case(256, 1),
    Case(1, 1),
    Case(32, 10),
    *(Case(64, 1, rate, slow_peers=False) for rate in (22050, 44100, 48000)),
)


class Peer(NamedTuple):
    """Another library's features of a batch.

    Attributes:
        package: What must be installed.
        make: Gives the function from a case and the wave (rows, samples) float32 on a device.
        kaldi: Whether the features are Kaldi's: frames inside the clip, no mean, pre-emphasis.
        on_device: Whether it follows the wave to an accelerator.
    """

    package: str
    make: Callable[[Case, Tensor], Callable[[], Any]]
    kaldi: bool = False
    on_device: bool = True


def logarithm(power: Tensor) -> Tensor:
    """In place, as one would write it who cares for speed."""
    return power.clamp_(min=FLOOR).log_()


def torchaudio_features(case: Case, wave: Tensor) -> Callable[[], Tensor]:
    """``MelSpectrogram``."""
    transforms = importlib.import_module("torchaudio.transforms")
    mel = transforms.MelSpectrogram(case.rate, **case.settings).to(wave.device)
    return lambda: logarithm(mel(wave))


def torchaudio_kaldi_features(case: Case, wave: Tensor) -> Callable[[], Tensor]:
    """``compliance.kaldi.fbank``, which takes one clip."""
    kaldi = importlib.import_module("torchaudio.compliance.kaldi")
    fbank = partial(kaldi.fbank, num_mel_bins=80, sample_frequency=float(case.rate))
    return lambda: torch.stack([fbank(row) for row in wave[:, None]])


def librosa_features(case: Case, wave: Tensor) -> Callable[[], Tensor]:
    """``feature.melspectrogram`` of the batch."""
    feature, array = importlib.import_module("librosa.feature"), wave.numpy()
    mel = partial(feature.melspectrogram, y=array, sr=case.rate, htk=True, norm=None, pad_mode="reflect")
    return lambda: torch.from_numpy(np.log(np.maximum(mel(**case.settings), FLOOR)))


def nnaudio_features(case: Case, wave: Tensor) -> Callable[[], Tensor]:
    """``MelSpectrogram``."""
    features = importlib.import_module("nnAudio.features")
    mel = features.MelSpectrogram(case.rate, htk=True, norm=None, verbose=False, **case.settings).to(wave.device)
    return lambda: logarithm(mel(wave))


def lhotse_features(case: Case, wave: Tensor) -> Callable[[], Tensor]:
    """``Wav2LogFilterBank``, as ``Fbank`` runs it on a batch."""
    layers = importlib.import_module("lhotse.features.kaldi.layers")
    fbank = layers.Wav2LogFilterBank(case.rate, snip_edges=True, high_freq=0.0).eval().to(wave.device)
    return lambda: fbank(wave)


def native_features(case: Case, wave: Tensor) -> Callable[[], Tensor]:
    """``OnlineFbank``, which takes one clip."""
    knf, rows = importlib.import_module("kaldi_native_fbank"), list(wave.numpy())
    options = knf.FbankOptions()
    options.frame_opts.dither, options.mel_opts.num_bins = 0.0, 80
    options.frame_opts.samp_freq = float(case.rate)

    def clip(row: np.ndarray) -> np.ndarray:
        fbank = knf.OnlineFbank(options)
        fbank.accept_waveform(case.rate, row)
        fbank.input_finished()
        return np.stack([fbank.get_frame(i) for i in range(fbank.num_frames_ready)])

    return lambda: torch.from_numpy(np.stack([clip(row) for row in rows]))


PEERS = {
    REFERENCE: Peer("torchaudio", torchaudio_features),
    "librosa": Peer("librosa", librosa_features, on_device=False),
    "nnAudio": Peer("nnAudio", nnaudio_features),
    "lhotse": Peer("lhotse", lhotse_features, kaldi=True),
    "torchaudio kaldi": Peer("torchaudio", torchaudio_kaldi_features, kaldi=True),
    "kaldi-native-fbank": Peer("kaldi-native-fbank", native_features, kaldi=True, on_device=False),
}


def stft_alone(case: Case, wave: Tensor) -> Work:
    """What the Fourier transforms of a batch cost in one call, no bands and no logarithm."""
    settings = {name: value for name, value in case.settings.items() if name != "n_mels"}
    window = torch.hann_window(case.settings["win_length"], device=wave.device)
    return partial(torch.stft, wave, window=window, return_complex=True, **settings)


def installed(name: str, case: Case, wave: Tensor) -> Callable[[], Any] | None:
    """The peer's function, or None where its package is missing or does not load beside this PyTorch."""
    try:
        return PEERS[name].make(case, wave)
    except (ImportError, OSError, RuntimeError):
        return None


def compare(case: Case, arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Seconds of ours and of the peers, their ratios, the limit of the machine, and how far the features differ."""
    integers = case.wave().to(device)
    wave = integers.float() / 32768
    ours = case.front_end().to(device)
    works: dict[str, Work] = {"ours": partial(ours, wave), "ours, int16": partial(ours, integers)}
    if device.type != "cpu":
        works["ours, compiled"] = partial(torch.compile(ours), wave)
    quick = {name: work for name in (REFERENCE,) if (work := installed(name, case, wave))}
    times = timing.time_together(works | quick | {STFT: stft_alone(case, wave)}, device, arguments.rounds)
    ratios = {name: ratio(found, times["ours"]) for name, found in times.items() if name not in works}
    ratios |= {f"{name}, of the peer": ratio(times[name], times["ours, int16"]) for name in quick}
    errors = {name: difference(works["ours"], work) for name, work in quick.items()}
    features = works["ours"]()
    assert isinstance(features, Tensor)
    moved = {"ours": wave.nbytes + features.nbytes, "ours, int16": integers.nbytes + features.nbytes}
    limit = {name: count / timing.copy_bandwidth(device, count // 2) for name, count in moved.items()}
    if case.slow_peers and not arguments.quick:
        kaldi = rma.LogMel.preset("kaldi", wave_scale=1.0, sample_rate=case.rate).to(device)
        for name, peer in PEERS.items():
            if name == REFERENCE or not (peer.on_device or device.type == "cpu"):
                continue
            if (work := installed(name, case, wave)) is None:
                continue
            mine = partial(kaldi, wave) if peer.kaldi else works["ours"]
            pair = timing.time_together({"ours": mine, name: work}, device, max(3, arguments.rounds // 5))
            times[name], ratios[name] = pair[name], ratio(pair[name], pair["ours"])
            if not peer.kaldi:
                errors[name] = difference(mine, work)
    return {"times": times, "ratios": ratios, "limit": limit, "errors": errors}


def difference(mine: Work, theirs: Work) -> float:
    """The largest absolute difference of two results."""
    ours, others = mine(), theirs()
    assert isinstance(ours, Tensor)
    assert isinstance(others, Tensor)
    return float((ours - others).abs().max())


def comparison(found: Mapping[Case, Mapping[str, Any]]) -> str:
    """The tables: against torchaudio, then against the others."""
    rows = []
    for case, figures in found.items():
        times, ratios, limit = figures["times"], figures["ratios"], figures["limit"]
        rows.append([
            case,
            *(milliseconds(times.get(name)) for name in ("ours", "ours, int16", REFERENCE, STFT)),
            *(ratios.get(name, "missing") for name in (REFERENCE, f"{REFERENCE}, of the peer", STFT)),
            f"{times['ours'].median / limit['ours']:.1f}",
            *([f"{figures['errors'][REFERENCE]:.1e}"] if REFERENCE in figures["errors"] else ["-"]),
        ])  # fmt: skip
    heads = ["batch", "ours, ms", "int16, ms", "torchaudio, ms", "torch.stft alone, ms", "torchaudio / ours",
             "torchaudio / ours, int16", "torch.stft / ours", "ours / limit", "difference on ln"]  # fmt: skip
    table = timing.markdown_table(heads, rows)
    slow = [name for name in PEERS if name != REFERENCE]
    rows = [
        [case, *(f"{milliseconds(f['times'].get(name))}; {f['ratios'].get(name, 'missing')}" for name in slow)]
        for case, f in found.items()
        if any(name in f["ratios"] for name in slow)
    ]
    if not rows:
        return table
    return f"{table}\nThe others: ms, and how many times longer than ours.\n\n" + timing.markdown_table(
        ["batch", *slow], rows
    )


def milliseconds(times: Times | None) -> str:
    """The median with three digits."""
    return f"{times.median * 1000:.3g}" if times else "missing"


def plain(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The same as values that JSON knows."""
    return {
        "seconds": {name: times.seconds for name, times in figures["times"].items()},
        "ratios": {name: value._asdict() for name, value in figures["ratios"].items() if isinstance(value, Ratio)},
        "limit_seconds": figures["limit"],
        "differences": figures["errors"],
    }


def main() -> None:
    """Measure, print, and write tables and a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timing.common_arguments(parser)
    parser.add_argument("--quick", action="store_true", help="torchaudio alone")
    arguments = parser.parse_args()
    threads = [arguments.threads] if arguments.threads else sorted({1, torch.get_num_threads()}, reverse=True)
    facts: dict[str, Any] = timing.environment(PACKAGES) | {"runs": {}}
    sections = ["# LogMel beside other libraries\n", timing.described(facts), ABOUT]
    for device in timing.devices(arguments.device):
        for count in threads if device.type == "cpu" else threads[:1]:
            torch.set_num_threads(count)
            where = f"{device}, {count} thread{'s' if count > 1 else ''}" if device.type == "cpu" else str(device)
            with torch.inference_mode():
                found = {case: compare(case, arguments, device) for case in CASES}
            sections += [f"## {where}\n", comparison(found)]
            facts["runs"][where] = {str(case): plain(figures) for case, figures in found.items()}
    timing.write(arguments.out, "logmel_speed", "\n".join(sections), facts)


if __name__ == "__main__":
    main()
