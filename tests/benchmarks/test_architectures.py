"""Peers that a package builds with random weights."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lightseg.benchmarks import cli
from lightseg.benchmarks.architectures import ARCHITECTURES, NOTE, architecture_subject, build
from lightseg.benchmarks.cuda.making import make
from lightseg.benchmarks.timing.mode import subjects
from lightseg.benchmarks.timing.proofs import needs_proof
from lightseg.errors import Unsupported


class Tiny(nn.Module):
    """Answers as the package's networks do: with a record."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, config.num_labels, 4, 4)

    def forward(self, x: torch.Tensor) -> Any:
        return SimpleNamespace(logits=self.conv(x))


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("MobileViT", "Segformer")
    made: dict[str, Any] = {f"{name}Config": SimpleNamespace for name in names}
    monkeypatch.setitem(
        sys.modules, "transformers", SimpleNamespace(**made, **{f"{n}ForSemanticSegmentation": Tiny for n in names})
    )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_row_that_says_what_it_is(name: str, package: None) -> None:
    args = cli.parser().parse_args(["--peers", f"selfie,{name}", "--input-size", "32x64", "--batch", "1,2"])
    rows = subjects(args, [], [], [], print)
    assert [row.shape for row in rows] == [(1, 3, 32, 64), (2, 3, 32, 64)]
    assert {(row.label, row.runtime, row.note) for row in rows} == {
        (ARCHITECTURES[name].label, "PyTorch eager (peer)", NOTE)
    }
    assert "architecture only, random weights" in NOTE and not needs_proof(rows[0])
    x = np.random.default_rng(0).uniform(0, 255, rows[1].shape).astype(np.float32)
    runner = make(rows[1], 1)
    assert runner(x).shape == (2, 21 if name == "mobilevit_xxs" else 19, 8, 16)
    np.testing.assert_array_equal(runner(x), make(rows[1], 1)(x))


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(Unsupported, match="is built by transformers"):
        build("segformer_b0")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")
@pytest.mark.parametrize(("name", "parameters"), [("segformer_b0", 3_719_027), ("mobilevit_xxs", 1_854_853)])
def test_the_published_architectures(name: str, parameters: int) -> None:
    assert sum(p.numel() for p in build(name).parameters()) == parameters


@pytest.mark.parametrize("argv", [["--device", "browser"], ["--against", "sinet"], ["--counters"]])
def test_only_pytorch_runs_them(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--peers", "segformer_b0", *argv])
    assert caught.value.code == 2 and "architectures in PyTorch" in capsys.readouterr().err


def test_the_published_size() -> None:
    assert architecture_subject("segformer_b0", None).shape == (1, 3, 512, 512)
