"""The mean own share that each method realises, over many draws: `python -m benchmarks.share_statistics`."""

import argparse

import torch

import randommix_audio as rma

METHODS: tuple[tuple[str, dict[str, str]], ...] = (
    ("mixup", {}),
    ("cutmix", {}),
    ("cutmix", {"variant": "official"}),
    ("time_cutmix", {}),
    ("freq_cutmix", {}),
    ("resizemix", {}),
    ("resizemix", {"variant": "official"}),
    ("fmix", {}),
    ("fmix", {"variant": "official"}),
)


def own_shares(name: str, arguments: dict[str, str], freq: int, time: int, draws: int, seed: int) -> torch.Tensor:
    """Shares of `draws` rows mixed one by one, (draws,)."""
    mixer = rma.build(name, per="row", **arguments)
    generator = torch.Generator().manual_seed(seed)
    batch = torch.zeros(min(draws, 1000), freq, time)
    return torch.cat([mixer.plan(batch, generator=generator).lam for _ in range(draws // len(batch))])


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--draws", type=int, default=20_000, help="rows drawn for each method")
    parser.add_argument("--seed", type=int, default=0, help="seed of the generator")
    arguments = parser.parse_args()
    sizes = ((32, 32), (40, 98))
    print("| method | " + " | ".join(f"{freq} x {time}" for freq, time in sizes) + " |")
    print("|---" * (len(sizes) + 1) + "|")
    for name, options in METHODS:
        row = [own_shares(name, options, *size, arguments.draws, arguments.seed) for size in sizes]
        cells = " | ".join(f"{shares.mean():.3f} ± {shares.std():.3f}" for shares in row)
        print(f"| {name}{' official' if options else ''} | {cells} |")


if __name__ == "__main__":
    main()
