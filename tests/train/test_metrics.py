from __future__ import annotations

import numpy as np
import pytest
import torch
import torchmetrics.functional as tmf

from lightseg.train import metrics


def maps(classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, (20, 30))
    predicted = np.where(rng.random((20, 30)) < 0.7, truth, rng.integers(0, classes, (20, 30)))
    truth[:4] = 255
    return predicted.astype(np.uint8), truth.astype(np.uint8)


def test_foreground_iou_is_torchmetrics_binary_jaccard() -> None:
    predicted, truth = maps(2)
    expected = tmf.jaccard_index(torch.tensor(predicted), torch.tensor(truth), task="binary", ignore_index=255)
    assert metrics.foreground_iou(predicted, truth) == pytest.approx(float(expected), abs=1e-7)


@pytest.mark.parametrize(
    ("predicted", "truth", "expected"),
    [([0, 0], [0, 0], 1.0), ([1, 0], [0, 0], 0.0), ([1, 1], [1, 0], 0.5), ([1, 1], [1, 255], 1.0)],
)
def test_foreground_iou_by_hand(predicted: list[int], truth: list[int], expected: float) -> None:
    assert metrics.foreground_iou(np.array([predicted]), np.array([truth])) == expected


@pytest.mark.parametrize("classes", [2, 19])
def test_mean_iou_is_torchmetrics_macro_jaccard(classes: int) -> None:
    predicted, truth = maps(classes)
    expected = tmf.jaccard_index(
        torch.tensor(predicted), torch.tensor(truth), task="multiclass", num_classes=classes, ignore_index=255
    )
    assert metrics.mean_iou(metrics.confusion(predicted, truth, classes)) == pytest.approx(float(expected), abs=1e-6)


def test_a_prediction_outside_the_table_counts_as_wrong() -> None:
    counts = metrics.confusion(np.array([[0, 19]]), np.array([[0, 0]]), 19)
    assert counts.sum() == 2
    assert metrics.class_ious(counts)[0] == 0.5


def test_the_mean_over_batches_is_not_the_metric() -> None:
    a, b = maps(3, 1), maps(3, 2)
    b[0][:] = 0
    summed = metrics.mean_iou(metrics.confusion(*a, 3) + metrics.confusion(*b, 3))
    batches = (metrics.mean_iou(metrics.confusion(*a, 3)) + metrics.mean_iou(metrics.confusion(*b, 3))) / 2
    both = [torch.tensor(np.stack(v)) for v in zip(a, b)]
    expected = tmf.jaccard_index(both[0], both[1], task="multiclass", num_classes=3, ignore_index=255)
    assert summed == pytest.approx(float(expected), abs=1e-6)
    assert abs(batches - summed) > 1e-3


def square(shift: int = 0) -> np.ndarray:
    out = np.zeros((40, 40), np.uint8)
    out[10:30, 10 + shift : 30 + shift] = 1
    return out


@pytest.mark.parametrize(("shift", "reach", "expected"), [(0, 1, 1.0), (2, 3, 1.0), (2, 2, 1.0)])
def test_boundary_f1_forgives_what_lies_within_reach(shift: int, reach: int, expected: float) -> None:
    assert metrics.boundary_f1(square(shift), square(), reach) == expected


def test_boundary_f1_by_hand() -> None:
    # both squares have 76 boundary pixels; shifted by 6, two horizontal runs of 14 meet, and with reach 1 one column
    # of each run's end more, as well as the crossings of the vertical sides
    a, b = square(6) == 1, square() == 1
    edge = {(y, x) for y in range(10, 30) for x in range(10, 30) if y in (10, 29) or x in (10, 29)}
    other = {(y, x + 6) for y, x in edge}
    near = {(y + dy, x + dx) for y, x in edge for dy, dx in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))}
    near_other = {(y + dy, x + dx) for y, x in other for dy, dx in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))}
    precision, recall = len(other & near) / 76, len(edge & near_other) / 76
    expected = 2 * precision * recall / (precision + recall)
    assert metrics.boundary_f1(a, b, 1) == pytest.approx(expected)


def test_boundary_f1_of_empty_maps() -> None:
    empty = np.zeros((40, 40), np.uint8)
    assert metrics.boundary_f1(empty, empty) == 1
    assert metrics.boundary_f1(square(), empty) == 0


def test_the_bootstrap_interval_is_the_normal_one_for_many_images() -> None:
    values = np.random.default_rng(0).normal(90, 5, 400)
    found = metrics.bootstrap(values, draws=4000)
    half = 1.96 * values.std() / 20
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.1)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1)
