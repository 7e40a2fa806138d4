"""What the RandomMix paper prints in its tables 1 to 6: rows, columns and numbers, and what stands for them on speech.

Liu et al., "RandomMix: A mixed sample data augmentation method with multiple mixed modes", arXiv:2205.08728.
Numbers are percentages as printed. The differences that the paper prints behind them follow from them, but for one:
behind FMix on CIFAR-100 with WideResNet-28-10 it prints 0.97, and the numbers differ by 0.91.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

LETTERS = {"M": "mixup", "C": "cutmix", "R": "resizemix", "F": "fmix"}
ALL = tuple(LETTERS.values())  # in the order of the paper
LINEAR = ("mixup",)  # "L" of the paper's mixed modes; the other three are mask modes, "M"
ROBUST = ("clean", "fgsm", "corruption", "occlusion")  # scores that a test of robustness gives

Numbers = tuple[float | None, ...]


@dataclass(frozen=True)
class Setting:
    """A corpus and a network of the paper.

    Args:
        recipe: the package inside recipes that trains on it.
        corpus: its name for --data.
        corpus_name: its name in print.
        model: name of the network, see recipes.shared.models.
        model_name: its name in print.
        width: channels of its first stage.
        conf: the paper's training: stem of a file in the recipe's conf.
        weights: of RandomMix's candidates, in the order of ALL.
        data: where data_prep puts the corpus.
        classes: of the whole corpus.
        rows: training rows of the whole corpus, at least.
        says: what the prepared corpus says of itself; empty where it is read as it is.
    """

    recipe: str
    corpus: str
    corpus_name: str
    model: str
    model_name: str
    width: int
    conf: str
    weights: tuple[float, ...]
    data: str
    classes: int
    rows: int
    says: str = ""


@dataclass(frozen=True)
class Column:
    """Scores of one kind in one setting.

    Args:
        setting: where they are measured.
        title: as printed.
        score: validation, test, top5 (accuracies), clean, fgsm, corruption, occlusion (errors) or cost.
    """

    setting: Setting
    title: str
    score: str

    @property
    def higher_is_better(self) -> bool:
        """Whether it is an accuracy."""
        return self.score in ("validation", "test", "top5")


@dataclass(frozen=True)
class Row:
    """A way to mix and what the paper reports of it.

    Args:
        key: its name for --rows.
        label: as printed in the first column.
        mixer: name of the mixer.
        paper: a number for each column; None where the paper has none.
        candidates: of randommix.
        weights: of the candidates; None takes those of the setting.
        second: as printed in the second column, where there is one.
        quoted: the paper has the numbers from the original authors and did not train it.
        in_paper: False for what we add.
    """

    key: str
    label: str
    mixer: str
    paper: Numbers
    candidates: tuple[str, ...] = ()
    weights: tuple[float, ...] | None = None
    second: str = ""
    quoted: bool = False
    in_paper: bool = True


@dataclass(frozen=True)
class Table:
    """One of the paper's tables, or its speech version.

    Args:
        number: 1 to 6.
        corpus: images or speech.
        title: the paper's caption.
        heads: of the columns before the numbers.
        columns: of numbers.
        rows: all of them.
        reference: key of the row that the others are compared with.
        paper_about: what the paper's numbers are of, where that is not what this table is of.
        note: what else must be known to compare with the paper.
    """

    number: int
    corpus: str
    title: str
    heads: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    reference: str = "none"
    paper_about: str = ""
    note: str = ""


def mode_of(candidates: tuple[str, ...]) -> str:
    """The paper's name of the mixed mode: L, M or L+M.

    >>> mode_of(("mixup", "fmix"))
    'L+M'
    """
    linear = any(method in LINEAR for method in candidates)
    mask = any(method not in LINEAR for method in candidates)
    return "L+M" if linear and mask else "L" if linear else "M"


_PA, _WRN = ("preact_resnet18", "PreAct-ResNet18", 64), ("wide_resnet28", "WideResNet-28-10", 160)
_EQUAL, _MORE_MIXUP = (1.0, 1.0, 1.0, 1.0), (3.0, 1.0, 1.0, 1.0)


def _cifar(classes: int, network: tuple[str, str, int], conf: str, weights: tuple[float, ...]) -> Setting:
    corpus = f"cifar{classes}"
    data = f"data/cifar/prepared/{corpus}"
    return Setting(
        "images", corpus, f"CIFAR-{classes}", *network, conf, weights, data, classes, 50_000, f"CIFAR-{classes}"
    )


CIFAR10 = _cifar(10, _PA, "cifar10", _EQUAL)
CIFAR10_WRN = _cifar(10, _WRN, "cifar10_wrn", _MORE_MIXUP)
CIFAR100 = _cifar(100, _PA, "cifar100", _EQUAL)
CIFAR100_WRN = _cifar(100, _WRN, "cifar100_wrn", _MORE_MIXUP)
TINY = Setting(
    "images", "tiny_imagenet", "Tiny-ImageNet", *_PA, "tiny_imagenet", _EQUAL,
    "data/tiny_imagenet/prepared/tiny_imagenet", 200, 100_000, "Tiny ImageNet",
)  # fmt: skip
IMAGENET = Setting(
    "images", "imagenet", "ImageNet", "resnet50", "ResNet-50", 64, "imagenet", _MORE_MIXUP, "data/imagenet", 1000,
    1_281_167,
)  # fmt: skip
SPEECH = Setting(
    "speech_commands", "speech_commands", "Google Speech Commands", *_PA, "paper", _EQUAL,
    "data/sc/prepared/kaggle12", 12, 50_000, "v0.01 kaggle12",
)  # fmt: skip


def _plain(mixer: str, label: str, *paper: float | None, second: str = "", quoted: bool = False) -> Row:
    own = ALL if mixer == "randommix" else ()
    key = f"{mixer} (quoted)" if quoted and mixer in (*ALL, "saliencymix", "puzzlemix") else mixer
    return Row(key, label, mixer, paper, own, None, second, quoted)


def _weighted(weights: tuple[float, ...], *paper: float | None) -> Row:
    said = [f"{weight:g}" for weight in weights]
    return Row("-".join(said), "RandomMix", "randommix", paper, ALL, weights, f"[{','.join(said)}]")


def _set_of(letters: str, top1: float | None) -> Row:
    methods = tuple(LETTERS[letter] for letter in letters)
    mixer = methods[0] if len(methods) == 1 else "randommix"  # of one candidate there is nothing to choose
    label = f"[{', '.join(letters)}]"
    return Row(
        letters, label, mixer, (top1,), methods, (1.0,) * len(methods), mode_of(methods), in_paper=top1 is not None
    )


_TITLES = {
    1: "Top-1 test accuracy rate (%) on CIFAR-10 and CIFAR-100 with PreAct-ResNet18 and WideResNet-28-10",
    2: "Top-1 and Top-5 test accuracy rate (%) on Tiny-ImageNet and ImageNet; Cost = training time / baseline's",
    3: "Top-1 validation and test accuracy rate (%) on Google Speech Commands",
    4: "Robustness by mixed mode: L is linear, M is mask",
    5: "Robustness by the weights of the candidates [Mixup, CutMix, ResizeMix, FMix]",
    6: "Diversity: sets of candidates with equal weights; M Mixup, C CutMix, R ResizeMix, F FMix",
}

_TABLE1 = Table(
    1, "images", _TITLES[1], ("Method",),
    (
        Column(CIFAR10, "CIFAR-10, PA-RS18 (%)", "test"),
        Column(CIFAR10_WRN, "CIFAR-10, WRS28-10 (%)", "test"),
        Column(CIFAR100, "CIFAR-100, PA-RS18 (%)", "test"),
        Column(CIFAR100_WRN, "CIFAR-100, WRS28-10 (%)", "test"),
    ),
    (
        _plain("mixup", "Mixup, original authors", 95.80, 97.30, 78.90, 82.50, quoted=True),
        _plain("cutout", "Cutout, original authors", None, 96.92, None, 81.59, quoted=True),
        _plain("fmix", "FMix, original authors", 96.14, 96.38, 79.85, 82.03, quoted=True),
        _plain("resizemix", "ResizeMix, original authors", None, 97.60, None, 84.31, quoted=True),
        _plain("saliencymix", "SaliencyMix, original authors", None, 97.24, None, 83.44, quoted=True),
        _plain("manifoldmix", "Manifold Mixup, original authors", 97.05, 97.45, 79.66, 81.96, quoted=True),
        _plain("patchup", "PatchUp, original authors", 97.08, 97.47, 80.88, 82.30, quoted=True),
        _plain("puzzlemix", "Puzzle Mix, original authors", None, None, None, 84.05, quoted=True),
        _plain("comixup", "Co-Mixup, original authors", None, None, 80.13, None, quoted=True),
        _plain("none", "Baseline", 95.18, 96.28, 77.55, 80.87),
        _plain("mixup", "Mixup", 96.15, 97.23, 79.49, 82.61),
        _plain("cutmix", "CutMix", 96.43, 97.06, 79.73, 82.34),
        _plain("fmix", "FMix", 96.46, 97.02, 79.45, 81.78),
        _plain("resizemix", "ResizeMix", 96.69, 97.48, 80.66, 83.00),
        _plain("saliencymix", "SaliencyMix", 96.28, 96.87, 80.01, 81.95),
        _plain("puzzlemix", "Puzzle Mix", 96.82, 97.51, 80.68, 83.71),
        _plain("randommix", "RandomMix", 97.22, 98.02, 82.14, 84.84),
    ),
    note="The paper's 84.84 % of RandomMix on CIFAR-100 with WideResNet-28-10 is 100 - 15.16 %, the clean error that "
    "its table 5 gives for weights [4,1,1,1]; section 3.1.1, which is followed here, names [3,1,1,1] (84.49 % there).",
)  # fmt: skip

_TABLE2 = Table(
    2, "images", _TITLES[2], ("Method",),
    (
        Column(TINY, "Tiny-ImageNet, Top-1 (%)", "test"),
        Column(TINY, "Tiny-ImageNet, Top-5 (%)", "top5"),
        Column(IMAGENET, "ImageNet, Top-1 (%)", "test"),
        Column(IMAGENET, "ImageNet, Top-5 (%)", "top5"),
        Column(IMAGENET, "Cost", "cost"),
    ),
    (
        _plain("none", "Baseline", 63.43, 83.05, 76.37, 93.04, 1.00),
        _plain("mixup", "Mixup", 64.77, 84.05, 77.42, 93.67, 1.00),
        _plain("cutmix", "CutMix", 67.72, 86.25, 77.32, 93.79, 0.99),
        _plain("fmix", "FMix", 66.18, 84.58, 77.27, 93.62, 1.07),
        _plain("resizemix", "ResizeMix", 67.71, 86.65, 77.83, 93.87, 0.99),
        _plain("saliencymix", "SaliencyMix", 65.90, 85.13, 77.40, 93.69, 1.01),
        _plain("puzzlemix", "Puzzle Mix", 66.65, 85.29, 77.69, 93.94, 2.10),
        _plain("randommix", "RandomMix", 68.94, 86.83, 77.88, 93.98, 1.01),
    ),
)  # fmt: skip

_TABLE3 = Table(
    3, "speech", _TITLES[3], ("Method",),
    (Column(SPEECH, "Val Top-1 (%)", "validation"), Column(SPEECH, "Test Top-1 (%)", "test")),
    (
        _plain("none", "Baseline", 97.98, 98.25),
        _plain("mixup", "Mixup", 98.26, 98.59),
        _plain("cutmix", "CutMix", 97.93, 98.36),
        _plain("fmix", "FMix", 98.13, 98.60),
        _plain("resizemix", "ResizeMix", 98.14, 98.53),
        _plain("randommix", "RandomMix", 98.33, 98.77),
    ),
)  # fmt: skip


def _robust(setting: Setting) -> tuple[Column, ...]:
    corruption = "Noise" if setting is SPEECH else "Corruption"
    names = ("Clean", "FGSM", corruption, "Occlusion")
    return tuple(Column(setting, f"{name} Error (%)", score) for name, score in zip(names, ROBUST, strict=True))


_TABLE4 = Table(
    4, "images", _TITLES[4], ("Method", "Mixed Mode"), _robust(CIFAR100_WRN),
    (
        _plain("none", "Baseline", 19.27, 84.63, 49.42, 42.50, second="-"),
        _plain("mixup", "Mixup", 17.49, 64.43, 41.67, 43.40, second="L"),
        _plain("cutmix", "CutMix", 17.46, 84.70, 52.91, 33.44, second="M"),
        _plain("fmix", "FMix", 18.64, 87.41, 51.61, 28.96, second="M"),
        _plain("resizemix", "ResizeMix", 17.12, 90.04, 50.37, 27.29, second="M"),
        replace(
            _plain("randommix", "RandomMix", 15.16, 63.78, 42.17, 27.72, second="L+M"),
            weights=(4.0, 1.0, 1.0, 1.0),  # the numbers are those of table 5, not of section 3.1.1
        ),
    ),
)  # fmt: skip

_TABLE5 = Table(
    5, "images", _TITLES[5], ("Method", "Weights"), _robust(CIFAR100_WRN),
    (
        _weighted((1.0, 1.0, 1.0, 1.0), 15.35, 75.81, 45.84, 26.73),
        _weighted((2.0, 1.0, 1.0, 1.0), 15.65, 66.64, 42.45, 29.55),
        _weighted((3.0, 1.0, 1.0, 1.0), 15.51, 70.23, 42.16, 28.12),
        _weighted((4.0, 1.0, 1.0, 1.0), 15.16, 63.78, 42.17, 27.72),
    ),
    reference="1-1-1-1",
)  # fmt: skip

_TABLE6 = Table(
    6, "images", _TITLES[6], ("Candidates", "Mixed Mode"), (Column(TINY, "Top1 (%)", "test"),),
    (
        _plain("none", "Baseline", 63.75, second="-"),
        _set_of("M", 65.73), _set_of("C", 67.17), _set_of("R", 67.24), _set_of("F", 65.77),
        _set_of("MC", 68.50), _set_of("MR", 68.89), _set_of("MF", 67.81), _set_of("CR", 67.73), _set_of("CF", 66.94),
        _set_of("RF", None),
        _set_of("MCR", 68.91), _set_of("MCF", 68.56), _set_of("MRF", 69.07), _set_of("CRF", 68.19),
        _set_of("MCRF", 68.92),
    ),
)  # fmt: skip

MEANS = {0: 63.75, 1: 66.47, 2: 67.97, 3: 68.68, 4: 68.92}
"""The "Mean" column of table 6, by the number of candidates."""


def _on_speech(table: Table, columns: tuple[Column, ...], about: str) -> Table:
    rows = tuple(
        replace(row, weights=None) if row.mixer == "randommix" and table.number == 4 else row for row in table.rows
    )
    title = f"{table.title}, on speech (the paper has it for images alone)"
    note = "The paper's RandomMix is that of weights [4,1,1,1], here of [1,1,1,1]." if table.number == 4 else ""
    return replace(table, corpus="speech", title=title, columns=columns, rows=rows, paper_about=about, note=note)


_TEST = (Column(SPEECH, "Test Top-1 (%)", "test"),)
_ROBUST_ABOUT = "images, CIFAR-100 with WideResNet-28-10"

TABLES: dict[tuple[int, str], Table] = {
    (table.number, table.corpus): table
    for table in (
        _TABLE1, _TABLE2, _TABLE3, _TABLE4, _TABLE5, _TABLE6,
        _on_speech(_TABLE4, _robust(SPEECH), _ROBUST_ABOUT),
        _on_speech(_TABLE5, _robust(SPEECH), _ROBUST_ABOUT),
        _on_speech(_TABLE6, _TEST, "images, Tiny-ImageNet with PreAct-ResNet18"),
    )
}  # fmt: skip
"""Every table by its number and "images" or "speech"."""
