"""From a recipe and a data folder to a weights file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from lightseg.errors import BadInput
from lightseg.spec import Figure, ModelSpec, Preprocess, Weights
from lightseg.train import checkpoint, losses, sheets, teacher
from lightseg.train import recipe as recipes
from lightseg.train.augment import Image, squeeze
from lightseg.train.datasets import Samples, read, split, to_tensor
from lightseg.train.evaluate import Task, evaluate, of_network, prediction_sheet
from lightseg.train.heads import Coarse, WithAuxiliary
from lightseg.train.layouts import Pair, find_pairs
from lightseg.train.logs import Log, Row, Silent
from lightseg.train.loop import train
from lightseg.train.recipe import Recipe
from lightseg.train.revive import compact, revive, tidy, unit_input
from lightseg.train.statistics import Statistics, joined, kept
from lightseg.train.world import World
from lightseg.weights import save_weights
from lightseg.zoo import SegmentationModel, create_model

SHEET = 12
"""Pictures on a prediction sheet."""
LOGGED = 40
"""Prediction sheets in a run's log, about."""


@dataclass(frozen=True)
class Job:
    """One training run: what, on which data, where to."""

    recipe: Recipe
    data: Path
    out: Path
    log: Log = field(default_factory=Silent)
    world: World = field(default_factory=World)
    resume: bool = False

    def pairs(self) -> tuple[list[Pair], list[Pair]]:
        """(to train on, to choose with): a part held out, or the validation pairs where the recipe holds none out."""
        kept_in, held = split(find_pairs(self.recipe.layout, self.data, self.recipe.train_folder), self.recipe.holdout)
        return kept_in, held or self.val()

    def val(self) -> list[Pair]:
        return find_pairs(self.recipe.layout, self.data, self.recipe.val_folder)

    def statistics(self) -> Statistics:
        """Of the training folders together, each counted once into its own file in ``out``."""
        parts = []
        for name in self.recipe.train_folder.split("+"):
            file = self.out / "statistics" / f"{name.replace('/', '-')}.json"
            parts.append(kept(file, find_pairs(self.recipe.layout, self.data, name), self.recipe.layout))
        return joined(parts)

    @property
    def size(self) -> tuple[int, int]:
        return self.recipe.height, self.recipe.width


def fit(job: Job) -> Path:
    """Train, and return the weights file, which lies in ``job.out`` with recipe, checkpoints, logs and sheets.

    Denormal arithmetic is switched off for the time of the run: the released weights are full of denormals.

    Errors: `BadInput` for data or recipes that do not fit, `Diverged`, `Stopped`, `OutputError`.
    """
    if not job.resume and checkpoint.started(job.out):
        raise BadInput(f"{job.out} already holds a run; pass --resume to go on with it, or another --out DIR")
    with flush_denormals():
        return _fit(job)


@contextmanager
def flush_denormals() -> Iterator[None]:
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _fit(job: Job) -> Path:
    recipe = job.recipe
    pairs, held = job.pairs()
    model, preprocess = start(job, pairs)
    task = Task(held, recipe.layout, job.size, preprocess, model.spec.labels)
    if job.world.first and not checkpoint.started(job.out):  # a resumed run's file says how it was started
        recipes.save(recipe, job.out / "recipe.yaml")
    samples = Samples(pairs, recipe, preprocess, model.spec.multiple)
    if recipe.teachers:
        samples.taught = taught(job, samples)
    classes = max(2, model.spec.channels)  # one channel stands for two classes
    weight = losses.class_weights(job.statistics().class_counts(classes)) if recipe.class_weights else None
    if recipe.encoder_epochs:
        fit_encoder(job, model.net, samples, task, weight)
    net = WithAuxiliary(model.net) if recipe.aux_weight else model.net
    trained = stage(job, recipe, net, samples, task, weight)
    bare = cast(nn.Module, trained.net) if isinstance(trained, WithAuxiliary) else trained
    if job.world.first:
        origin = f"lightseg-train, recipe in recipe.yaml, from {recipe.init}, on {recipe.train_folder}"
        hand_over(job, model.spec, bare, preprocess, origin)
    job.world.wait()
    return job.out / f"{recipe.model}.safetensors"


def start(job: Job, pairs: list[Pair]) -> tuple[SegmentationModel, Preprocess]:
    """The model as training begins, with the preprocessing it will be fed by."""
    recipe = job.recipe
    checkpoint.seed_everything(recipe.seed)
    model = create_model(recipe.model, weights=recipe.init, seed=recipe.seed)
    model.spec.check_size(*job.size, how="height={} width={}")
    preprocess = job.statistics().preprocess() if recipe.normalise == "data" else model.weights.preprocess
    if recipe.revive:
        preprocess = unit_input(model.net, preprocess)
        revive(model.net, probe(recipe, pairs, preprocess), recipe.seed)
    return model, preprocess


