"""Distillation: the teacher is the mean it says it is, is asked once per image, and a resumed run hears the same."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lightseg.errors import BadInput, UnknownName
from lightseg.export import export
from lightseg.export.pipeline import Request
from lightseg.train import checkpoint, losses, teacher
from lightseg.train.augment import Image, squeeze
from lightseg.train.datasets import Samples, read, to_tensor
from lightseg.train.estimate import estimate
from lightseg.train.layouts import find_pairs
from lightseg.train.logs import Silent
from lightseg.train.loop import Stopped
from lightseg.train.metrics import foreground_iou
from lightseg.train.recipe import Recipe, build
from lightseg.train.run import Job, fit
from lightseg.train.teacher import Teacher
from lightseg.weights import PACKAGED
from lightseg.zoo import create_model

Make = Callable[..., Recipe]
CPU = torch.device("cpu")
TAUGHT = {"teachers": ["sinet.lightseg"], "teacher_weight": 1.0}


class Heard(Silent):
    """Counts the answers, and stops the run at one of its steps."""

    def __init__(self, stop_at: int = -1) -> None:
        self.answers, self.stop_at = 0, stop_at

    def taught(self, done: int, images: int) -> None:
        self.answers += 1
        assert (done, images) == (self.answers, 16)

    def step(self, step: int, steps: int, loss: float) -> None:
        if step == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)


def photo() -> Image:
    return np.random.default_rng(0).integers(0, 256, (70, 50, 3), dtype=np.uint8)


def test_the_teacher_is_the_mean_over_networks_sizes_and_mirror_images(tiny: Make) -> None:
    names = ["sinet.lightseg", "extremec3net.lightseg"]
    recipe = tiny(teachers=names, teacher_weight=1.0, teacher_scales=[1.0, 1.5])
    expected = []
    for model in map(create_model, names):
        for side in (64, 96):
            for flipped in (False, True):
                image = photo()[:, ::-1] if flipped else photo()
                small, _ = squeeze(image, image, (side, side))
                with torch.no_grad():
                    logits = model.net(to_tensor(small, model.weights.preprocess)[None])
                answer = torch.softmax(losses.as_two_classes(F.interpolate(logits, (side, side), mode="bilinear")), 1)
                whole = F.interpolate(answer[:, 1:2], (70, 50), mode="bilinear")[0, 0]
                expected.append(whole.flip(1) if flipped else whole)
    found = Teacher(recipe, CPU)(photo())
    assert found.shape == (70, 50)
    # the mirror of a reduced photo and the reduced mirror image differ by rounding
    assert np.abs(found - 255 * torch.stack(expected).mean(0).numpy()).max() < 3
    assert np.abs(found - 255 * expected[0].numpy()).max() > 8, "one network alone would have passed"


def test_somebody_else_s_file_is_one_of_the_teachers(tiny: Make, shared: Path) -> None:
    """MediaPipe's networks find the person in a photograph; turned round, they find it on the other side."""
    pytest.importorskip("ai_edge_litert")
    peers = [str(shared / "peers" / f"selfie_segmentation{end}.tflite") for end in ("", "_landscape")]
    pair = find_pairs("pairs", shared / "data", "portrait_val")[0]
    image, mask = read(pair)
    alone = [Teacher(tiny(teachers=[name], teacher_weight=1.0), CPU)(image) for name in peers]
    both = Teacher(tiny(teachers=peers, teacher_weight=1.0), CPU)(image)
    assert np.abs(both - np.mean(alone, 0)).max() <= 1
    assert foreground_iou((both > 127).astype(np.uint8), mask) > 0.9
    turned = Teacher(tiny(teachers=peers, teacher_weight=1.0), CPU)(np.ascontiguousarray(image[:, ::-1]))
    assert np.abs(turned[:, ::-1].astype(int) - both).mean() < 1


