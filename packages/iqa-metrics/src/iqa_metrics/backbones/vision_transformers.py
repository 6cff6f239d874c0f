"""Vision transformers for images of any size, and the keys that others' checkpoints have.

A transformer was trained at one size, and its position embeddings belong to a grid of patches of
that size. For another grid they are interpolated, as is done where transformers are fine-tuned at
larger sizes. An image that patches do not cover evenly is continued by its last row and column.

References
----------
A. Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, arXiv:2010.11929, section 3.2.
"""

import math
import re
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iqa_metrics.weights.checkpoints import State


class AnySizeTransformer(nn.Module):
    """torchvision's vision transformer without its head.

    Parameters
    ----------
    network
        A ``torchvision.models.VisionTransformer``. Its modules are shared.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        encoder = network.get_submodule("encoder")
        self.patch = int(network.patch_size)  # type: ignore[arg-type]
        self.class_token = network.class_token
        self.pos_embedding = encoder.pos_embedding
        self.patches = network.get_submodule("conv_proj")
        layers = encoder.get_submodule("layers").children()
        self.blocks = nn.Sequential(OrderedDict((f"{i}", m) for i, m in enumerate(layers)))
        self.norm = encoder.get_submodule("ln")

    def forward(self, images: Tensor) -> Tensor:
        """Turn ``[N, 3, H, W]`` into tokens ``[N, 1 + h w, C]``."""
        height, width = images.shape[-2:]
        below, right = -height % self.patch, -width % self.patch
        if below or right:
            images = F.pad(images, (0, right, 0, below), mode="replicate")
        patches = self.patches(images)
        positions = self._positions(*patches.shape[-2:])
        tokens = patches.flatten(2).transpose(1, 2)
        first = self.class_token.expand(len(tokens), -1, -1)  # type: ignore[operator]
        out: Tensor = self.norm(self.blocks(torch.cat([first, tokens], dim=1) + positions))
        return out

    def _positions(self, rows: int, columns: int) -> Tensor:
        """Return the embeddings ``[1, 1 + rows columns, C]`` of a grid."""
        known: Tensor = self.pos_embedding  # type: ignore[assignment]
        side = math.isqrt(known.shape[1] - 1)
        if (rows, columns) == (side, side):
            return known
        grid = torch.unflatten(known[:, 1:].transpose(1, 2), 2, (side, side))
        # In float32: interpolation in half precision is coarse, and not everywhere to be had.
        resized = F.interpolate(
            grid.float(), (rows, columns), mode="bicubic", align_corners=False, antialias=False
        )
        flat = resized.to(known.dtype).flatten(2).transpose(1, 2)
        return torch.cat([known[:, :1], flat], dim=1)


_FROM_TIMM = (
    (r"^cls_token$", "class_token"),
    (r"^pos_embed(ding)?$", "encoder.pos_embedding"),
    (r"^patch_embed\.proj\.", "conv_proj."),
    (r"^norm\.", "encoder.ln."),
    (r"^blocks\.(\d+)\.norm(\d)\.", r"encoder.layers.encoder_layer_\1.ln_\2."),
    (r"^blocks\.(\d+)\.attn\.qkv\.", r"encoder.layers.encoder_layer_\1.self_attention.in_proj_"),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layers.encoder_layer_\1.self_attention.out_proj."),
    (r"^blocks\.(\d+)\.mlp\.fc1\.", r"encoder.layers.encoder_layer_\1.mlp.0."),
    (r"^blocks\.(\d+)\.mlp\.fc2\.", r"encoder.layers.encoder_layer_\1.mlp.3."),
)


def from_timm_keys(state: State) -> State:
    """Return a transformer's state dict in torchvision's keys, given timm's or DeiT's."""
    renamed = {}
    for key, value in state.items():
        for pattern, replacement in _FROM_TIMM:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed
