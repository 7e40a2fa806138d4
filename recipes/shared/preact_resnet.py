"""PreAct-ResNet18 (He, Zhang, Ren, Sun: "Identity Mappings in Deep Residual Networks", ECCV 2016).

The layout for small images: a 3 x 3 stem without pooling, four stages of two blocks, stride 2 from the second
stage on, average pooling over what remains. Any height and width work.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


def _conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)


class PreActBlock(nn.Module):
    """Two 3 x 3 convolutions, each after its own batch norm and ReLU, added to a shortcut (figure 4e of the paper).

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        stride: step of the first convolution and of the shortcut.
        shared: the shortcut, too, starts after the first activation. The paper does so for the first block of the
            network; where the shape changes it is done always.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, shared: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = _conv3x3(inputs, outputs, stride)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = _conv3x3(outputs, outputs)
        self.shortcut: nn.Conv2d | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, kernel_size=1, bias=False)
        self.stride = stride
        self.shared = shared or self.shortcut is not None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride), rounded up."""
        active = F.relu(self.norm1(x))
        start = active if self.shared else x
        # The pixels are taken out before the 1 x 1 convolution: on CPUs with AVX2 the backward pass of a strided one of
        # fewer than 8 channels, laid out channels last, writes past its memory (oneDNN, issue 6035).
        shortcut = start if self.shortcut is None else self.shortcut(start[..., :: self.stride, :: self.stride])
        out = self.conv1(active)
        out = self.conv2(F.relu(self.norm2(out)))
        return out + shortcut


class PreActResNet(nn.Module):
    """A stem, stages of pre-activation blocks, batch norm, ReLU, average pool, a linear layer.

    Args:
        num_classes: number of outputs.
        channels: channels of the input, 1 for a spectrogram, 3 for an image.
        width: channels of the first stage; the others have 2, 4 and 8 times as many. 64 is the paper's.
        blocks: blocks in each stage; (2, 2, 2, 2) is ResNet18.
        dropout: probability of dropping a pooled feature.
        stem: channels of the first convolution; None takes the width.

    Raises:
        ValueError: for a width, number of classes or channels below 1.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int = 1,
        width: int = 64,
        blocks: Sequence[int] = (2, 2, 2, 2),
        dropout: float = 0.0,
        stem: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("num_classes", num_classes), ("channels", channels), ("width", width)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        inputs = width if stem is None else stem
        self.stem = _conv3x3(channels, inputs)
        stages: list[nn.Module] = []
        for index, count in enumerate(blocks):
            outputs = width * 2**index
            for place in range(count):
                stride = 2 if index > 0 and place == 0 else 1
                stages.append(PreActBlock(inputs, outputs, stride, shared=not stages))
                inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(inputs)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(inputs, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to logits (B, num_classes)."""
        x = self.stages(self.stem(x))
        x = F.relu(self.norm(x)).mean(dim=(2, 3))
        return self.head(self.dropout(x))


def preact_resnet18(num_classes: int, channels: int = 1, width: int = 64, dropout: float = 0.0) -> PreActResNet:
    """PreAct-ResNet18: 11.17 M parameters at width 64, 10 classes and 3 channels."""
    return PreActResNet(num_classes, channels, width, (2, 2, 2, 2), dropout)


def count_parameters(model: nn.Module) -> int:
    """Number of trainable values in the model."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
