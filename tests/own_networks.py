"""Networks as people write them, each with something that a backbone must leave as it is."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils import weight_norm as older_weight_norm


class StandardisedConv2d(nn.Conv2d):
    """Weight standardisation, as in BiT and NFNets."""

    def forward(self, x: Tensor) -> Tensor:
        deviation, mean = torch.std_mean(self.weight, dim=(1, 2, 3), keepdim=True)
        return self._conv_forward(x, (self.weight - mean) / (deviation + 1e-5), self.bias)


class ActivatedNorm2d(nn.BatchNorm2d):
    """A norm that applies the activation too, as timm's BatchNormAct2d."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(super().forward(x))


def chain(conv=None, norm=None, following=None) -> nn.Sequential:
    """A convolution and its norm, in a network around them."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        conv or nn.Conv2d(8, 12, 3),
        norm or nn.BatchNorm2d(12),
        following or nn.ReLU(),
        nn.Conv2d(12, 6, 1),
    )


def _spectral() -> nn.Module:
    return chain(parametrizations.spectral_norm(nn.Conv2d(8, 12, 3)))


def _older_spectral() -> nn.Module:
    return chain(nn.utils.spectral_norm(nn.Conv2d(8, 12, 3)))


def _weight_normed() -> nn.Module:
    return chain(parametrizations.weight_norm(nn.Conv2d(8, 12, 3)))


def _older_weight_normed() -> nn.Module:
    return chain(older_weight_norm(nn.Conv2d(8, 12, 3)))


def _weight_standardised() -> nn.Module:
    return chain(StandardisedConv2d(8, 12, 3))


def _activated_norm() -> nn.Module:
    return chain(norm=ActivatedNorm2d(12))


def _hook_on_convolution() -> nn.Module:
    network = chain()
    network[3].register_forward_hook(_double)
    return network


def _hook_before_convolution() -> nn.Module:
    network = chain()
    network[3].register_forward_pre_hook(_halve)
    return network


def _hook_on_norm() -> nn.Module:
    network = chain()
    network[4].register_forward_hook(_double)
    return network


def _hook_before_norm() -> nn.Module:
    network = chain()
    network[4].register_forward_pre_hook(_halve)
    return network


def _own_forward() -> nn.Module:
    network = chain()
    norm = network[4]
    norm.forward = _Tanh(norm)
    return network


def _parametrized_norm() -> nn.Module:
    network = chain()
    parametrize.register_parametrization(network[4], "weight", _Positive())
    return network


def _pruned() -> nn.Module:
    network = chain()
    prune.l1_unstructured(network[3], "weight", amount=0.4)
    return network


def _hook_on_sequence() -> nn.Module:
    network = nn.Sequential(chain(), nn.ReLU())
    network[0].register_forward_hook(_double)
    return network


class Reused(nn.Module):
    """A convolution that is called twice, its norm once."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.last = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.conv(self.conv(self.stem(x)))))


class ReadsTheWeight(nn.Module):
    """Code that uses a convolution's weight outside of its call."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.last = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.conv(x)) * self.conv.weight.square().mean())


class Branches(nn.Module):
    """A convolution's response is used beside its norm's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.last = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.last(self.norm(y) + y)


class OutOfOrder(nn.Module):
    """Modules run in another order than they are held in, and the code branches on values."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.ReLU()
        self.norm, self.conv = nn.BatchNorm2d(8), nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        return self.last(y if y.shape[-1] % 2 else -y)


class Shared(nn.Module):
    """One convolution in two places, with a norm each."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        conv = nn.Conv2d(8, 8, 3, padding=1)
        self.first = nn.Sequential(conv, nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(conv, nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(self.stem(x)))


class Embedding(nn.Module):
    """A network that ends in a vector, with a class token beside the patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, stride=8)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patches(x).flatten(2).transpose(1, 2)
        y = self.block(torch.cat([self.token.expand(len(y), -1, -1), y], dim=1))
        return self.head(y[:, 0])


class _Positive(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(x)


class _Tanh:
    """The forward of a norm, with more after it."""

    def __init__(self, norm: nn.Module) -> None:
        self._norm = norm

    def __call__(self, x: Tensor) -> Tensor:
        return type(self._norm).forward(self._norm, x).tanh()


def _double(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
    return 2 * output


def _halve(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0] / 2,)


OWN_NETWORKS = {
    "plain": chain,
    "spectral_norm": _spectral,
    "older spectral_norm": _older_spectral,
    "weight_norm": _weight_normed,
    "older weight_norm": _older_weight_normed,
    "weight standardisation": _weight_standardised,
    "norm with activation": _activated_norm,
    "hook on convolution": _hook_on_convolution,
    "hook before convolution": _hook_before_convolution,
    "hook on norm": _hook_on_norm,
    "hook before norm": _hook_before_norm,
    "hook on sequence": _hook_on_sequence,
    "forward of its own": _own_forward,
    "parametrised norm": _parametrized_norm,
    "pruned": _pruned,
    "reused convolution": Reused,
    "convolution in two places": Shared,
    "weight read elsewhere": ReadsTheWeight,
    "branches": Branches,
    "out of order": OutOfOrder,
    "embedding": Embedding,
}
