"""Front ends: waveforms to log-mel features."""

from randommix_audio.features.logmel import LogMel

__all__ = ["LogMel"]
