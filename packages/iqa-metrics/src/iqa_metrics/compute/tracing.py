"""What is done with the tensors that are being computed: differentiated, transformed or compiled.

Values are computed quickest in blocks that are overwritten and in passes of several images. Where
torch differentiates, transforms or compiles the computation, it has to see plain functions instead.
"""

import torch
from torch import Tensor
from torch.autograd import forward_ad


def traced() -> bool:
    """Say whether a compiler or a transform of ``torch.func`` traces what is computed.

    Then code must neither look at values nor write into tensors that it made itself.
    """
    # A compiler takes the first term for a constant, and does not look at the others.
    return bool(torch.compiler.is_compiling() or transformed() or forward_ad._current_level >= 0)


def transformed() -> bool:
    """Say whether a transform of ``torch.func`` is at work."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._functorch.peek_interpreter_stack() is not None


def recorded(*tensors: Tensor) -> bool:
    """Say whether a derivative of what is computed from these tensors is recorded."""
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return True
    # Inside a transform, tensors do not tell of the derivatives of an outer one.
    return not torch.compiler.is_compiling() and traced()


def _can_look() -> bool:
    """Say whether values can be looked at inside the transform at work, as not in torch 2.4."""
    try:
        return torch.zeros(1).neg().tolist() == [0.0]
    except RuntimeError:
        return False


def is_hidden(tensor: Tensor) -> bool:
    """Say whether a tensor has no values that can be looked at, as inside ``torch.func.vmap``."""
    if torch.compiler.is_compiling():
        return False
    if tensor.is_meta or (transformed() and not _can_look()):
        return True
    if torch._C._functorch.is_legacy_batchedtensor(tensor):  # by is_grads_batched
        return True
    batched, unwrapped = torch._C._functorch.is_batchedtensor, torch._C._functorch.get_unwrapped
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        if batched(tensor):
            return True
        tensor = unwrapped(tensor)
    return False
