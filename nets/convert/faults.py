"""What torch computes beside a module's own forward: hooks, replaced tensors, compiled code.

A net made from the module would compute something else, so from_torch refuses it.
"""

import torch
from torch import Tensor, nn

HOOKS = {  # attribute of a module -> what it holds
    "_forward_hooks": "forward hooks",
    "_forward_pre_hooks": "forward pre-hooks",
    "_backward_hooks": "backward hooks",
    "_backward_pre_hooks": "backward pre-hooks",
}
TENSOR_HOOKS = {
    "_backward_hooks": "a gradient hook",
    "_post_accumulate_grad_hooks": "a hook after its gradient",
}


def is_scripted(module: nn.Module) -> bool:
    """Whether torch.jit has compiled the module."""
    return isinstance(module, torch.jit.ScriptModule)


def of_module(module: nn.Module) -> list[str]:
    """What is at fault with the module itself, a phrase each. Its children and tensors aren't looked at."""
    kind = type(module).__name__
    if is_scripted(module):
        return [f"{kind}, compiled by torch.jit (convert the module that it was compiled from)"]
    found = [f"{kind} with {what}" for name, what in HOOKS.items() if getattr(module, name, None)]
    if "forward" in vars(module):  # on the instance, in place of the class's
        found.append(f"{kind} with a forward put into it")
    if torch.nn.utils.parametrize.is_parametrized(module):
        names = ", ".join(module.parametrizations)  # type: ignore[arg-type]
        kind = kind.removeprefix("Parametrized")
        found.append(f"{kind} with a parametrization of {names} (parametrize.remove_parametrizations)")
    return found


def everywhere() -> list[str]:
    """The hooks that torch calls for every module."""
    state = vars(torch.nn.modules.module)
    names = {name.replace("_", "_global_", 1): what for name, what in HOOKS.items()}
    return [f"{what} of every module" for name, what in names.items() if state.get(name)]


def of_tensor(module: nn.Module, name: str, shape: torch.Size) -> str | None:
    """What is at fault with a parameter or buffer that should have this shape; None if nothing."""
    kind, t = type(module).__name__, getattr(module, name, None)
    if t is None:
        return f"{kind} without {name}"
    if module._parameters.get(name) is not t and module._buffers.get(name) is not t:
        return f"{kind} with a {name} that is no parameter or buffer"
    assert isinstance(t, Tensor)
    if t.shape != shape:
        return f"{kind} with a {name} of {tuple(t.shape)}, not {tuple(shape)}"
    if not t.is_floating_point():
        return f"{kind} with a {name} of {t.dtype}"
    for attribute, what in TENSOR_HOOKS.items():
        if getattr(t, attribute, None):
            return f"{kind} with {what} on {name}"
    return None
