"""Start values as AlexNet has them: weights from a Gaussian, biases at a constant."""

from torch import Tensor


def restart(params: dict[str, Tensor], std: float | None = None, bias: float | None = None):
    """Draw params["weight"] anew, mean 0 and deviation std, and set params["bias"]; None: as it is.

    A bias of 1 puts a layer's ReLUs where they let something through from the first step on.
    ValueError where there is no bias. Source: Krizhevsky, Sutskever and Hinton 2012, 5.
    """
    if std is not None:
        if std < 0:
            raise ValueError(f"std must be at least 0, not {std}")
        params["weight"].normal_(0, std)
    if bias is not None:
        if "bias" not in params:
            raise ValueError("bias_start is for a layer that has a bias")
        params["bias"].fill_(bias)
