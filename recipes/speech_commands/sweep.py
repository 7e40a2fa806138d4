"""Many runs: `python -m recipes.speech_commands.sweep --mixers none randommix --seeds 0 1 2 --jobs 2 --config ...`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from recipes.shared import console
from recipes.shared.console import UserError
from recipes.shared.trainer import RESULTS
from recipes.speech_commands.config import Config, make_mixer

PROGRAM = "python -m recipes.speech_commands.sweep"


def arguments(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Options of the sweep, and all others, which go to `train` as they are."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Train every mixer with every seed: what is finished is skipped, what was stopped goes on, what is "
        "missing is run. All other options go to recipes.speech_commands.train.",
        allow_abbrev=False,
    )
    parser.add_argument("--mixers", nargs="+", default=["none", "randommix"], help="mixers (default: none randommix)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="seeds (default: 0 1 2)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, sharing the cores (default: 1)")
    options, rest = parser.parse_known_args(argv)
    if options.jobs < 1:
        raise UserError(f"jobs must be at least 1, got {options.jobs}")
    return options, rest


class Sweep:
    """Starts runs, at most `jobs` at a time, seed by seed so that pairs are complete early.

    Args:
        options: of the command line.
        rest: what goes to `train`.
    """

    def __init__(self, options: argparse.Namespace, rest: list[str]) -> None:
        self.threads = max(1, (os.cpu_count() or 1) // options.jobs)
        self.jobs = options.jobs
        self.waiting: list[tuple[Path, list[str]]] = []
        self.folders: list[Path] = []
        for seed in options.seeds:
            for mixer in options.mixers:
                own = [*rest, f"--mixer={mixer}", f"--seed={seed}", "--resume=auto"]
                config, configuration = console.parse(Config, "python -m recipes.speech_commands.train", own)
                if config.name:
                    raise UserError("leave --name out: every run of a sweep has a name of its own")
                make_mixer(config)
                if config.threads is None:
                    own.append(f"--threads={self.threads}")
                folder = Path(config.runs) / config.run_name(configuration)
                self.folders.append(folder)
                if not (folder / RESULTS).is_file():
                    self.waiting.append((folder, own))
        self.running: dict[Path, subprocess.Popen[bytes]] = {}
        self.failed: list[Path] = []

    def run(self) -> None:
        """Run all, and say what became of each."""
        print(f"{len(self.folders)} runs, {len(self.folders) - len(self.waiting)} finished", flush=True)
        try:
            while self.waiting or self.running:
                while self.waiting and len(self.running) < self.jobs:
                    self._start(*self.waiting.pop(0))
                time.sleep(0.2)
                for folder in [f for f, process in self.running.items() if process.poll() is not None]:
                    self._end(folder, self.running.pop(folder).returncode)
        except BaseException:
            for process in self.running.values():
                process.send_signal(signal.SIGINT)
            for process in self.running.values():
                process.wait()
            raise

    def _start(self, folder: Path, own: list[str]) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        log = folder.parent / f"{folder.name}.log"
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
        with open(log, "ab") as out:
            self.running[folder] = subprocess.Popen(
                [sys.executable, "-m", "recipes.speech_commands.train", *own],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        print(f"started {folder} (log: {log})", flush=True)

    def _end(self, folder: Path, code: int) -> None:
        if code == 0 and (folder / RESULTS).is_file():
            results = json.loads((folder / RESULTS).read_text())
            accuracy = 100 * results["last"]["test"]["accuracy"]
            print(f"finished {folder}: test accuracy {accuracy:.2f} %, {results['seconds']:.0f} s", flush=True)
            return
        log = folder.parent / f"{folder.name}.log"
        said = log.read_text(errors="replace").strip().splitlines()
        self.failed.append(folder)
        print(f"failed {folder} (exit code {code}): {said[-1] if said else 'no output'}", flush=True)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    sweep = Sweep(*arguments(argv))
    sweep.run()
    if sweep.failed:
        raise UserError(f"{len(sweep.failed)} of {len(sweep.folders)} runs failed; the same command tries them again")
    print("table: python -m recipes.speech_commands.report " + " ".join(map(str, sweep.folders)))


if __name__ == "__main__":
    console.run(main, again="the same command goes on")
