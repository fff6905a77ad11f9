"""From a rewritten float graph to the int8 graph a target is written from, and the judge of what it costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from lightseg.errors import BadInput, ParityError, Unsupported
from lightseg.export.answers import as_mask, prepared
from lightseg.export.artifact import Artifact
from lightseg.export.graph.edit import op_nodes
from lightseg.export.graph.quantised import QuantisedConv
from lightseg.export.probes import NATURAL
from lightseg.export.quantization.calibration import COUNTS, Calibration, gather
from lightseg.export.quantization.placement import better_in_float
from lightseg.export.quantization.quantise import convolutions
from lightseg.export.quantization.recipe import Recipe, recipe_for
from lightseg.export.quantization.scheme import Scheme
from lightseg.export.quantization.selection import fewest_floats, macs
from lightseg.export.quantization.simulation import as_input, wavering
from lightseg.export.quantization.steps import Steps, compare_steps
from lightseg.export.quantization.task_loss import Answer, Judge, TaskLoss, allowed
from lightseg.export.reference import Reference
from lightseg.export.runner import Runner
from lightseg.images import Photo
from lightseg.predict import mask_from_logits

METHOD = "channels equalised, per-tensor ranges of least squared error, weights per output channel symmetric"
RANKING = 4
"""Images the harm of every single layer is measured on."""
MARGIN = 0.8
"""Of what a file may lose, how much the choosing photographs may show: others judge it."""
WAVERING = 0.0125
"""Of a natural probe's pixels, how many may change their class by rounding alone: the file, whose kernels round on
their own, may differ from the simulation in 0.03."""
STREETS = 1.0
"""Points a street network is searched for unasked."""
RECIPE = "recipe"
"""Where the record of a file keeps its `Recipe`."""
COUNT = "int8_layers"
"""What a runner says in its details: how many convolutions its runtime computes in eight bits, read back from it."""


@dataclass(frozen=True)
class Wish:
    """What the user says about int8. ``max_drop`` None: for portraits all convolutions that gain by it, or a refusal;
    for streets, and with a number, a search."""

    calibration: Path
    evaluation: Path | None = None
    max_drop: float | None = None


class Photographs:
    """The calibration of one model at one size, read once for all targets, with float32's answers."""

    def __init__(self, reference: Reference, wish: Wish) -> None:
        spec, size = reference.model.spec, reference.size
        self.sets: Calibration = gather(wish.calibration, wish.evaluation, COUNTS[spec.task])
        self.preprocess, self.labels = reference.preprocess, reference.labels
        self.probes = [reference.probes[name] for name in NATURAL]
        network = self.answer(reference.model.net, baked=False)
        self.ranges = [p.read(size) for p in self.sets.ranges]
        self.choosing = Judge(spec, self.sets.choosing, size, network)
        self.judging = Judge(spec, self.sets.judging, size, network)
        self.searched = spec.task == "street"

    def max_drop(self, wish: Wish) -> float | None:
        """The points a search is to keep within; None where none is wanted. No street network keeps within its limit
        with every convolution in int8."""
        return STREETS if wish.max_drop is None and self.searched else wish.max_drop

    def steady(self, baked: bool) -> Callable[[fx.GraphModule], bool]:
        """Whether rounding alone leaves the classes of the natural probes where they are. Asked of street mixes."""
        inputs = [as_input(image, self.preprocess, baked) for image in self.probes] if self.searched else []
        return lambda graph: not inputs or wavering(graph, inputs, self.labels) <= WAVERING

    def answer(self, network: Callable[[Tensor], Tensor], baked: bool) -> Answer:
        """The masks of a float32 network."""

        def mask(photo: Photo) -> NDArray[np.uint8]:
            with torch.inference_mode():
                logits = network(as_input(photo, self.preprocess, baked)).numpy()
            classes: NDArray[np.uint8] = mask_from_logits(logits, self.labels)[0]
            return classes

        return mask


_READ: WeakKeyDictionary[Reference, dict[tuple[Path, Path | None], Photographs]] = WeakKeyDictionary()
"""So that several targets of one export share the photographs."""


def photographs(reference: Reference, wish: Wish) -> Photographs:
    known = _READ.setdefault(reference, {})
    key = (wish.calibration, wish.evaluation)
    if key not in known:
        known[key] = Photographs(reference, wish)
    return known[key]


