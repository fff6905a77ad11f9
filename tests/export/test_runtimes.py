"""A second runtime of a format: asked for by name, independent, of one opinion with the first."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lightseg.errors import BadInput, MissingExtra, ParityError, UnknownName, Unsupported
from lightseg.export import load, verify, verify_cli
from lightseg.export.targets import TARGETS
from lightseg.export.targets.target import Runtime
from lightseg.export.targets.tflite import load as load_in_litert
from lightseg.zoo import MODELS
from tests.export.conftest import Exported
from tests.export.subjects import images

ONE = [name for name, target in TARGETS.items() if not target.second_opinions]
PORTRAITS = [name for name, spec in MODELS.items() if spec.task == "portrait"]
SECOND = [
    pytest.param(model, precision, target.name, runtime, marks=[pytest.mark.slow] * (precision == "int8"))
    for target in TARGETS.values()
    for runtime in target.second_opinions
    for precision in target.precisions
    for model in PORTRAITS
]


@pytest.mark.parametrize(("model", "precision", "target", "runtime"), SECOND)
def test_both_runtimes_agree(model: str, precision: str, target: str, runtime: str, exported: Exported) -> None:
    """Far closer to each other than either has to be to PyTorch."""
    for module in TARGETS[target].second_opinions[runtime].needs:
        pytest.importorskip(module, reason=f"{module} is not installed: pip install 'lightseg[{runtime}]'")
    artifact = exported(model, target, precision=precision)
    found = verify(artifact.path, runtime=runtime)
    assert found.goldens and found.runner["runtime"] == runtime
    x = images(model).float().numpy()
    first, second = (np.array(load(artifact.path, runtime=name)(x)) for name in (None, runtime))
    assert np.abs(first - second).max() <= 2e-5 * np.abs(first).max()


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second runtime of TFLite files that is installed everywhere, and one that is nowhere."""
    others = {
        "stub": Runtime(load_in_litert, ("ai_edge_litert",), "tflite"),
        "nowhere": Runtime(load_in_litert, ("no_such_module",), "nowhere"),
    }
    monkeypatch.setitem(TARGETS, "tflite", replace(TARGETS["tflite"], second_opinions=others))


def test_a_runtime_is_asked_for_by_name(stub: None, exported: Exported, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(exported("sinet", "tflite").path)
    assert verify_cli.main([path, "--runtime", "stub"]) == 0
    assert "proven" in capsys.readouterr().out
    for name, said in (("nowhere", "pip install 'lightseg[nowhere]'"), ("stubb", "did you mean stub")):
        assert verify_cli.main([path, "--runtime", name]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and said in error


def test_every_word_that_is_wrong_has_its_error(stub: None, exported: Exported) -> None:
    path = exported("sinet", "tflite").path
    for name, kind in (("nowhere", MissingExtra), ("other", UnknownName)):
        with pytest.raises(kind):
            load(path, runtime=name)


@pytest.mark.parametrize("target", ONE)
def test_a_format_with_one_runtime_says_so(target: str) -> None:
    with pytest.raises(Unsupported, match="has one runtime; leave out --runtime other"):
        load(f"file{TARGETS[target].suffix}", runtime="other")


def test_a_second_opinion_may_differ(stub: None, exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof is repeated with the second runtime's answers."""
    path = exported("sinet", "tflite").path

    def wrong(file: Path, threads: int) -> object:
        runner = load_in_litert(file, threads)
        monkeypatch.setattr(type(runner), "fetch", lambda self: np.zeros((1, 2, 96, 64), np.float32))
        return runner

    others = {"wrong": Runtime(wrong, (), "")}  # type: ignore[arg-type]
    monkeypatch.setitem(TARGETS, "tflite", replace(TARGETS["tflite"], second_opinions=others))
    with pytest.raises(ParityError, match="golden output"):
        verify(path, runtime="wrong")


def test_a_damaged_file_names_the_runtime(exported: Exported, tmp_path: Path) -> None:
    path = Path(shutil.copy(exported("sinet", "tflite").path, tmp_path))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(BadInput, match="does not load in LiteRT"):
        load(path)
