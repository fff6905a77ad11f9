"""Distillation: the teacher is the mean it says it is, for a student that is fed otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from lightseg.errors import BadInput, UnknownName
from lightseg.spec import Preprocess
from lightseg.train import losses
from lightseg.train.recipe import Recipe, build
from lightseg.train.run import Job, fit
from lightseg.train.teacher import Teacher, change_of_input
from lightseg.zoo import create_model

CPU = torch.device("cpu")
STUDENT = Preprocess("RGB", (120.0, 110.0, 100.0), (60.0, 50.0, 40.0))


def pixels() -> torch.Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255


def fed(rgb: torch.Tensor, preprocess: Preprocess) -> torch.Tensor:
    x = rgb if preprocess.order == "RGB" else rgb.flip(1)
    return (x - torch.tensor(preprocess.mean).view(3, 1, 1)) / torch.tensor(preprocess.std).view(3, 1, 1)


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_an_input_changes_from_one_preprocessing_to_the_other(order: str) -> None:
    teacher = Preprocess(order, (10.0, 20.0, 30.0), (2.0, 3.0, 4.0))  # type: ignore[arg-type]
    scale, shift, swap = change_of_input(STUDENT, teacher, CPU)
    x = fed(pixels(), STUDENT)
    torch.testing.assert_close((x.flip(1) if swap else x) * scale + shift, fed(pixels(), teacher))


def test_the_teacher_is_the_mean_over_networks_and_mirror_images() -> None:
    names = ["sinet.lightseg", "extremec3net.lightseg"]
    models = [create_model(name) for name in names]
    teacher = Teacher(names, STUDENT, models[0].spec.labels, CPU)
    expected = []
    with torch.no_grad():
        for model in models:
            for flipped in (False, True):
                rgb = pixels().flip(3) if flipped else pixels()
                logits = F.interpolate(model.net(fed(rgb, model.weights.preprocess)), (64, 64), mode="bilinear")
                answer = torch.softmax(losses.as_two_classes(logits), 1)
                expected.append(answer.flip(3) if flipped else answer)
    torch.testing.assert_close(teacher(fed(pixels(), STUDENT)), torch.stack(expected).mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_disagreement_is_cross_entropy_against_probabilities(channels: int) -> None:
    torch.manual_seed(0)
    logits, taught = torch.randn(2, channels, 6, 6), torch.softmax(torch.randn(2, 2, 6, 6), 1)
    target = torch.randint(0, 2, (2, 6, 6))
    two = torch.cat([torch.zeros_like(logits), logits], 1) if channels == 1 else logits[:, :2]
    expected = F.cross_entropy(two, taught)
    torch.testing.assert_close(losses.disagreement(logits, taught, target), expected)
    target[:, :3] = 255
    expected = F.cross_entropy(two[:, :, 3:], taught[:, :, 3:])
    torch.testing.assert_close(losses.disagreement(logits, taught, target), expected)


def test_a_student_moves_towards_its_teacher(demo: Path, tmp_path: Path, tiny: Callable[..., Recipe]) -> None:
    """From the same start, without any label's help the student ends nearer to its teacher than it began."""
    student = create_model("sinet", "random", seed=0)
    rate = {"edge_weight": 0.0, "epochs": 3, "lr": 2e-3, "ema": 0.0}
    recipe = tiny(teachers=["sinet.lightseg"], teacher_weight=20.0, **rate)
    taught = create_model("sinet", fit(Job(recipe, demo, tmp_path / "taught")))
    alone = create_model("sinet", fit(Job(tiny(**rate), demo, tmp_path / "alone")))
    x = fed(pixels(), student.weights.preprocess)
    answer = Teacher(["sinet.lightseg"], student.weights.preprocess, student.spec.labels, CPU)(x)
    nothing = torch.zeros(2, 64, 64, dtype=torch.long)
    with torch.no_grad():
        with_teacher, without = (float(losses.disagreement(m.net(x), answer, nothing)) for m in (taught, alone))
    assert with_teacher < without


def test_teachers_that_do_not_fit_are_refused(demo: Path, tmp_path: Path, tiny: Callable[..., Recipe]) -> None:
    with pytest.raises(BadInput, match="belong together"):
        build({"model": "sinet", "teachers": ["sinet.lightseg"]})
    with pytest.raises(UnknownName, match=r"lightsek.*did you mean lightseg"):
        fit(Job(tiny(teachers=["sinet.lightsek"], teacher_weight=1.0), demo, tmp_path))
    labels = create_model("c3net", "random").spec.labels
    with pytest.raises(BadInput, match="same task"):
        Teacher(["sinet.lightseg"], STUDENT, labels, CPU)
