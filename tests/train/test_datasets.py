from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch.utils.data import DataLoader

from lightseg.catalogue import CITY_INPUT
from lightseg.errors import BadInput
from lightseg.spec import Preprocess
from lightseg.train import augment
from lightseg.train.augment import AUGMENTATIONS, Image, replace_background, settled, squeeze
from lightseg.train.datasets import Order, Samples, read, to_tensor
from lightseg.train.layouts import LAYOUTS, Pair, find_pairs
from lightseg.train.recipe import Recipe

Make = Callable[..., Recipe]


def test_the_input_is_normalised_in_the_weights_channel_order() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[..., 0] = 200  # red
    x = to_tensor(image, Preprocess("BGR", (0, 0, 100), (1, 1, 50)))
    assert x[:, 0, 0].tolist() == [0, 0, 2]


def test_ranks_share_the_batches_of_one_process() -> None:
    whole = list(Order(20, 6, seed=1))
    halves = [list(Order(20, 6, seed=1, rank=r, world=2)) for r in range(2)]
    assert len(whole) == 3
    assert [sorted(a + b) for a, b in zip(*halves)] == [sorted(b) for b in whole]


def test_a_resumed_order_is_the_rest_of_the_order() -> None:
    order = Order(20, 4, seed=1)
    whole = list(order)
    order.start = 3
    assert list(order) == whole[3:]
    order.start, order.epoch = 0, 1
    assert [i for b in order for _, i in b] != [i for b in whole for _, i in b]


def test_every_pair_is_seen_once_per_pass() -> None:
    keys = [key for batch in Order(12, 4, seed=0, passes=3) for key in batch]
    assert sorted(keys) == [(turn, i) for turn in range(3) for i in range(12)]


@pytest.mark.parametrize(("count", "batch", "world"), [(3, 4, 1), (8, 3, 2)])
def test_batches_that_cannot_be_filled_are_refused(count: int, batch: int, world: int) -> None:
    with pytest.raises(BadInput, match="batch"):
        Order(count, batch, 0, world=world)


def test_scales_give_sizes_the_network_takes(demo: Path, tiny: Make) -> None:
    recipe = tiny(scales=[1.0, 0.6, 1.5], cache=False)
    samples = Samples(find_pairs("pairs", demo, "portrait_train"), recipe, CITY_INPUT, multiple=32)
    assert samples.sizes == [(64, 64), (32, 32), (96, 96)]
    assert samples[2, 0][0].shape == (3, 96, 96)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores, on a machine with one
@pytest.mark.parametrize("workers", [0, 2])
def test_samples_depend_on_the_key_alone(demo: Path, tiny: Make, workers: int) -> None:
    samples = Samples(find_pairs("pairs", demo, "portrait_train"), tiny(seed=5), CITY_INPUT)
    order = Order(len(samples), 4, seed=5)
    loader = DataLoader(samples, batch_sampler=order, num_workers=workers)
    for (x, y), keys in zip(loader, order):
        again = [samples[k] for k in keys]
        assert torch.equal(x, torch.stack([a for a, _ in again]))
        assert torch.equal(y, torch.stack([b for _, b in again]))
    assert not torch.equal(samples[0, 0][0], samples[1, 0][0])


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("seed", range(6))
def test_augmentations_keep_size_types_and_classes(demo: Path, tiny: Make, name: str, seed: int) -> None:
    samples = Samples(find_pairs("pairs", demo, "portrait_train"), tiny(), CITY_INPUT)
    before = samples.raw(0)[0].copy()
    rng = np.random.default_rng(seed)
    image, mask = AUGMENTATIONS[name](*samples.raw(0), (64, 96), rng, lambda: samples.raw(1))
    assert image.shape == (64, 96, 3) and mask.shape == (64, 96)
    assert image.dtype == mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 1, 255}
    assert np.array_equal(samples.raw(0)[0], before), "the image in memory was changed"


@pytest.mark.parametrize("name", ["portrait", "border_crop", "scale_crop", "none"])
@pytest.mark.parametrize("seed", range(4))
def test_image_and_mask_move_together(name: str, seed: int) -> None:
    mask = np.zeros((80, 60), np.uint8)
    mask[20:60, 15:40] = 1
    image = np.repeat(mask[..., None] * 255, 3, 2)
    out, moved = AUGMENTATIONS[name](image, mask, (64, 64), np.random.default_rng(seed), lambda: (image, mask))
    agree = ((out.mean(2) > 90) == (moved == 1))[moved != 255].mean()
    assert agree > 0.95


