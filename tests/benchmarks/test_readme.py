"""README's tables come from the declared models, and kinds of figures stay apart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lightseg.benchmarks import readme, readme_cli
from lightseg.errors import BadInput
from lightseg.spec import Figure
from lightseg.zoo import MODELS

EMPTY = "before\n<!-- table models -->\n<!-- end -->\nbetween\n<!-- table weights -->\nold\n<!-- end -->\nafter\n"


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_a_row_with_its_counts(name: str) -> None:
    (row,) = (line for line in readme.models_table() if line.startswith(f"| `{name}` |"))
    assert f"| {MODELS[name].params:,} |" in row
    assert MODELS[name].published["macs"].source in row


def test_tables_are_rectangular() -> None:
    for make in readme.TABLES.values():
        assert len({line.count("|") for line in make()}) == 1


def test_measured_and_published_figures_never_share_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = MODELS["sinet"]
    figures = {"a": Figure(1.0, "%", "measured, on X"), "b": Figure(2.0, "%", "Somebody 2020")}
    weights = (replace(spec.weights[0], figures=figures),)
    monkeypatch.setattr(readme, "MODELS", {"sinet": replace(spec, weights=weights)})
    row = readme.weights_table()[-1]
    *_, published, measured, _ = (cell.strip() for cell in row.split("|"))
    assert (published, measured) == ("2 % (Somebody 2020)", "1 % (on X)")


def test_tables_replace_what_stood_between_the_marks() -> None:
    text = readme.with_tables(EMPTY)
    assert "old" not in text
    assert [line for line in text.splitlines() if not line.startswith("|")] == EMPTY.replace("old\n", "").splitlines()
    assert readme.with_tables(text) == text


def test_a_missing_place_is_named() -> None:
    with pytest.raises(BadInput, match="<!-- table models -->"):
        readme.with_tables("nothing here")


def test_refresh_says_whether_anything_changed(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text(EMPTY)
    assert readme.refresh(file)
    assert not readme.refresh(file)
    assert readme_cli.main(["--write", str(file)]) == 0


def test_a_readme_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert readme_cli.main(["--write", str(tmp_path / "absent.md")]) == 1
    assert "cannot read" in capsys.readouterr().err


def test_the_command_prints_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert readme_cli.main([]) == 0
    assert "| `sinet` |" in capsys.readouterr().out
    assert readme_cli.main(["--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(readme.TABLES)
