from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lightseg.errors import BadInput
from lightseg.spec import Preprocess
from lightseg.train import evaluate as scoring
from lightseg.train.layouts import LABEL_IDS, VOID, find_pairs
from lightseg.train.submission import label_ids, write_submission
from lightseg.zoo import create_model, find_spec

Array = NDArray[np.float32]
PLAIN = Preprocess("RGB", (0, 0, 0), (1, 1, 1))


def portraits(demo: Path) -> scoring.Task:
    pairs = find_pairs("pairs", demo, "portrait_val")
    return scoring.Task(pairs, "pairs", (64, 64), PLAIN, find_spec("sinet").labels)


def oracle(task: scoring.Task, wrong_rows: int = 0, channels: int = 2) -> scoring.Predict:
    """Answers with the truth, image by image in order, but calls the first rows background."""
    truths = iter([task.sample(p)[1] for p in task.pairs])

    def predict(x: Array) -> Array:
        truth = next(truths).copy()
        truth[:wrong_rows] = 0
        person = (truth == 1).astype(np.float32)[None, None] - 0.5
        return person if channels == 1 else np.concatenate([-person, person], 1)

    return predict


@pytest.mark.parametrize("channels", [1, 2])
def test_the_truth_scores_a_hundred(demo: Path, channels: int) -> None:
    task = portraits(demo)
    result = scoring.evaluate(oracle(task, channels=channels), task)
    assert result.score == result.miou == 100
    assert result.summary()["boundary_f1_3px"] == 100


def test_scores_are_those_of_a_hand_count(demo: Path) -> None:
    task = portraits(demo)
    result = scoring.evaluate(oracle(task, wrong_rows=40), task)
    for pair, iou in zip(task.pairs, result.iou):
        truth = task.sample(pair)[1]
        assert iou == pytest.approx(100 * truth[40:].sum() / truth.sum())
    assert scoring.worst(result, 2) == sorted(range(4), key=lambda i: result.iou[i])[:2]


def test_a_comparison_pairs_the_images(demo: Path, tmp_path: Path) -> None:
    task = portraits(demo)
    good = scoring.evaluate(oracle(task), task)
    bad = scoring.evaluate(oracle(task, wrong_rows=40), task)
    difference = scoring.compare(bad, good)
    assert difference["all"].mean == pytest.approx((good.iou - bad.iou).mean())
    assert difference["all"].low > 0 and difference.keys() == {"all", "generated"}
    scoring.write_per_image(tmp_path / "scores.csv", {"good": good, "bad": bad})
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(r["good_iou"]) for r in rows] == [100.0] * 4
    assert [float(r["bad_iou"]) for r in rows] == pytest.approx(bad.iou, abs=1e-3)
    shorter = scoring.Task(task.pairs[:2], task.layout, task.size, task.preprocess, task.labels)
    with pytest.raises(BadInput, match="different images"):
        scoring.compare(good, scoring.evaluate(oracle(shorter), shorter))


def test_agreement_is_that_of_a_hand_count(demo: Path) -> None:
    task = portraits(demo)
    good = scoring.evaluate(oracle(task), task)
    bad = scoring.evaluate(oracle(task, wrong_rows=40), task)
    found, lost = sum(int(m.sum()) for m in good.masks), sum(int(m[:40].sum()) for m in good.masks)
    pixels, empty = 64 * 64 * len(good.masks), 64 * 64 * len(good.masks) - found
    alike = scoring.agreement(good, bad)
    assert alike is not None and 0 < lost < found
    assert alike.same_class == pytest.approx(100 * (1 - lost / pixels))
    assert alike.mean_iou == pytest.approx(50 * ((found - lost) / found + empty / (empty + lost)))
    assert scoring.agreement(good, good) == scoring.Agreement(100.0, 100.0)
    larger = scoring.Task(task.pairs, task.layout, (96, 96), task.preprocess, task.labels)
    assert scoring.agreement(good, scoring.evaluate(oracle(larger), larger)) is None