def test_the_recipe_s_zoom_is_the_range_of_scales(demo: Path, tiny: Make) -> None:
    """The person's share of the picture, with a zoom of a half and of two, over the same draws."""

    def share(zoom: float) -> float:
        samples = Samples(find_pairs("pairs", demo, "portrait_train"), tiny(zoom=[zoom, zoom]), CITY_INPUT)
        return float(np.mean([samples[turn, i][1].numpy().mean() for turn in range(3) for i in range(16)]))

    assert share(0.5) < 0.9 * share(1.0) < 0.8 * share(2.0)


@pytest.mark.parametrize("name", ["portrait", "border_crop"])
def test_left_and_right_change_places_and_up_and_down_never(name: str) -> None:
    """The authors' C3 code flips upside down."""
    up, left = (np.indices((64, 64))[axis] < 32 for axis in (0, 1))
    mask = (up * 2 + left).astype(np.uint8)
    image = np.dstack([mask * 80] * 3)
    flipped = 0
    for seed in range(40):
        moved = AUGMENTATIONS[name](image, mask, (64, 64), np.random.default_rng(seed), lambda: (image, mask))[1]
        assert (moved[:24] & 2).mean() > (moved[40:] & 2).mean()
        flipped += (moved[:, :24] & 1).mean() < (moved[:, 40:] & 1).mean()
    assert 8 < flipped < 32


