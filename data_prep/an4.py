"""AN4 (the CMU alphanumeric database): download, transcripts, splits, one bank of utterances.

    python -m data_prep.an4 --root data/an4
    python -m data_prep.an4 --root /my/folder/of/recordings --out data/mine

The corpus is Carnegie Mellon University's, recorded in 1991: 948 training and 130 test utterances of spelled words,
numbers and dates (http://www.speech.cs.cmu.edu/databases/an4/).

A root is read in either of two forms:

- `transcripts.tsv` with the columns split, path, speaker and text, tab-separated, and the recordings that it names,
  of any format (WAV, FLAC, SPHERE, ...) and sample rate;
- the unpacked official archive: `etc/an4_train.transcription`, `etc/an4_test.transcription`, and
  SPHERE files below `wav/`.

Where the transcripts name no validation utterances, some speakers of the training set are set apart, see
`validation_speakers`.
"""

import csv
import hashlib
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from randommix_audio.data import BankError, Clip, WaveBank, info
from randommix_audio.data.errors import OtherBankError, UnreadableError
from randommix_audio.data.files import locked
from randommix_audio.data.reading import AudioError
from randommix_audio.data.task import SPLITS

from .command import PrepareError, run
from .download import extract, fetch

SAMPLE_RATE = 16000
ARCHIVE = "an4_sphere"
MIRRORS = (
    "http://www.speech.cs.cmu.edu/databases/an4",
    "https://dldata-public.s3.us-east-2.amazonaws.com",
)
TRANSCRIPTS = "transcripts.tsv"
COLUMNS = ("split", "path", "speaker", "text")
OFFICIAL = {"train": "an4_train", "test": "an4_test"}
RECORDINGS = (".sph", ".wav", ".flac")
VALIDATION = 0.05  # of the training speakers
_LINE = re.compile(r"^\s*(?:<s>)?(?P<text>.*?)(?:</s>)?\s*\((?P<name>[^()\s]+)\)\s*$")


@dataclass(frozen=True)
class Utterance:
    """A recording and what is said in it.

    Attributes:
        split: "train", "validation" or "test".
        path: the recording, relative to the root.
        speaker: who speaks.
        text: what is said, in capitals, words separated by single spaces.
    """

    split: str
    path: str
    speaker: str
    text: str


def validation_speakers(speakers: Sequence[str], share: float = VALIDATION) -> set[str]:
    """Training speakers that are set apart for validation: a fixed choice, whatever the order of the utterances.

    Args:
        speakers: names, repeated or not.
        share: of the speakers, rounded; at least one if there are two or more.

    Returns:
        Those with the lowest SHA-1 of their names.
    """
    ranked = sorted(set(speakers), key=lambda name: hashlib.sha1(name.encode()).hexdigest())
    return set(ranked[: max(1, round(share * len(ranked)))]) if len(ranked) > 1 else set()


def normalised(text: str) -> str:
    """A transcript in capitals with single spaces."""
    return " ".join(text.upper().split())


def read_utterances(root: Path) -> list[Utterance]:
    """All utterances of a root, the validation set apart.

    Raises:
        PrepareError: the root holds no transcripts, or they are wrong; says where.
    """
    if (root / TRANSCRIPTS).is_file():
        found = _from_table(root)
    elif official := _official_root(root):
        found = _from_lists(root, official)
    else:
        lists = " and ".join(f"etc/{name}.transcription" for name in OFFICIAL.values())
        raise PrepareError(f"{root}: holds neither {TRANSCRIPTS} nor {lists}")
    twice = [path for path, count in Counter(u.path for u in found).items() if count > 1]
    if twice:
        raise PrepareError(f"{root}: {twice[0]} has more than one transcript")
    if not any(u.split == "train" for u in found):
        raise PrepareError(f"{root}: has no training utterances")
    if any(u.split == "validation" for u in found):
        return found
    apart = validation_speakers([u.speaker for u in found if u.split == "train"])
    return [replace(u, split="validation") if u.split == "train" and u.speaker in apart else u for u in found]


def _from_table(root: Path) -> list[Utterance]:
    path, found = root / TRANSCRIPTS, []
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            rows = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
            if missing := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
                raise PrepareError(f"{path}: its first line names no column {missing[0]} (needed: {' '.join(COLUMNS)})")
            for row in rows:
                found.append(_utterance(f"{path}, line {rows.line_num}", root, *(row[name] for name in COLUMNS)))
    except (UnicodeDecodeError, csv.Error) as error:
        raise PrepareError(f"{path}: not a table of text in UTF-8 ({error})") from None
    return found


def _utterance(
    where: str, root: Path, split: str | None, path: str | None, speaker: str | None, text: str | None
) -> Utterance:
    if split not in SPLITS:
        raise PrepareError(f"{where}: the split must be one of {', '.join(SPLITS)}, not {split!r}")
    if not path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise PrepareError(f"{where}: the path must lead to a file below {root}, not {path!r}")
    if not speaker or not normalised(text or ""):
        raise PrepareError(f"{where}: {path} has no {'speaker' if not speaker else 'text'}")
    return Utterance(split, path, speaker, normalised(text or ""))


def _official_root(root: Path) -> Path | None:
    """The folder with etc/ and wav/: the root, or one that an archive put below it."""
    for folder in (root, root / "an4", root / ARCHIVE, root / ARCHIVE / "an4"):
        if all((folder / "etc" / f"{name}.transcription").is_file() for name in OFFICIAL.values()):
            return folder
    return None


