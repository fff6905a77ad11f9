"""What is measured apart from the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lightseg.benchmarks.timing import passes
from lightseg.benchmarks.timing.energy import Counter, find_counter, measure_energy
from lightseg.benchmarks.timing.opening import own_photographs, pack_photographs, sized_photographs
from lightseg.benchmarks.timing.passes import FEWEST, peak_memory, time_masks, time_transfers
from lightseg.benchmarks.timing.subject import Subject
from lightseg.spec import PORTRAIT
from tests.benchmarks.timing.test_child import Array, FakeRunner

SUBJECT = Subject("a", "onnx", (1, 3, 8, 8), None, path="a.onnx", labels=PORTRAIT.to_dict())


class Brightness(FakeRunner):
    """Two classes by the sign of the first channel, less 100."""

    def run(self) -> None:
        self.runs += 1
        plane = self.x[:, :1] - 100
        self.y: Array = np.concatenate([-plane, plane], 1)


def test_photographs_become_masks_at_their_own_size() -> None:
    runner = Brightness()
    answer = time_masks(runner, SUBJECT, None, 0.0)
    assert len(answer["samples_ns"]) == FEWEST
    assert runner.runs == FEWEST + 2
    assert answer["photo_sizes"] == [[512, 512]] * 8
    assert answer["reason"] == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"labels": None}, "what another network's outputs mean"),
        ({"output": "mask"}, "returns a mask"),
        ({"shape": (4, 3, 8, 8)}, "a batch"),
    ],
)
def test_a_mask_that_cannot_be_made_says_why(change: dict[str, object], reason: str) -> None:
    answer = time_masks(Brightness(), replace(SUBJECT, **change), None, 0.0)  # type: ignore[arg-type]
    assert answer["samples_ns"] == []
    assert reason in answer["reason"] and answer["reason"].startswith("not applicable")


def test_without_pillow_the_reason_is_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "find_spec", lambda name: None)
    assert "pip install pillow" in time_masks(Brightness(), SUBJECT, None, 0.0)["reason"]


def test_transfers_belong_to_devices_with_a_memory_of_their_own() -> None:
    runner, inputs = Brightness(), [np.zeros((1, 3, 8, 8), np.float32)] * 3
    assert "not applicable" in time_transfers(runner, SUBJECT, inputs, 0.0)["reason"]
    runner(inputs[0])
    answer = time_transfers(runner, replace(SUBJECT, device="cuda"), inputs, 0.0)
    assert len(answer["samples_ns"]) == FEWEST
    assert runner.runs == 1  # copies only


def test_peak_memory_is_this_program_s() -> None:
    """Not that of whoever started it: the figure must follow what is taken here."""
    before = peak_memory()
    block = np.ones(64 * 1024 * 1024, np.uint8)
    after = peak_memory()
    assert before and after and block[-1] == 1
    assert after - before > 30e6 or after > 1e9


def test_packed_photographs_are_the_same(tmp_path: Path) -> None:
    pack_photographs(None, 4, (16, 24), tmp_path)
    pack_photographs(None, 4, None, tmp_path)
    for packed, made in (
        (sized_photographs(str(tmp_path), 4, (16, 24)), sized_photographs(None, 4, (16, 24))),
        (own_photographs(str(tmp_path)), own_photographs(None)),
    ):
        assert len(packed) == len(made)
        assert all(np.array_equal(a, b) for a, b in zip(packed, made, strict=True))
        assert len({photo.tobytes() for photo in packed}) == len(packed)


def rapl(system: Path, zones: int) -> None:
    for number in range(zones):
        folder = system / f"powercap/intel-rapl:{number}"
        folder.mkdir(parents=True)
        for name, text in (("name", f"package-{number}"), ("energy_uj", "5000000"), ("max_energy_range_uj", "9000000")):
            (folder / name).write_text(text + "\n")


@pytest.mark.parametrize("zones", [1, 2])
def test_the_processor_s_counter(tmp_path: Path, zones: int) -> None:
    rapl(tmp_path, zones)
    counter = find_counter(tmp_path)
    assert isinstance(counter, Counter)
    assert counter.joules() == 5.0 * zones


def test_a_counter_wraps() -> None:
    counter = Counter("c", lambda: 0.0, wraps=9.0)
    assert counter.spent(8.0, 1.0) == 2.0
    assert counter.spent(1.0, 8.0) == 7.0


@pytest.mark.parametrize(
    ("files", "joules"),
    [
        ({"energy_now": "1000000"}, 3600.0),
        ({"charge_now": "1000000", "voltage_now": "4000000"}, 14400.0),
    ],
)
def test_a_battery_gives_what_it_loses(tmp_path: Path, files: dict[str, str], joules: float) -> None:
    folder = tmp_path / "power_supply/BAT0"
    folder.mkdir(parents=True)
    for name, text in {"type": "Battery", "status": "Discharging", **files}.items():
        (folder / name).write_text(text + "\n")
    counter = find_counter(tmp_path)
    assert isinstance(counter, Counter)
    full = counter.joules()
    (folder / next(iter(files))).write_text("0\n")
    assert counter.spent(full, counter.joules()) == pytest.approx(joules)
    (folder / "status").write_text("Charging\n")
    assert "not available" in str(find_counter(tmp_path))


def test_an_unreadable_counter_is_not_available(tmp_path: Path) -> None:
    assert "neither" in str(find_counter(tmp_path))
    rapl(tmp_path, 1)
    (tmp_path / "powercap/intel-rapl:0/energy_uj").unlink()
    assert "administrator only" in str(find_counter(tmp_path))


def test_energy_is_told_with_and_without_the_idle_machine() -> None:
    """Two joules a second at rest, and half a joule more for every run."""
    import time

    runner, start = Brightness(), time.perf_counter()
    counter = Counter("c", lambda: 2 * (time.perf_counter() - start) + 0.5 * runner.runs)
    answer = measure_energy(runner, [np.zeros((1, 3, 8, 8), np.float32)], 0.02, lambda: counter, idle=0.02)
    assert answer["idle_watts"] == pytest.approx(2, rel=0.05)
    assert answer["joules_per_run_above_idle"] == pytest.approx(0.5, rel=0.05)
    assert answer["joules_per_run"] > answer["joules_per_run_above_idle"]
    assert measure_energy(runner, [], 1.0, lambda: "not available: why") == {"reason": "not available: why"}