def taught(job: Job, samples: Samples) -> list[Image]:
    """What the recipe's teachers say about the training images: of the run's file, or asked now and kept in it."""
    file, names = job.out / teacher.FILE, [pair.name for pair in samples.pairs]
    if not (job.resume and file.is_file()):
        found = teacher.answers(teacher.Teacher(job.recipe, job.world.device), samples, job.log)
        if job.world.first:
            teacher.write(file, names, found)
        return found
    return teacher.read(file, names)


def stage(job: Job, recipe: Recipe, net: nn.Module, samples: Samples, task: Task, weight: Tensor | None) -> nn.Module:
    """Run the loop once, into ``job.out``; resume only where a checkpoint lies."""
    device = job.world.device
    loss = losses.of_recipe(recipe, recipe.edge_width, None if weight is None else weight.to(device))
    resume = job.resume and (job.out / checkpoint.NAME).is_file()
    return train(recipe, net, samples, loss, job.out, validation(task, job, recipe), job.log, job.world, resume)


def fit_encoder(job: Job, net: nn.Module, samples: Samples, task: Task, weight: Tensor | None) -> None:
    """Stage one: train the coarse head alone and leave its best weights in ``net``; done once per run."""
    recipe, out = job.recipe, job.out / checkpoint.ENCODER
    done = out / checkpoint.DONE
    if not (job.resume and done.is_file()):
        first = replace(
            recipe,
            epochs=recipe.encoder_epochs,
            batch=recipe.encoder_batch or recipe.batch,
            edge_width=recipe.encoder_edge_width,
            keep="best",
        )
        under = replace(job, out=out, log=job.log.stage(checkpoint.ENCODER))
        coarse = stage(under, first, Coarse(net), samples.under(first), task, weight)
        if job.world.first:
            checkpoint.write(done, cast(nn.Module, coarse.net).state_dict())
        job.world.wait()
    net.load_state_dict(checkpoint.read(done))


def probe(recipe: Recipe, pairs: list[Pair], preprocess: Preprocess) -> Tensor:
    """About fifty training images spread over the set, as the network sees them: N×3×H×W."""
    chosen = pairs[:: max(1, len(pairs) // 48)]
    images = (squeeze(*read(p, recipe.layout, recipe.cache_size), (recipe.height, recipe.width))[0] for p in chosen)
    return torch.stack([to_tensor(image, preprocess) for image in images])


def validation(task: Task, job: Job, recipe: Recipe) -> Callable[[nn.Module, int], Row]:
    """Scores a network after an epoch on the pairs to choose with, and draws a sheet of its predictions each time.

    The log gets every one of them in a short run and about `LOGGED` in a long one: it keeps them all.
    """
    often = recipe.validate_every * max(1, recipe.epochs // recipe.validate_every // LOGGED)

    def validate(net: nn.Module, epoch: int) -> Row:
        predict = of_network(net.eval())
        result = evaluate(predict, task)
        chosen = np.linspace(0, len(task.pairs) - 1, min(SHEET, len(task.pairs))).astype(int)
        sheet = prediction_sheet(predict, task, [int(i) for i in chosen])
        sheets.write_png(job.out / "predictions.png", sheet)
        if epoch % often == 0 or epoch == recipe.epochs:
            job.log.picture("predictions", sheet, epoch)
        return {"score": result.score, "miou": result.miou}

    return validate


def hand_over(job: Job, spec: ModelSpec, net: nn.Module, preprocess: Preprocess, origin: str) -> None:
    """Score the final network on the validation pairs and write the weights file with that figure and ``origin``."""
    recipe, val = job.recipe, job.val()
    net = net.cpu()
    tidy(net)
    result = evaluate(of_network(net.eval()), Task(val, recipe.layout, job.size, preprocess, spec.labels))
    name, what = ("iou", "mean per-image IoU of the person") if spec.task == "portrait" else ("miou", "dataset mIoU")
    source = f"measured, {recipe.val_folder}, {len(val)} images at {job.size[0]}x{job.size[1]}, {what}"
    record = Weights(
        tag="trained",
        file=f"{recipe.model}.safetensors",
        sha256="",
        licence="that of the training data and of the weights it started from",
        origin=origin,
        preprocess=preprocess,
        figures={name: Figure(result.score, "%", source)},
    )
    save_weights(job.out / record.file, spec, record, compact(net.state_dict()))
