"""Image classification on CIFAR, Tiny ImageNet, or any folder of images: the paper's experiments on images."""
