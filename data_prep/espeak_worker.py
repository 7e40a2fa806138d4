"""Speak words with espeak-ng, in a process of its own.

espeak-ng is GPL-3.0: nothing of this project links with it. This program is started by `demo_speech`, reads
what to say from its standard input as JSON, and writes the sound to its standard output. It also keeps a
crash of the library, or an `exit` inside it, out of the caller.

In:  {"library": path, "data": path, "voice": name, "words": [{"text", "rate", "pitch", "range"}, ...]}
Out: one line of JSON {"sample_rate": Hz, "lengths": [samples, ...]}, then all samples as little-endian int16.
"""

import ctypes
import json
import sys
from pathlib import Path

_SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: give the samples to a callback at once, play nothing
_NO_EXIT = 0x8000
_BY_CHARACTER, _UTF8 = 1, 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def main() -> None:
    """Say what standard input asks for."""
    job = json.load(sys.stdin)
    library = ctypes.CDLL(job["library"])
    sample_rate = library.espeak_Initialize(_SYNCHRONOUS, 0, job["data"].encode(), _NO_EXIT)
    if sample_rate <= 0:
        raise SystemExit(f"espeak-ng cannot read its data in {job['data']}")
    # espeak-ng takes a variant it does not know for none, and all speakers would sound alike.
    variant = job["voice"].partition("+")[2]
    known = not variant or (Path(job["data"]) / "voices" / "!v" / variant).is_file()
    if library.espeak_SetVoiceByName(job["voice"].encode()) != 0 or not known:
        raise SystemExit(f"espeak-ng has no voice {job['voice']}")
    pieces: list[bytes] = []

    def collect(samples: "ctypes._Pointer[ctypes.c_short]", count: int, _events: int) -> int:
        if samples and count > 0:
            pieces.append(ctypes.string_at(samples, 2 * count))
        return 0

    callback = _Callback(collect)
    library.espeak_SetSynthCallback(callback)
    spoken = []
    for word in job["words"]:
        library.espeak_SetParameter(_RATE, word["rate"], 0)
        library.espeak_SetParameter(_PITCH, word["pitch"], 0)
        library.espeak_SetParameter(_RANGE, word["range"], 0)
        text = word["text"].encode()
        pieces.clear()
        library.espeak_Synth(text, len(text) + 1, 0, _BY_CHARACTER, 0, _UTF8, None, None)
        library.espeak_Synchronize()
        spoken.append(b"".join(pieces))
    head = {"sample_rate": sample_rate, "lengths": [len(sound) // 2 for sound in spoken]}
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n" + b"".join(spoken))


if __name__ == "__main__":
    main()
