"""The mean of several weights of one network, which can be better than any of them.

Runs that go on from the same weights end close enough to each other for it (Wortsman et al., "Model soups", ICML 2022);
the mean of networks that never were close is worth nothing. So it is scored beside its parts, on the images that a run
chooses with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lightseg.errors import BadInput
from lightseg.train import checkpoint
from lightseg.train.evaluate import Result, Task, compare, evaluate, of_network
from lightseg.train.metrics import Interval
from lightseg.train.run import Job, hand_over
from lightseg.zoo import SegmentationModel, create_model


@dataclass(frozen=True)
class Averaged:
    """The file written, and the scores of the images a run chooses with, in per cent."""

    path: Path
    images: int
    scores: dict[str, float]
    """Of every part, by the name it was given by."""
    score: float
    """Of the mean."""
    gain: Interval
    """The mean's per-image IoU less that of the best part, in points, paired."""


def average(job: Job, names: Sequence[str]) -> Averaged:
    """Write the mean of the weights ``names`` (tags or files of the recipe's model) into ``job.out``.

    Errors: `BadInput` for fewer than two, for weights that are fed differently, and where ``job.out`` holds weights or
    a run already; `WeightsError`; `OutputError`.
    """
    recipe, path = job.recipe, job.out / f"{job.recipe.model}.safetensors"
    if len(set(names)) < 2:
        raise BadInput(
            f"--average takes two or more weights, not {', '.join(names) or 'none'}; name them with a comma between"
        )
    if path.exists() or checkpoint.started(job.out):
        raise BadInput(f"{job.out} already holds weights or a run; give another --out DIR")
    models = [create_model(recipe.model, weights=name) for name in names]
    first = models[0]
    first.spec.check_size(*job.size, how="height={} width={}")
    for name, model in zip(names, models):
        if model.weights.preprocess != first.weights.preprocess:
            raise BadInput(
                f"{name} is fed otherwise than {names[0]} (mean, std or order of its input); "
                "name weights that were trained from the same ones"
            )
    task = Task(job.pairs()[1], recipe.layout, job.size, first.weights.preprocess, first.spec.labels)
    found = {name: _scored(model, task) for name, model in zip(names, models)}
    together = " and ".join(f"{name} ({model.weights.sha256[:16]})" for name, model in zip(names, models))
    first.net.load_state_dict(mean([model.net.state_dict() for model in models]))
    result = _scored(first, task)
    best = max(found.values(), key=lambda r: r.score)
    hand_over(job, first.spec, first.net, first.weights.preprocess, f"lightseg-train --average, of {together}")
    scores = {name: r.score for name, r in found.items()}
    return Averaged(path, len(task.pairs), scores, result.score, compare(best, result)["all"])


def mean(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of every floating-point tensor, in its own precision; counters are the first one's."""
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in states[0].items()
    }


def _scored(model: SegmentationModel, task: Task) -> Result:
    return evaluate(of_network(model.net.eval()), task)
