"""What `import randommix_audio` costs on top of `import torch`: `python -m benchmarks.import_cost`."""

import statistics
import subprocess
import sys

CODE = """
import time
import torch
wall, cpu = time.perf_counter(), time.process_time()
import randommix_audio
print(time.perf_counter() - wall, time.process_time() - cpu)
"""


def main(repeats: int = 9) -> None:
    """Import in fresh processes; print median and range of wall-clock and processor time, in seconds."""
    runs = [subprocess.check_output([sys.executable, "-c", CODE], text=True).split() for _ in range(repeats)]
    for kind, column in (("wall clock", 0), ("processor", 1)):
        seconds = [float(run[column]) for run in runs]
        print(f"{kind}: median {statistics.median(seconds):.3f} s, {min(seconds):.3f} to {max(seconds):.3f} s")


if __name__ == "__main__":
    main()