def test_files_that_are_no_teachers_are_refused(tiny: Make, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    with pytest.raises(BadInput, match=r"no teacher nowhere\.tflite"):
        Teacher(tiny(teachers=["nowhere.tflite"], teacher_weight=1.0), CPU)
    (tmp_path / "x.tflite").write_bytes(b"no network")
    with pytest.raises(BadInput, match=r"x\.tflite cannot be a teacher"):
        Teacher(tiny(teachers=[str(tmp_path / "x.tflite")], teacher_weight=1.0), CPU)
    made = export(create_model("sinet.lightseg"), "tflite", tmp_path, input_size=(64, 64))
    with pytest.raises(BadInput, match=r"into float32 \[1, 64, 64, 2\]; a teacher turns"):
        Teacher(tiny(teachers=[str(made.path)], teacher_weight=1.0), CPU)
    request = Request(input_size=(64, 64), output="probability", preprocess="baked")
    baked = export(create_model("extremec3net.lightseg"), "tflite", tmp_path, request)
    with pytest.raises(BadInput, match=r"turns uint8 \[1, 64, 64, 3\] into"):
        Teacher(tiny(teachers=[str(baked.path)], teacher_weight=1.0), CPU)


def test_a_teacher_s_weights_may_be_a_file(tiny: Make) -> None:
    file = PACKAGED / "sinet_lightseg.safetensors"
    named, from_file = (
        Teacher(tiny(teachers=[name], teacher_weight=1.0), CPU)(photo()) for name in ("sinet.lightseg", f"sinet={file}")
    )
    assert np.array_equal(named, from_file)


@pytest.mark.parametrize(("multiple", "expected"), [(4, (192, 256)), (32, (192, 256)), (128, (128, 256))])
def test_the_teacher_sees_sizes_it_takes(tiny: Make, multiple: int, expected: tuple[int, int]) -> None:
    recipe = tiny(height=224, width=224, teacher_scales=[0.857, 1.143])
    assert teacher.sizes(recipe, multiple) == [(side, side) for side in expected]


@pytest.mark.parametrize("channels", [1, 2])
def test_disagreement_is_cross_entropy_against_probabilities(channels: int) -> None:
    torch.manual_seed(0)
    logits, person = torch.randn(2, channels, 6, 6), torch.rand(2, 6, 6)
    target = torch.randint(0, 2, (2, 6, 6))
    two, taught = losses.as_two_classes(logits), torch.stack([1 - person, person], 1)
    torch.testing.assert_close(losses.disagreement(logits, person, target), F.cross_entropy(two, taught))
    target[:, :3] = 255
    expected = F.cross_entropy(two[:, :, 3:], taught[:, :, 3:])
    torch.testing.assert_close(losses.disagreement(logits, person, target), expected)


def test_the_loss_counts_what_the_teacher_said(tiny: Make) -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(2, 2, 8, 8), torch.randint(0, 2, (2, 8, 8))
    said = torch.randint(0, 256, (2, 8, 8))
    alone = losses.of_recipe(tiny(), 3)(logits, target)
    taught = losses.of_recipe(tiny(teachers=["sinet.lightseg"], teacher_weight=2.5), 3)(
        logits, torch.stack([target, said], 3)
    )
    torch.testing.assert_close(taught - alone, 2.5 * losses.disagreement(logits, said / 255, target))


def test_a_student_moves_towards_its_teacher(demo: Path, tmp_path: Path, tiny: Make) -> None:
    """From the same start the taught student ends nearer to its teacher than the one that saw the labels alone."""
    rate = {"edge_weight": 0.0, "epochs": 3, "lr": 2e-3, "ema": 0.0}
    job = Job(tiny(teachers=["sinet.lightseg"], teacher_weight=20.0, **rate), demo, tmp_path / "taught")
    taught = create_model("sinet", fit(job))
    alone = create_model("sinet", fit(Job(tiny(**rate), demo, tmp_path / "alone")))
    samples = Samples(job.pairs()[0], tiny(augment="none"), taught.weights.preprocess)
    samples.taught = teacher.read(tmp_path / "taught" / teacher.FILE, [p.name for p in samples.pairs])
    x, labels = (torch.stack(parts) for parts in zip(*(samples[0, i] for i in range(len(samples)))))
    with torch.no_grad():
        near, far = (
            float(losses.disagreement(m.net(x), labels[..., 1] / 255, labels[..., 0])) for m in (taught, alone)
        )
    assert near < far


def test_teachers_are_asked_once_and_a_resumed_run_hears_the_same(
    demo: Path, tmp_path: Path, tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, heard = tiny(**TAUGHT), Heard()
    fit(Job(recipe, demo, tmp_path / "whole", heard))
    assert heard.answers == 16, "two epochs of sixteen images"
    with pytest.raises(Stopped):
        fit(Job(recipe, demo, tmp_path / "halves", Heard(stop_at=6)))
    monkeypatch.setattr(teacher, "Teacher", None)  # the resumed run does without
    fit(Job(recipe, demo, tmp_path / "halves", resume=True))
    whole, halves = (checkpoint.read(tmp_path / n / checkpoint.NAME) for n in ("whole", "halves"))
    assert all(torch.equal(v, halves["net"][k]) for k, v in whole["net"].items())


@pytest.mark.parametrize("content", [b"PK\x03\x04 cut off", b""])
def test_damaged_answers_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / teacher.FILE).write_bytes(content)
    with pytest.raises(BadInput, match=r"taught\.npz is damaged"):
        teacher.read(tmp_path / teacher.FILE, ["a"])


def test_answers_for_other_data_are_refused(tmp_path: Path) -> None:
    path, answer = tmp_path / teacher.FILE, np.arange(6, dtype=np.uint8).reshape(2, 3)
    teacher.write(path, ["file", "b"], [answer, answer + 1])
    assert np.array_equal(teacher.read(path, ["b", "file"])[0], answer + 1)
    with pytest.raises(BadInput, match="of other data"):
        teacher.read(path, ["c"])


def test_the_estimate_counts_the_answers(demo: Path, tmp_path: Path, tiny: Make) -> None:
    asked, network = estimate(Job(tiny(**TAUGHT), demo, tmp_path), count=1000, seconds=0.0)
    assert (asked.stage, asked.images, network.stage) == ("teachers", 1000, "network")
    assert asked.images_per_second > 0


def test_teachers_that_do_not_fit_are_refused(demo: Path, tmp_path: Path, tiny: Make) -> None:
    with pytest.raises(BadInput, match="belong together"):
        build({"model": "sinet", "teachers": ["sinet.lightseg"]})
    with pytest.raises(UnknownName, match=r"lightsek.*did you mean lightseg"):
        fit(Job(tiny(teachers=["sinet.lightsek"], teacher_weight=1.0), demo, tmp_path))
    with pytest.raises(BadInput, match="more than two classes"):
        Teacher(tiny(teachers=["c3netv2.camvid"], teacher_weight=1.0), CPU)