def test_noise_moves_the_photograph_and_nothing_else(demo: Path) -> None:
    task = portraits(demo)
    noisy = replace(task, noise=2)
    for pair in task.pairs:
        (image, truth), (moved, same) = task.sample(pair), noisy.sample(pair)
        apart = moved.astype(int) - image
        assert abs(apart).max() == 2 and abs(apart.mean()) < 0.1 and np.array_equal(truth, same)
        assert np.array_equal(moved, noisy.sample(pair)[0]), "the same at every call"


def test_a_network_is_scored_as_any_function_is(demo: Path) -> None:
    net = create_model("sinet", "random").net
    task = portraits(demo)

    def function(x: Array) -> Array:
        with torch.no_grad():
            logits: Array = net(torch.from_numpy(x)).numpy()
        return logits

    by_network = scoring.evaluate(scoring.of_network(net), task)
    assert np.array_equal(by_network.iou, scoring.evaluate(function, task).iou)


def test_logits_of_the_wrong_shape_are_refused(demo: Path) -> None:
    with pytest.raises(BadInput, match=r"shape \(2, 64, 64\)"):
        scoring.evaluate(lambda x: np.zeros((2, 64, 64), np.float32), portraits(demo))


def test_streets_are_scored_over_camvid_s_classes(demo: Path) -> None:
    pairs = find_pairs("camvid", demo, "street_val")
    task = scoring.Task(pairs, "camvid", (64, 128), PLAIN, find_spec("c3net").labels)
    truths = iter([task.sample(p)[1] for p in pairs])

    def predict(x: Array) -> Array:
        truth = next(truths)
        fine = np.where(truth == 2, 3, truth)  # wall counts as building in CamVid
        logits: Array = (fine == np.arange(20)[:, None, None]).astype(np.float32)[None]
        return logits

    result = scoring.evaluate(predict, task)
    assert result.score == 100 and "iou_class_building" in result.summary()


def test_half_resolution_logits_are_enlarged() -> None:
    logits = np.zeros((19, 2, 2), np.float32)
    logits[3, :, 0] = 1
    logits[5, :, 1] = 1
    assert scoring.class_map(logits, 19, (4, 4)).tolist() == [[3, 3, 5, 5]] * 4


def test_the_label_map_of_the_server_is_inverted_by_reading_it_back() -> None:
    classes = np.arange(19, dtype=np.uint8)[None]
    assert label_ids(classes).tolist() == [list(LABEL_IDS)]
    assert label_ids(np.array([[19, VOID]], np.uint8)).tolist() == [[0, 0]]
    from lightseg.train.layouts import FROM_LABEL_IDS

    assert FROM_LABEL_IDS[label_ids(classes)].tolist() == classes.tolist()


def test_a_submission_has_the_server_s_names_sizes_and_values(tmp_path: Path) -> None:
    image = tmp_path / "test" / "berlin" / "berlin_000000_000019_leftImg8bit.png"
    image.parent.mkdir(parents=True)
    cv2.imwrite(str(image), np.full((1024, 2048, 3), 90, np.uint8))

    def predict(x: Array) -> Array:
        logits = np.zeros((1, 19, x.shape[2] // 2, x.shape[3] // 2), np.float32)
        logits[:, 13] = 1
        return logits

    (path,) = write_submission(predict, PLAIN, tmp_path / "test", tmp_path / "out", (128, 256))
    assert path.name == "berlin_000000_000019_pred_labelIds.png"
    read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert read is not None and read.shape == (1024, 2048) and set(np.unique(read)) == {26}
    with pytest.raises(BadInput, match="trainvaltest"):
        list(write_submission(predict, PLAIN, tmp_path, tmp_path / "out", (128, 256)))


def test_weights_of_the_same_name_keep_apart() -> None:
    names = ["runs/a/sinet.safetensors", "runs/b/sinet.safetensors", "clova", "mine.safetensors", "sinet.lightseg"]
    found = list(scoring.short_names(names).values())
    assert found == ["runs-a-sinet.safetensors", "runs-b-sinet.safetensors", "clova", "mine", "sinet.lightseg"]