@pytest.mark.parametrize("shape", [(512, 384), (352, 264), (450, 447)])
def test_turned_and_scaled_masks_lie_where_their_images_lie(shape: tuple[int, int]) -> None:
    """As below, for the geometry of `portrait`."""
    apart = []
    for seed in range(60):
        mask = (np.indices(shape)[seed % 2] < shape[seed % 2] // 2).astype(np.uint8)
        image = np.dstack([mask * 255] * 3)
        small, label = augment._affine(image, mask, (224, 224), np.random.default_rng(seed), (0.8, 1.45))
        apart.append((label.sum() - small[..., 0].sum() / 255) / 224)
    assert abs(np.mean(apart)) < 0.05, "pixels"


@pytest.mark.parametrize("size", [(512, 384), (354, 266), (352, 264), (450, 447), (100, 130)])
def test_resized_masks_lie_where_their_images_lie(size: tuple[int, int]) -> None:
    """The edge of a half-plane at every place: where the image crosses half grey, so does the mask, on average."""
    for axis in (0, 1):
        apart = []
        for edge in range(size[axis] // 4, 3 * size[axis] // 4):
            mask = (np.indices(size)[axis] < edge).astype(np.uint8)
            small, label = squeeze(np.dstack([mask * 255] * 3), mask, (224, 224))
            soft = small[..., 0].mean(1 - axis) / 255
            apart.append(float(label.mean(1 - axis).sum() - soft.sum()))
        assert abs(np.mean(apart)) < 0.05, "pixels of the small image; half of one with cv2.INTER_NEAREST"


def test_a_new_background_leaves_the_person_alone() -> None:
    rng = np.random.default_rng(0)
    image, other = (np.full((60, 60, 3), v, np.uint8) for v in (200, 50))
    mask = np.zeros((60, 60), np.uint8)
    mask[15:45, 15:45] = 1
    out, same = replace_background(image, mask, other, np.zeros_like(mask), rng)
    assert np.array_equal(same, mask)
    assert (out[20:40, 20:40] == 200).all()
    assert (np.abs(out[:5].astype(int) - 50) <= 1).all()


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("seed", range(8))
def test_what_a_teacher_said_moves_with_the_label_to_the_pixel(demo: Path, tiny: Make, name: str, seed: int) -> None:
    """Eight seeds of "portrait" meet the exchange of backgrounds too: no pixel may keep a person who left."""
    samples = Samples(find_pairs("pairs", demo, "portrait_train"), tiny(), CITY_INPUT)
    image, mask = samples.raw(seed)
    both = np.dstack([mask, 200 * (mask == 1).astype(np.uint8)])

    def drawn(labels: Image) -> tuple[Image, Image]:
        rng = np.random.default_rng(seed)
        return AUGMENTATIONS[name](image, labels, (64, 96), rng, lambda: samples.raw(int(rng.integers(16))))

    (alone, label), (together, moved) = drawn(mask), drawn(both)
    assert np.array_equal(alone, together) and np.array_equal(label, moved[..., 0])
    assert np.array_equal(moved[..., 1], 200 * (label == 1))


def test_a_new_background_takes_what_the_teacher_saw_in_the_old_one() -> None:
    image, mask = np.full((60, 60, 3), 200, np.uint8), np.zeros((60, 60), np.uint8)
    mask[15:45, 15:45] = 1
    both = np.dstack([mask, np.full((60, 60), 90, np.uint8)])
    _, after = replace_background(image, both, image, both, np.random.default_rng(0))
    assert np.array_equal(after[..., 0], mask) and np.array_equal(after[..., 1], 90 * mask)


def test_the_end_of_a_run_sees_calm_images(demo: Path, tiny: Make) -> None:
    recipe = tiny(epochs=4, settle=0.5)
    samples = Samples(find_pairs("pairs", demo, "portrait_train"), recipe, CITY_INPUT)
    expected = settled(*samples.raw(3), (64, 64), np.random.default_rng((0, 2, 3)), lambda: samples.raw(0))
    assert torch.equal(samples[2, 3][0], to_tensor(expected[0], CITY_INPUT))
    assert not torch.equal(samples[1, 3][0], samples[2, 3][0])


def test_a_palette_is_read_by_its_indices_and_colours_are_refused(tmp_path: Path) -> None:
    pair = Pair("a", tmp_path / "a.png", tmp_path / "a_mask.png")
    PIL.Image.new("RGB", (8, 8)).save(pair.image)
    numbers = np.repeat(np.arange(8, dtype=np.uint8), 8).reshape(8, 8)
    file = PIL.Image.fromarray(numbers, "P")
    file.putpalette([v for i in range(256) for v in (i * 37 % 256, i * 91 % 256, i * 53 % 256)])
    file.save(pair.mask)
    assert np.array_equal(read(pair, "camvid")[1], LAYOUTS["camvid"].table[numbers])
    file.convert("RGB").save(pair.mask)
    with pytest.raises(BadInput, match=r"a_mask\.png is coloured"):
        read(pair, "camvid")


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "RGBA", "P", "I;16"])
def test_black_and_white_is_a_mask_however_it_is_stored(mode: str, tmp_path: Path) -> None:
    pair = Pair("a", tmp_path / "a.png", tmp_path / "a_mask.png")
    PIL.Image.new("RGB", (8, 8)).save(pair.image)
    person = np.arange(64).reshape(8, 8) % 3 == 0
    file = PIL.Image.fromarray(person.astype(np.uint8) * 255)
    if mode == "I;16":
        file = PIL.Image.fromarray(person.astype(np.uint16) * 65535)
    elif mode == "P":
        file = PIL.Image.fromarray(person.astype(np.uint8), "P")
        file.putpalette([0, 0, 0, 255, 255, 255])
    else:
        file = file.convert(mode)
    file.save(pair.mask)
    assert np.array_equal(read(pair)[1], person)


@pytest.mark.parametrize(("layout", "refused"), [("pairs", True), ("eg1800", True), ("camvid", False)])
def test_masks_of_zeros_and_ones_are_not_taken_for_background(layout: str, refused: bool, tmp_path: Path) -> None:
    pair = Pair("a", tmp_path / "a.png", tmp_path / "a_mask.png")
    PIL.Image.new("RGB", (8, 8)).save(pair.image)
    values = np.zeros((8, 8), np.uint8)
    values[:4] = 1
    PIL.Image.fromarray(values).save(pair.mask)
    if refused:
        with pytest.raises(BadInput, match=rf"a_mask\.png has values up to 1; layout {layout} takes 0, and 255"):
            read(pair, layout)
    else:
        assert len(np.unique(read(pair, layout)[1])) == 2
    PIL.Image.fromarray(values * 0).save(pair.mask)
    assert len(np.unique(read(pair, layout)[1])) == 1  # a picture without a person is one
