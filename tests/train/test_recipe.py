from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lightseg.errors import BadInput, LightsegError, UnknownName
from lightseg.train import recipe as recipes
from lightseg.train.layouts import LAYOUTS
from lightseg.zoo import find_spec


@pytest.mark.parametrize("name", recipes.available())
def test_every_recipe_of_the_package_is_whole(name: str) -> None:
    recipe = recipes.load(name)
    spec = find_spec(recipe.model)
    spec.check_size(recipe.height, recipe.width)
    assert recipe.layout in LAYOUTS
    assert recipe.init == "random" or recipe.init in {w.tag for w in spec.weights}
    assert (recipe.aux_weight > 0) == (recipe.model == "sinet_cityscapes")


@pytest.mark.parametrize("name", recipes.available())
def test_no_recipe_reads_images_smaller_than_it_trains_on(name: str) -> None:
    recipe = recipes.load(name)
    assert recipe.cache_size == 0 or recipe.cache_size >= max(recipe.scales) * max(recipe.height, recipe.width)


def test_the_issue_s_recipes_are_there() -> None:
    published = {"sinet_eg1800", "extremec3net_eg1800", "c3net_cityscapes", "c3netv2_cityscapes", "sinet_cityscapes"}
    ours = {"sinet_portrait", "extremec3net_portrait", "c3net_camvid", "c3netv2_camvid", "sinet_camvid"}
    assert published | ours <= set(recipes.available())


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("lr", "5e-4", 5e-4),
        ("lr", 1, 1.0),
        ("epochs", 3.0, 3),
        ("amp", True, True),
        ("scales", [1, 0.5], (1.0, 0.5)),
        ("scales", 2, (2.0,)),
        ("init", "clova", "clova"),
        ("layout", "camvid", "camvid"),
    ],
)
def test_values_are_brought_to_their_types(key: str, value: Any, expected: object) -> None:
    assert getattr(recipes.build({"model": "sinet", key: value}), key) == expected


@pytest.mark.parametrize(
    ("key", "value"),
    [("epochs", 2.5), ("epochs", "many"), ("amp", 1), ("lr", None), ("layout", "coco"), ("batch", True), ("lr", "x")],
)
def test_values_of_the_wrong_type_are_refused(key: str, value: Any) -> None:
    with pytest.raises(LightsegError, match=key):
        recipes.build({"model": "sinet", key: value})


def test_an_unknown_key_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean epochs"):
        recipes.load("sinet_portrait", ["epoch=3"])


def test_an_unknown_recipe_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="sinet_portrait"):
        recipes.load("sinet_portrat")


def test_an_override_needs_an_equals_sign() -> None:
    with pytest.raises(BadInput, match="key=value"):
        recipes.load("sinet_portrait", ["epochs"])


def test_the_saved_recipe_repeats_the_run(tmp_path: Path) -> None:
    recipe = recipes.load("c3net_cityscapes", ["epochs=7", "scales=[0.5,1]"])
    recipes.save(recipe, tmp_path / "recipe.yaml")
    assert recipes.load(str(tmp_path / "recipe.yaml")) == recipe


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"batch": 0}, "batch: 0 is not above zero"),
        ({"epochs": -1}, "epochs: -1 is not above zero"),
        ({"lr": "inf"}, "lr: inf is not above zero"),
        ({"clip": "nan"}, "clip: nan is not zero or more"),
        ({"workers": -1}, "workers: -1 is not zero or more"),
        ({"scales": []}, "scales is empty"),
        ({"zoom": [1.2, 0.8]}, r"zoom: \[1.2, 0.8\] is no smallest and largest scale"),
        ({"zoom": [1]}, r"zoom: \[1.0\] is no smallest and largest scale"),
        ({"scales": [1, 0]}, "scales: 0 is not above zero"),
        ({"holdout": 1}, "holdout: 1 is a share, from 0 to below 1"),
        ({"ema": 1.5}, "ema: 1.5 is a share"),
    ],
)
def test_numbers_no_run_could_use_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match=f"recipe key {said}"):
        recipes.build({"model": "sinet", **change})


def test_an_override_that_is_no_yaml_is_named() -> None:
    with pytest.raises(BadInput, match=r"'scales=\[1'.* scales=\[1,0.5\]"):
        recipes.load("sinet_portrait", ["scales=[1"])
