"""A net for the tests of this folder."""

from nets.training.build import build


def small_net(device="cpu"):
    layers = [{"type": "Conv2d", "out_channels": 8, "kernel_size": 3}, "BatchNorm2d", "GELU", "GlobalAvgPool"]
    return build([*layers, {"type": "Linear", "out_features": 3}], (3, 6, 6))[0].to(device)