@dataclass(frozen=True)
class Quantised:
    """An int8 graph that returns logits, in float64, and which convolutions it left in float."""

    graph: fx.GraphModule
    floats: tuple[str, ...]
    photographs: Photographs
    max_drop: float | None
    share: float
    """Of the multiply-accumulates in convolutions, those in eight bits."""
    recipe: Recipe

    @property
    def int8(self) -> int:
        return sum(isinstance(op, QuantisedConv) for _, op in op_nodes(self.graph))

    @property
    def recorded(self) -> dict[str, Any]:
        """What stands in the record of a file before it is judged: enough to simulate it again."""
        return {RECIPE: self.recipe.to_text()}

    def steps(self, path: Path, artifact: Artifact, reference: Reference) -> list[Steps]:
        """The values of the file, which lies at ``path`` for now, beside those of its simulated ``reference``."""
        found = [compare_steps(path, artifact, self.graph, reference, probe) for probe in NATURAL]
        return [steps for steps in found if steps is not None]

    def judged(self, runner: Runner, artifact: Artifact, steps: Sequence[Steps]) -> dict[str, Any]:
        """For the record: what was done, and what the file that ``runner`` runs loses on the images that judge.

        Errors: `ParityError` where the runtime computes fewer convolutions in eight bits than the file has, or the
        file loses more than it may.
        """
        ran = int(runner.details.get(COUNT, 0))
        if ran != self.int8:
            raise ParityError(
                f"{artifact.path.name} has {self.int8} int8 convolutions, of which {runner.name} computes {ran} in "
                "eight bits: it would be int8 in name only; use --precision fp32"
            )

        def mask(photo: Photo) -> NDArray[np.uint8]:
            answer = runner(prepared(photo, artifact.feeds))
            classes: NDArray[np.uint8] = as_mask(answer, artifact.output, artifact.labels)[0]
            return classes

        loss = self.photographs.judging.loss(mask)
        self._check(loss, artifact.path.name)
        return {
            "method": METHOD,
            "int8_layers": self.int8,
            "float_layers": list(self.floats),
            "int8_macs": self.share,
            **self.recorded,
            "steps": [found.to_dict() for found in steps],
            "task_loss": loss.to_dict(),
            "calibration": self.photographs.sets.to_dict(),
        }

    def _check(self, loss: TaskLoss, what: str) -> None:
        limit = allowed(loss) if self.max_drop is None else self.max_drop
        if loss.drop <= limit:
            return
        hint = (
            f"let it keep the layers that cost most in float: --max-drop {limit:g}"
            if self.max_drop is None
            else "choose a larger --max-drop, or --precision fp32"
        )
        raise ParityError(f"{what} loses {loss} (allowed {limit:g}); {hint}")


def quantised(graph: fx.GraphModule, known: Photographs, scheme: Scheme, baked: bool, wish: Wish) -> Quantised:
    """An int8 graph of the float64 ``graph``, whose result is the logits; ``graph`` itself stays as it is.

    Errors: `ParityError` where too few int8 convolutions keep within ``wish.max_drop`` to call it int8; `Unsupported`
    where no convolution gains by int8.
    """
    images = [as_input(photo, known.preprocess, baked) for photo in known.ranges]
    even, recipe = recipe_for(graph, images, scheme)
    shape = tuple(images[0].shape)
    floats = better_in_float(even, shape, scheme.price) if scheme.price else []
    if len(floats) == len(convolutions(even)):
        raise Unsupported("not one convolution of this network is cheaper in int8 there; use --precision fp32")
    limit = known.max_drop(wish)
    if limit is not None:

        def loss(candidate: fx.GraphModule) -> float:
            lost = known.choosing.loss(known.answer(candidate, baked))
            return lost.unrest if known.searched else lost.drop

        found = {name: recipe.grid(name, scheme) for name in recipe.grids}
        search = fewest_floats(even, found, scheme, images[:RANKING], loss, MARGIN * limit, floats, known.steady(baked))
        search.check(limit, MARGIN)
        floats = list(search.found.floats)
    work = macs(even, shape)
    share = 1 - sum(work[name] for name in floats) / sum(work.values())
    recipe = replace(recipe, floats=tuple(floats))
    return Quantised(recipe.quantise(even, scheme), tuple(floats), known, limit, share, recipe)


def check_wish(precision: str, output: str, wish: Wish | None) -> None:
    """Errors: `BadInput` where int8 has no photographs, or photographs have no int8; `Unsupported`."""
    if precision != "int8" and wish is not None:
        raise BadInput(f"--calibration is for int8 alone; leave it out for {precision}, or say --precision int8")
    if precision == "int8" and wish is None:
        raise BadInput("int8 is found on photographs: add --calibration DIR, a folder of images like those it will see")
    if precision == "int8" and output == "mask_coarse":
        raise Unsupported("mask_coarse is a network of its own and not made in int8; use --output mask")
