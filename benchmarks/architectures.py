"""Other people's networks by architecture alone: a package builds them with random weights, so that their time is right
and their answers mean nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lightseg.benchmarks.timing.subject import ANOTHER, PEER, Subject
from lightseg.errors import Unsupported

if TYPE_CHECKING:
    from torch import nn

NOTE = f"architecture only, random weights; {ANOTHER}, built by transformers"
SIZE = (512, 512)
"""Of both networks' published inputs."""


@dataclass(frozen=True)
class Architecture:
    """``build`` makes the network from the module ``transformers``."""

    label: str
    build: Callable[[Any], nn.Module]


def _mobilevit(hub: Any) -> nn.Module:
    """DeepLabv3 on MobileViT-XXS; the widths are those of its published configuration."""
    widths = {"hidden_sizes": [64, 80, 96], "neck_hidden_sizes": [16, 16, 24, 48, 64, 80, 320]}
    built: nn.Module = hub.MobileViTForSemanticSegmentation(
        hub.MobileViTConfig(num_labels=21, expand_ratio=2.0, **widths)
    )
    return built


def _segformer(hub: Any) -> nn.Module:
    """The package's defaults are SegFormer-B0; 19 classes as on Cityscapes."""
    built: nn.Module = hub.SegformerForSemanticSegmentation(hub.SegformerConfig(num_labels=19))
    return built


ARCHITECTURES = {
    "segformer_b0": Architecture("SegFormer-B0", _segformer),
    "mobilevit_xxs": Architecture("MobileViT-XXS DeepLabv3", _mobilevit),
}
"""Both answer with logits at a fraction of the input's size, which are left as they are."""


def architecture_subject(name: str, size: tuple[int, int] | None) -> Subject:
    """A row in PyTorch, of images of ``size``, or of the published one."""
    return Subject(
        label=ARCHITECTURES[name].label,
        runtime=PEER,
        shape=(1, 3, *(size or SIZE)),
        preprocess=None,
        model=name,
        weights="random",
        note=NOTE,
        output="",
        any_batch=True,
    )


def build(name: str) -> nn.Module:
    """The network of ``name``, always with the same weights. Errors: `Unsupported` without the package."""
    import torch
    from torch import nn

    try:
        import transformers as hub
    except ImportError as error:
        raise Unsupported(
            f"{name} is built by transformers ({error}); install it with: pip install 'lightseg[peers]'"
        ) from error

    class Logits(nn.Module):
        """The one tensor in the record that the package answers with."""

        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.net(x / 255).logits
            return logits

    torch.manual_seed(0)
    return Logits(ARCHITECTURES[name].build(hub)).eval().requires_grad_(False)
