"""Names: what is found, and what is suggested where nothing is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lightseg.errors import BadInput, LightsegError, MissingExtra, UnknownName
from lightseg.zoo import MODELS, create_model


@pytest.mark.parametrize("name", MODELS)
def test_default_and_named_weights(name: str, released: Path) -> None:
    named = create_model(f"{name}.clova")
    assert named.weights.tag == "clova" and not named.training and named.spec is MODELS[name]
    assert create_model(name).weights == MODELS[name].weights[0]
    assert create_model(name, weights="clova").weights == named.weights
    assert all(p.dtype == torch.float32 for p in named.parameters())


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [("sinnet", "sinet"), ("SINet", "sinet"), ("c3net_v2", "c3netv2"), ("extremec3", "extremec3net")],
)
def test_unknown_model_suggests_the_nearest(wrong: str, nearest: str) -> None:
    with pytest.raises(UnknownName, match="did you mean") as error:
        create_model(wrong)
    assert nearest in error.value.nearest


def test_unknown_model_far_from_all_lists_all() -> None:
    with pytest.raises(UnknownName) as error:
        create_model("zzz")
    assert all(name in str(error.value) for name in MODELS)


def test_a_file_in_a_names_place(tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").touch()
    with pytest.raises(BadInput, match=r"mine\.safetensors is a file, .*--weights FILE.*--artifact FILE"):
        create_model(str(tmp_path / "mine.safetensors"))


def test_unknown_weights() -> None:
    with pytest.raises(UnknownName, match=r"unknown weights of sinet 'clovas'; did you mean clova\?"):
        create_model("sinet.clovas")
    with pytest.raises(UnknownName, match=r"choose from: .*clova.*random"):
        create_model("sinet", weights="qqqqqq")


def test_a_name_with_a_dot_is_a_file() -> None:
    with pytest.raises(LightsegError, match=r"no weights file mine\.pt"):
        create_model("sinet", weights="mine.pt")


def test_missing_extra_says_what_to_type() -> None:
    assert "pip install 'lightseg[tflite]'" in str(MissingExtra("--to tflite", "tflite", "ai-edge-litert"))
