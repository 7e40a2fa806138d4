"""Waveforms to log-mel features, on whatever device they are."""

from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor, nn

from randommix_audio.features import blocks, framing, levels
from randommix_audio.features.filterbank import mel_filter_bank
from randommix_audio.features.presets import PRESETS


class LogMel(nn.Module):
    """Log-mel spectrogram of a batch of waveforms, every row computed as if it stood alone.

    Padding of the edges, the cut-off below a clip's peak and normalisation look at one row and its valid
    frames only, so a row of a padded batch has the features of the clip by itself. Computes in float32
    whatever autocast or ``.half()`` say; never waits for the device; gradients flow to the waveform.

    On the CPU the batch is worked through in blocks that stay in the cache (``features/blocks.py``). Where
    autograd or ``torch.func`` must see every step, where the module is compiled or exported, and on every
    other device, the whole batch takes each step at once: the same values up to rounding, with the frames
    and the complex spectrum of the whole batch in memory.

    Args:
        sample_rate: Samples per second that the waveforms have.
        n_fft: Length of the Fourier transform in samples.
        win_length: Length of the window in samples; None is n_fft. A shorter one lies in mid-frame.
        hop_length: Samples from one frame to the next.
        n_mels: Number of mel bands F.
        f_min: Lower edge of the lowest band in Hz.
        f_max: Upper edge of the highest band in Hz; None is half the sample rate.
        mel_scale: "slaney", "htk", "torchaudio", "kaldi" or "speechbrain"; see mel_filter_bank.
        mel_norm: "slaney" (area one) or None (height one).
        window: "hann", "hamming" or "povey".
        periodic: Whether the window is the periodic one of torch.stft or the symmetric one.
        center: True puts the middle of frame t on sample t * hop_length, with the edges padded; False takes
            frames of win_length samples inside the clip and pads each to n_fft with zeros (snip_edges).
        pad_mode: What lies beyond the edges where center is True: "reflect" or "constant" (zeros).
        drop_last_frame: Leave out the last centred frame, so that n samples give n // hop_length frames.
        wave_scale: Factor on the waveform (in -1 .. 1), 32768 for Kaldi.
        remove_dc: Subtract the mean of every frame.
        preemphasis: Coefficient c of x[n] - c * x[n - 1]; 0 is none.
        preemphasis_in: "frame" (Kaldi) or "wave" (NeMo).
        log: "db", "log10" or "ln" of the mel power.
        floor: Least power told apart from silence.
        floor_mode: "clamp" or "add" the floor.
        ref: 1.0, another reference power, or "max" for the clip's own peak: levels are relative to it.
        dynamic_range: Levels further than this below the clip's peak are raised to there (top_db), in
            units of log; None leaves them.
        mean: Subtracted from the levels, then
        std: they are divided by this.
        normalize: None, or "per_feature" (mean 0, deviation 1 for every band of a clip).
        pad_value: What fills the frames beyond a row's length; None is what digital silence gives.

    Raises:
        ValueError: If an argument is out of range or unknown; the message names it.

    Example:
        >>> import torch
        >>> logmel = LogMel.preset("whisper")
        >>> features, frames = logmel(torch.randn(2, 16000), torch.tensor([16000, 8000]))
        >>> features.shape, frames.tolist()
        (torch.Size([2, 80, 100]), [100, 50])
    """

    window: Tensor
    bank: Tensor
    _sliced: tuple[Tensor, int, list[tuple[slice, slice]]] | None = None

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 400,
        win_length: int | None = None,
        hop_length: int = 160,
        n_mels: int = 80,
        f_min: float = 0.0,
        f_max: float | None = None,
        mel_scale: str = "slaney",
        mel_norm: str | None = "slaney",
        window: str = "hann",
        periodic: bool = True,
        center: bool = True,
        pad_mode: str = "reflect",
        drop_last_frame: bool = False,
        wave_scale: float = 1.0,
        remove_dc: bool = False,
        preemphasis: float = 0.0,
        preemphasis_in: str = "frame",
        log: str = "ln",
        floor: float = 1e-10,
        floor_mode: str = "clamp",
        ref: float | str = 1.0,
        dynamic_range: float | None = None,
        mean: float = 0.0,
        std: float = 1.0,
        normalize: str | None = None,
        pad_value: float | None = None,
    ) -> None:
        super().__init__()
        win_length = n_fft if win_length is None else win_length
        _require_positive(
            sample_rate=sample_rate, n_fft=n_fft, win_length=win_length, hop_length=hop_length, n_mels=n_mels,
            wave_scale=wave_scale, floor=floor, std=std,
        )  # fmt: skip
        _require_choice("pad_mode", pad_mode, framing.PAD_MODES)
        _require_choice("preemphasis_in", preemphasis_in, ("frame", "wave"))
        _require_choice("log", log, levels.LOGS)
        _require_choice("floor_mode", floor_mode, levels.FLOOR_MODES)
        _require_choice("normalize", normalize, (None, "per_feature"))
        if win_length > n_fft:
            raise ValueError(f"win_length {win_length} is longer than n_fft {n_fft}")
        nyquist = sample_rate / 2
        f_max = nyquist if f_max is None else f_max
        if not 0 <= f_min < f_max <= nyquist:
            raise ValueError(f"need 0 <= f_min < f_max <= {nyquist:g} (sample_rate / 2), got {f_min}, {f_max}")
        if ref != "max" and not (isinstance(ref, (int, float)) and ref > 0):
            raise ValueError(f"ref is a power above 0 or 'max', got {ref!r}")
        if drop_last_frame and not center:
            raise ValueError("drop_last_frame needs center=True, where the last frame reaches beyond the clip")
        self.sample_rate, self.n_fft, self.win_length, self.hop_length = (
            sample_rate,
            n_fft,
            win_length,
            hop_length,
        )
        self.n_mels, self.f_min, self.f_max = n_mels, f_min, sample_rate / 2 if f_max is None else f_max
        self.mel_scale, self.mel_norm, self.window_name, self.periodic = mel_scale, mel_norm, window, periodic
        self.center, self.pad_mode, self.drop_last_frame = center, pad_mode, drop_last_frame
        self.wave_scale, self.remove_dc = wave_scale, remove_dc
        self.preemphasis, self.preemphasis_in = preemphasis, preemphasis_in
        self.wave_preemphasis = preemphasis if preemphasis_in == "wave" else 0.0
        self.frame_preemphasis = preemphasis if preemphasis_in == "frame" else 0.0
        self.log, self.floor, self.floor_mode = log, floor, floor_mode
        self.ref, self.dynamic_range, self.mean, self.std = ref, dynamic_range, mean, std
        self.normalize = normalize
        self.pad_value: float = self._silence() if pad_value is None else float(pad_value)
        # not persistent: they follow from the arguments, and checkpoints should not depend on them
        frame_length = n_fft if center else win_length
        analysis = framing.analysis_window(window, win_length, frame_length, periodic)
        bank = mel_filter_bank(sample_rate, n_fft, n_mels, f_min, f_max, mel_scale, mel_norm)
        self.register_buffer("window", analysis, persistent=False)
        self.register_buffer("bank", bank, persistent=False)

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> "LogMel":
        """The front end of another library by name; any argument of LogMel may be overridden.

        Args:
            name: torchaudio, librosa, kaldi, whisper, nemo, espnet, speechbrain, ast or randommix.
            **overrides: Arguments of LogMel, such as ``n_mels=128``.

        Raises:
            ValueError: If there is no preset of that name; the message lists them.
        """
        if name not in PRESETS:
            raise ValueError(f"no front end is called {name!r}; choose from {', '.join(PRESETS)}")
        return cls(**(PRESETS[name] | overrides))

    @overload
    def forward(self, wave: Tensor, lengths: None = None) -> Tensor: ...
    @overload
    def forward(self, wave: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]: ...
    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Compute the features.

        Args:
            wave: (B, N) in -1 .. 1 as float16, bfloat16, float32 or float64; or int16, scaled by 1 / 32768.
            lengths: (B,) integer number of samples of each row, 0 .. N; what lies beyond is ignored.

        Returns:
            (B, F, T) float32 where T = self.frames(N); with lengths also (B,) long frames of each row, and
            frames beyond hold self.pad_value.

        Raises:
            TypeError: If wave or lengths have another dtype.
            ValueError: If a shape is wrong, N is too short for one frame, or lengths on the CPU exceed N.
        """
        self._check(wave, lengths)
        with torch.autocast(wave.device.type, enabled=False):
            if lengths is not None:
                lengths = lengths.to(wave.device, torch.long, non_blocking=True).clamp(0, wave.shape[1])
            frames, n_frames = None if lengths is None else self.frames(lengths), self.frames(wave.shape[1])
            if self._goes_in_blocks(wave):
                features = wave.new_empty((wave.shape[0], self.n_mels, n_frames), dtype=torch.float32)
                for rows, power in blocks.mel_power(self, wave, lengths, n_frames, self._band_slices()):
                    features[rows] = self._features(power, None if frames is None else frames[rows])
            else:
                power = self._mel_power(self._prepare(wave, lengths), lengths, n_frames)
                features = self._features(power, frames).contiguous()
            return features if frames is None else (features, frames)

    @overload
    def frames(self, n_samples: int) -> int: ...
    @overload
    def frames(self, n_samples: Tensor) -> Tensor: ...
    def frames(self, n_samples: int | Tensor) -> int | Tensor:
        """How many frames a clip of n_samples has: an int for an int, a tensor for a tensor."""
        if self.center:
            count = (n_samples - self.n_fft % 2) // self.hop_length + (0 if self.drop_last_frame else 1)
        else:
            count = (n_samples - self.win_length) // self.hop_length + 1
        if isinstance(count, Tensor):
            return count.clamp(min=0).masked_fill(torch.as_tensor(n_samples) <= 0, 0)
        return max(count, 0) if n_samples > 0 else 0

    def to_power(self, x: Tensor) -> Tensor:
        """The mel power (..., F, T) float32 that gives the features x, at least the floor.

        Raises:
            ValueError: If the features do not tell: levels relative to the clip's peak or mean.
        """
        self._require_absolute("to_power")
        with torch.autocast(x.device.type, enabled=False):
            level = x.float() * self.std + self.mean + self._reference_level()
            return levels.level_to_power(level, self.log, self.floor, self.floor_mode)

    def from_power(self, power: Tensor) -> Tensor:
        """The features (..., F, T) float32 of a mel power: log, floor and scaling.

        The cut-off below the clip's peak (dynamic_range) is not applied: which frames count is unknown here.

        Raises:
            ValueError: As to_power.
        """
        self._require_absolute("from_power")
        with torch.autocast(power.device.type, enabled=False):
            level = levels.power_to_level(power.float(), self.log, self.floor, self.floor_mode)
            return (level - self._reference_level() - self.mean) / self.std

    def decibels_per_unit(self) -> float:
        """How many decibels a difference of one in the features is.

        Raises:
            ValueError: If that depends on the clip (normalize="per_feature").
        """
        if self.normalize is not None:
            raise ValueError(f"decibels_per_unit depends on the clip with normalize={self.normalize!r}")
        return levels.decibels_per_unit(self.log) * self.std

    def extra_repr(self) -> str:
        """The arguments that say most about the features."""
        padding = f"center, {self.pad_mode}" if self.center else "frames inside the clip"
        norm = f"normalize={self.normalize}, " if self.normalize else ""
        return (
            f"sample_rate={self.sample_rate}, n_fft={self.n_fft}, win_length={self.win_length}, "
            f"hop_length={self.hop_length}, n_mels={self.n_mels}, {self.f_min:g} to {self.f_max:g} Hz, "
            f"mel_scale={self.mel_scale}, mel_norm={self.mel_norm}, window={self.window_name}, {padding}, "
            f"log={self.log}, {norm}pad_value={self.pad_value:.4g}"
        )

    def _check(self, wave: Tensor, lengths: Tensor | None) -> None:
        if wave.ndim != 2:
            shape = tuple(wave.shape)
            raise ValueError(
                f"wave must be (batch, samples), got {shape}; one clip is wave[None], a channel wave[:, 0]"
            )
        if not (wave.is_floating_point() or wave.dtype == torch.int16):
            raise TypeError(f"wave must be float or int16, got {wave.dtype}")
        if self.frames(wave.shape[1]) == 0:
            raise ValueError(f"wave has {wave.shape[1]} samples, too few for one frame: {self._shortest()} are needed")
        if lengths is None:
            return
        if lengths.shape != wave.shape[:1]:
            raise ValueError(f"lengths must be ({len(wave)},) for this wave, got {tuple(lengths.shape)}")
        if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
            raise TypeError(f"lengths are whole samples, got {lengths.dtype}")
        # elsewhere a look would wait for the device or break a compiled graph: forward clamps them
        if lengths.device.type == "cpu" and not torch.compiler.is_compiling() and len(lengths):
            least, most = (int(extreme) for extreme in lengths.aminmax())
            if least < 0 or most > wave.shape[1]:
                raise ValueError(f"lengths must be 0 to {wave.shape[1]} (samples of wave), got {least} to {most}")

    def _shortest(self) -> int:
        """The fewest samples that give a frame."""
        if not self.center:
            return self.win_length
        return (self.hop_length if self.drop_last_frame else 1) + self.n_fft % 2

    def _prepare(self, wave: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, N) float32 at the reference's scale, zero beyond lengths."""
        wave = wave.float() * blocks.INT16_SCALE if wave.dtype == torch.int16 else wave.float()
        wave = wave * self.wave_scale if self.wave_scale != 1.0 else wave
        wave = framing.emphasise_wave(wave, self.wave_preemphasis) if self.wave_preemphasis else wave
        if lengths is None:
            return wave
        beyond = torch.arange(wave.shape[1], device=wave.device) >= lengths[:, None]
        return wave.masked_fill(beyond, 0.0)

    def _mel_power(self, wave: Tensor, lengths: Tensor | None, n_frames: int) -> Tensor:
        """(B, N) to the mel power (B, F, T)."""
        if self.center:
            half = self.n_fft // 2
            wave = framing.pad_edges(wave, half, half, self.pad_mode, lengths)
        frames = wave.unfold(1, len(self.window), self.hop_length)[:, :n_frames]  # (B, T, frame_length)
        frames = framing.condition_frames(frames, self.remove_dc, self.frame_preemphasis)
        spectrum = torch.view_as_real(torch.fft.rfft(frames * self.window, n=self.n_fft))
        power = spectrum.square().sum(dim=-1)  # (B, T, n_fft // 2 + 1)
        return (power @ self.bank).transpose(1, 2)

    def _band_slices(self) -> list[tuple[slice, slice]]:
        """Where the bank has weight; looked up at need, since a bank on meta has no values, and again for another."""
        version = 0 if self.bank.is_inference() else self.bank._version
        if self._sliced is None or self._sliced[0] is not self.bank or self._sliced[1] != version:
            self._sliced = self.bank, version, blocks.band_slices(self.bank)
        return self._sliced[2]

    def _features(self, power: Tensor, frames: Tensor | None) -> Tensor:
        """Mel power (B, F, T) and the frames of each row (None: all) to features."""
        if frames is None:
            return self._levels(power, None)
        valid = (torch.arange(power.shape[2], device=power.device) < frames[:, None])[:, None]  # (B, 1, T)
        return self._levels(power, valid).masked_fill(~valid, self.pad_value)

    def _levels(self, power: Tensor, valid: Tensor | None) -> Tensor:
        """Mel power (B, F, T) to levels; reductions run over one clip's valid frames."""
        level = levels.power_to_level(power, self.log, self.floor, self.floor_mode)
        reference = levels.clip_peak(level, valid) if self.ref == "max" else self._reference_level()
        if isinstance(reference, Tensor) or reference:
            level = level - reference
        if self.dynamic_range is not None:
            level = torch.maximum(level, levels.clip_peak(level, valid) - self.dynamic_range)
        if (self.mean, self.std) != (0.0, 1.0):
            level = (level - self.mean) / self.std
        return levels.standardise_bands(level, valid) if self.normalize else level

    def _goes_in_blocks(self, wave: Tensor) -> bool:
        """Whether nobody needs to see the single steps, which blocks overwrite."""
        if torch.compiler.is_compiling() or wave.device.type != "cpu":
            return False
        return blocks.is_plain(wave) and not blocks.is_tracked(wave, self.window, self.bank)

    def _reference_level(self) -> float:
        """The level of the fixed reference power; 0 for the usual one of 1."""
        if isinstance(self.ref, str) or self.ref == 1.0:
            return 0.0
        reference = torch.tensor(max(self.ref, self.floor), dtype=torch.float64)
        return float(levels.power_to_level(reference, self.log, self.floor, "clamp"))

    def _silence(self) -> float:
        """What digital silence gives; where levels are relative to the clip, their lowest or their mean."""
        if self.normalize:
            return 0.0
        nothing = torch.zeros((), dtype=torch.float64)
        level = float(levels.power_to_level(nothing, self.log, self.floor, self.floor_mode)) - self._reference_level()
        if self.ref == "max" and self.dynamic_range is not None:
            level = -self.dynamic_range
        return (level - self.mean) / self.std

    def _require_absolute(self, what: str) -> None:
        if self.normalize or self.ref == "max":
            relative = "each clip's mean" if self.normalize else "each clip's peak"
            raise ValueError(f"{what}: these features are relative to {relative}: the power is not known")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "LogMel":
        """Move with the model, but stay float32 under ``.half()`` and ``.to(torch.bfloat16)``."""
        before = {"window": self.window, "bank": self.bank}
        super()._apply(fn, recurse)
        for name, kept in before.items():
            moved = getattr(self, name)
            if moved.dtype != kept.dtype:
                setattr(self, name, kept.to(moved.device))
        return self


def _require_positive(**arguments: float) -> None:
    for name, value in arguments.items():
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}")


def _require_choice(name: str, value: str | None, choices: tuple[str | None, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} {value!r} is unknown; choose from {', '.join(map(str, choices))}")
