"""WideResNet-28 (Zagoruyko, Komodakis: "Wide Residual Networks", BMVC 2016, table 1)."""

from __future__ import annotations

from recipes.shared.preact_resnet import PreActResNet

STEM = 16  # channels of the first convolution, whatever the width


def wide_resnet28(num_classes: int, channels: int = 1, width: int = 160, dropout: float = 0.0) -> PreActResNet:
    """A stem of 16 channels and three stages of four pre-activation blocks of two 3 x 3 convolutions each.

    The paper's dropout stands between the two convolutions of a block; here it is that of the pooled features, as in
    the other networks.

    Args:
        num_classes: number of outputs.
        channels: channels of the input.
        width: channels of the first stage, 16 k for a widening factor k; the others have 2 and 4 times as many. 160 is
            WideResNet-28-10, with 36.48 M parameters for 10 classes and 3 channels.
        dropout: probability of dropping a pooled feature.

    Raises:
        ValueError: for a width, number of classes or channels below 1.
    """
    return PreActResNet(num_classes, channels, width, (4, 4, 4), dropout, stem=STEM)
