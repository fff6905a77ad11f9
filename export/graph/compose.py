"""What users want around the network: preprocessing in front, a probability or a mask behind."""

from __future__ import annotations

from typing import Literal

import torch
from torch import fx, nn

from lightseg.export.graph import ops
from lightseg.export.graph.coarse import coarsen
from lightseg.export.graph.edit import finish, insert
from lightseg.spec import ModelSpec, Preprocess

Output = Literal["logits", "probability", "mask", "mask_coarse"]
OUTPUTS: tuple[Output, ...] = ("logits", "probability", "mask", "mask_coarse")


def bake_preprocess(graph: fx.GraphModule, preprocess: Preprocess) -> None:
    """Let the graph take an N×H×W×3 uint8 RGB image.

    Normalisation and channel order are one 1×1 convolution of three channels: exact, and the zero padding of the
    layers behind it stays a padding with normalised zeros.
    """
    std = torch.tensor(preprocess.std, dtype=torch.float64)
    mean = torch.tensor(preprocess.mean, dtype=torch.float64)
    weight = torch.diag(1 / std)
    if preprocess.order == "BGR":
        weight = weight.flip(1)
    image = next(iter(graph.graph.nodes))
    users = list(image.users)
    pixels = insert(graph, image, "from_image", ops.FromImage(), image)
    normal = insert(graph, pixels, "normalise", ops.Conv(weight[:, :, None, None], -mean / std), pixels)
    for user in users:
        user.replace_input_with(image, normal)
    finish(graph)


def append_head(graph: fx.GraphModule, spec: ModelSpec, output: Output) -> None:
    """Turn logits into the probability of every class (of the person alone, for portraits) or a uint8 mask.

    ``mask_coarse`` is the mask of another network, see `coarsen`; every other head is exact. Errors: `Unsupported`.
    """
    if output == "logits":
        return
    if output == "mask_coarse":
        coarsen(graph)
    end = next(n for n in graph.graph.nodes if n.op == "output")
    value = last = end.args[0]
    for name, op in _head(spec, output):
        last = insert(graph, last, name, op, last)
    assert last is not value
    end.args = (last,)
    finish(graph)


def _head(spec: ModelSpec, output: Output) -> list[tuple[str, nn.Module]]:
    """Portraits need one number per pixel: softmax of two logits is the sigmoid of their difference."""
    if spec.task == "portrait":
        last: nn.Module = ops.Sigmoid() if output == "probability" else ops.Positive()
        difference = torch.tensor([[-1.0, 1.0]], dtype=torch.float64)[:, :, None, None]
        first = [("difference", ops.Conv(difference))] if spec.channels == 2 else []
        return [*first, (output, last)]
    known = len(spec.labels.names)
    first_channels = [("classes", ops.FirstChannels(known))] if spec.channels > known else []
    return [*first_channels, (output, ops.Softmax() if output == "probability" else ops.ArgMax())]
