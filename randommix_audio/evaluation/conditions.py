"""The fixed conditions under which a recogniser of speech is tested: what, how strongly, in which mean it counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

SNRS = (20.0, 15.0, 10.0, 5.0, 0.0, -5.0)
QUICK_SNRS = (20.0, 10.0, 0.0)

Domain = Literal["wave", "features"]
Mean = Literal["noise", "occlusion", "fgsm", ""]


@dataclass(frozen=True)
class Group:
    """Conditions of one kind that differ in severity.

    Attributes:
        name: Of the kind.
        severities: From mild to strong, in `unit`.
        quick: Those among them that a quick test takes.
        unit: What a severity is.
        domain: Whether the waveform is changed or the log-mel features.
        mean: The mean of the summary that the group counts in: "noise", "occlusion", "fgsm" or "".
    """

    name: str
    severities: tuple[float, ...]
    quick: tuple[float, ...]
    unit: str
    domain: Domain = "wave"
    mean: Mean = ""


@dataclass(frozen=True)
class Condition:
    """One way to damage every clip of a set.

    Attributes:
        name: Such as "white_-5"; "clean" for none.
        group: The kind, a name of GROUPS, or "clean".
        severity: In the unit of the group; 0 for "clean".
        domain: "wave" or "features".
    """

    name: str
    group: str
    severity: float
    domain: Domain


CLEAN = Condition("clean", "clean", 0.0, "wave")

GROUPS: dict[str, Group] = {
    group.name: group
    for group in (
        Group("white", SNRS, QUICK_SNRS, "SNR in dB", mean="noise"),
        Group("pink", SNRS, QUICK_SNRS, "SNR in dB", mean="noise"),
        Group("background", SNRS, QUICK_SNRS, "SNR in dB", mean="noise"),
        Group("babble", SNRS, QUICK_SNRS, "SNR in dB", mean="noise"),
        Group("reverberation", (0.2, 0.4, 0.7, 1.0), (0.4, 1.0), "RT60 in s"),
        Group("louder", (6.0, 12.0, 18.0), (12.0,), "gain in dB, clipped at full scale"),
        Group("quieter", (-10.0, -20.0, -30.0), (-20.0,), "gain in dB"),
        Group("clipping", (0.01, 0.05, 0.1, 0.2), (0.1,), "share of the active samples"),
        Group("time_shift", (0.05, 0.1, 0.2, 0.3), (0.1, 0.2), "s, earlier or later"),
        Group("low_pass", (4000.0, 3000.0, 2000.0, 1000.0), (2000.0,), "highest frequency in Hz"),
        Group("telephone", (8.0,), (8.0,), "bits, 300 to 3400 Hz and mu-law"),
        Group("mu_law", (8.0, 6.0, 4.0), (6.0,), "bits"),
        Group("time_occlusion", (0.1, 0.2, 0.3, 0.5), (0.2, 0.5), "share of the frames", "features", "occlusion"),
        Group("freq_occlusion", (0.1, 0.2, 0.3, 0.5), (0.2, 0.5), "share of the bands", "features", "occlusion"),
        Group("block_occlusion", (0.25, 0.5, 0.75), (0.5,), "share of each axis", "features", "occlusion"),
        Group("fgsm_features", (0.5, 1.0, 2.5), (1.0,), "eps in dB", "features", "fgsm"),
        Group("fgsm_wave", (0.0003, 0.001, 0.003), (0.001,), "eps, full scale is 1", "wave", "fgsm"),
    )
}

# What depends on the version of a library is asked for by name.
FILE_CODECS: dict[str, Group] = {
    group.name: group
    for group in (
        Group("vorbis", (0.5, 1.0), (1.0,), "compression level 0 .. 1"),
        Group("mp3", (0.5, 0.99), (0.99,), "compression level 0 .. 1"),
    )
}


def speech_conditions(
    groups: Sequence[str] | None = None, *, leave_out: Sequence[str] = (), quick: bool = False
) -> tuple[Condition, ...]:
    """The conditions of a test, "clean" first.

    Args:
        groups: Names of GROUPS or FILE_CODECS; None takes all of GROUPS. A mean over fewer groups is another number:
            compare only results with the same conditions.
        leave_out: Groups that are not taken, such as "babble" where nobody knows who speaks.
        quick: About half as many severities, SNRs of 20, 10 and 0 dB among them.

    Raises:
        ValueError: If a group is unknown; the message lists them.
    """
    known = GROUPS | FILE_CODECS
    chosen = list(GROUPS) if groups is None else list(groups)
    for name in (*chosen, *leave_out):
        if name not in known:
            raise ValueError(f"no group of conditions is called {name!r}; choose from {', '.join(known)}")
    taken = [known[name] for name in dict.fromkeys(chosen) if name not in leave_out]
    return (
        CLEAN,
        *(
            Condition(f"{group.name}_{severity:g}", group.name, severity, group.domain)
            for group in taken
            for severity in (group.quick if quick else group.severities)
        ),
    )