def _from_lists(root: Path, official: Path) -> list[Utterance]:
    recordings = (path for path in sorted((official / "wav").rglob("*")) if path.suffix.lower() in RECORDINGS)
    files = {path.stem: path for path in recordings}
    found = []
    for split, name in OFFICIAL.items():
        path = official / "etc" / f"{name}.transcription"
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise PrepareError(f"{path}: not text ({error.reason})") from None
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            if not (parts := _LINE.match(line)):
                raise PrepareError(f"{where}: must be `<s> TEXT </s> (name)`, not {line.strip()!r}")
            file = files.get(parts["name"])
            if file is None:
                raise PrepareError(f"{where}: there is no recording {parts['name']} below {official / 'wav'}")
            name_in_root = file.relative_to(root).as_posix()
            found.append(_utterance(where, root, split, name_in_root, file.parent.name, parts["text"]))
    return found


def find_corpus(root: Path, mirrors: Sequence[str], progress: bool) -> Path:
    """The folder that holds the corpus: the root, else the official archive, fetched and unpacked below it.

    Raises:
        DownloadError: it cannot be fetched or unpacked.
        BlockingIOError: another process is doing so.
    """
    if (root / TRANSCRIPTS).is_file() or _official_root(root):
        return root
    if root.is_dir() and any(not f.name.startswith((".", ARCHIVE)) for f in root.iterdir()):
        return root  # somebody's folder without transcripts: read_utterances says so
    root.mkdir(parents=True, exist_ok=True)
    with locked(root):
        urls = [f"{mirror.rstrip('/')}/{ARCHIVE}.tar.gz" for mirror in mirrors]
        extract(fetch(urls, root, None, progress), root / ARCHIVE, progress)
    return root


def prepare(
    root: str | Path,
    out: str | Path | None = None,
    skip_bad: bool = False,
    overwrite: bool = False,
    mirrors: Sequence[str] = MIRRORS,
    progress: bool = True,
) -> WaveBank:
    """Decode a corpus into a bank whose labels are the transcripts; a stopped call goes on.

    Args:
        root: folder of the corpus, or where to download it to.
        out: folder of the bank; None takes `root`/prepared.
        skip_bad: leave out files that cannot be read.
        overwrite: replace a bank of other utterances.
        mirrors: addresses of the folder that holds the official archive.
        progress: show bars.

    Returns:
        The bank; `metadata["speakers"]` has the speaker of each key, `lengths` the samples of each row.

    Raises:
        PrepareError: the corpus cannot be found or fetched, or its transcripts are wrong.
        BankError: recordings cannot be read, or `out` holds something else, which stays as it is.
        BlockingIOError: another process is preparing the same folder.
    """
    root = find_corpus(Path(root), mirrors, progress)
    utterances = read_utterances(root)
    out = root / "prepared" if out is None else Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PrepareError(f"{out}: cannot be made ({error.strerror}); pass --out with a folder to write to") from None
    clips = [Clip(root / u.path, u.text, u.split, u.path) for u in utterances]
    about = {"corpus": "transcribed", "speakers": {u.path: u.speaker for u in utterances}}
    try:
        return WaveBank.build(
            out, clips, SAMPLE_RATE, _longest(clips), about, skip_bad=skip_bad, rebuild=overwrite, progress=progress
        )
    except OtherBankError as error:
        raise BankError(f"{error} (--overwrite true, or another --out)") from None
    except UnreadableError as error:
        raise BankError(f"{error} (pass --skip_bad true to leave them out)") from None


def _longest(clips: Sequence[Clip]) -> float:
    """Seconds of the longest recording; one that cannot be read counts nothing here, the bank tells of it."""
    seconds = [0.0]
    for clip in clips:
        try:
            seconds.append(info(clip.path).duration)
        except AudioError:
            continue
    return max(seconds) or 1.0


def main(
    root: str,
    out: str | None = None,
    skip_bad: bool = False,
    overwrite: bool = False,
    mirror: str | None = None,
) -> None:
    """Prepare AN4, or any folder with recordings and transcripts.tsv, for training.

    Args:
        root: folder with transcripts.tsv or with the unpacked archive; an empty or new one to download to (64 MB).
        out: where the prepared utterances go; by default root/prepared.
        skip_bad: leave out files that cannot be read instead of stopping.
        overwrite: replace what was prepared from other utterances.
        mirror: address of a folder that holds an4_sphere.tar.gz, instead of CMU's.
    """
    bank = prepare(root, out, skip_bad, overwrite, (mirror,) if mirror else MIRRORS)
    if bank.skipped:
        first = "; ".join(f"{key}: {reason}" for key, reason in bank.skipped[:3])
        print(f"note: left out {len(bank.skipped)} files that cannot be read ({first})", file=sys.stderr)
    print(table(bank))
    print(f"prepared: {bank.folder}")


def table(bank: WaveBank) -> str:
    """Utterances, speakers, words and minutes of each split, as lines of text."""
    lines = [f"{'split':<12}{'utterances':>12}{'speakers':>12}{'words':>12}{'minutes':>12}"]
    speakers = bank.metadata["speakers"]
    for split in SPLITS:
        rows = [i for i, s in enumerate(bank.splits) if s == split]
        words = sum(len(bank.labels[i].split()) for i in rows)
        minutes = sum(int(bank.lengths[i]) for i in rows) / bank.sample_rate / 60
        who = len({speakers[bank.keys[i]] for i in rows})
        lines.append(f"{split:<12}{len(rows):>12}{who:>12}{words:>12}{minutes:>12.1f}")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
