"""ResNet-50 (He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", CVPR 2016), that of torchvision."""

from __future__ import annotations

from torch import nn

from recipes.shared.optional import need


def resnet50(num_classes: int, channels: int = 3, width: int = 64, dropout: float = 0.0) -> nn.Module:
    """ResNet-50 for images of about 224 x 224; the stem divides height and width by 4.

    Args:
        num_classes: number of outputs.
        channels: channels of the input.
        width: channels of the 3 x 3 convolutions of the first stage; 64 is the paper's, with 25.56 M parameters for
            1000 classes. The outputs of the stages have 256 to 2048 channels at any width.
        dropout: probability of dropping a pooled feature.

    Raises:
        ValueError: for a width, number of classes or channels below 1.
        UserError: torchvision is not installed.
    """
    need("torchvision", "images")
    from torchvision.models import resnet50 as from_torchvision

    for name, value in (("num_classes", num_classes), ("channels", channels), ("width", width)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    model: nn.Module = from_torchvision(num_classes=num_classes, width_per_group=width)
    if channels != 3:
        model.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    if dropout:
        model.fc = nn.Sequential(nn.Dropout(dropout), nn.Linear(2048, num_classes))
    return model
