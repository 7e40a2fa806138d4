"""Reading audio, the decoded bank of clips, and batches from it."""

from .bank import Clip, WaveBank, fit
from .errors import BankError
from .loader import BankLoader, Batch
from .reading import AudioError, AudioInfo, info, read
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
    "Task",
    "WaveBank",
    "fit",
    "info",
    "read",
]
