"""Reading audio, batches from the decoded bank of clips and from files as they come, on their way to the device."""

from .bank import Clip, WaveBank, fit
from .errors import BankError
from .loader import BankLoader, Batch
from .prefetch import Prefetch
from .reading import AudioError, AudioInfo, info, read
from .recordings import Recording, read_manifest, read_shards
from .streaming import StreamLoader, WaveBatch, WaveDataset, collate_waves
from .task import Entries, NoiseBank, Task

__all__ = [
    "AudioError",
    "AudioInfo",
    "BankError",
    "BankLoader",
    "Batch",
    "Clip",
    "Entries",
    "NoiseBank",
    "Prefetch",
    "Recording",
    "StreamLoader",
    "Task",
    "WaveBank",
    "WaveBatch",
    "WaveDataset",
    "collate_waves",
    "fit",
    "info",
    "read",
    "read_manifest",
    "read_shards",
]
