"""The true thing, where there is a GPU: every kind of row against PyTorch in float64, clocks, graphs, read-backs."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightseg.benchmarks.cuda.making import make
from lightseg.benchmarks.cuda.nvidia import NOT_AVAILABLE, ask, gpu_facts
from lightseg.benchmarks.cuda.runner import PlacedRunner
from lightseg.benchmarks.selection import artifact_subjects, eager_subject
from lightseg.benchmarks.timing.latency import Protocol
from lightseg.benchmarks.timing.measure import measure
from lightseg.benchmarks.timing.proofs import repeat, with_proofs
from lightseg.benchmarks.timing.subject import Subject
from lightseg.benchmarks.timing.ways import Ways, expanded
from lightseg.export.targets import TARGETS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA device here"),
]
SIZE = (64, 64)
ALL = Ways("cuda", ("eager", "compile"), ("fp32", "tf32", "fp16"), (False, True), (1, 4))
FILES = Ways("cuda", precisions=("fp32", "tf32"), graphs=(False, True))


def model_rows() -> list[Subject]:
    return expanded([eager_subject("sinet", "random", SIZE)], ALL, print) if torch.cuda.is_available() else []


def row_name(subject: Subject) -> str:
    return f"{subject.runtime} {subject.precision} {subject.shape[0]}"


def images(subject: Subject) -> list[Any]:
    return [np.random.default_rng(i).standard_normal(subject.shape).astype(np.float32) for i in (0, 1)]


def file_rows(target: str, folder: Path) -> list[Subject]:
    """Rows of a small file; skips with the reason where it cannot be written or compiled for this GPU."""
    from lightseg.errors import LightsegError
    from lightseg.export import export
    from lightseg.zoo import create_model

    if reason := TARGETS[target].why_not_convert() or TARGETS[target].why_not_load():
        pytest.skip(reason)
    try:
        path = export(create_model("sinet", "random"), target, folder, input_size=SIZE).path
    except LightsegError as error:
        pytest.skip(str(error))
    return expanded([artifact_subjects([path])[1]], FILES, print)


def made(subject: Subject) -> PlacedRunner:
    from lightseg.errors import Unsupported

    try:
        return make(subject, 1)
    except Unsupported as error:
        pytest.skip(str(error))


@cache
def proven(folder: Path) -> list[Subject]:
    return with_proofs(model_rows(), folder, print)


@pytest.mark.parametrize("index", range(len(model_rows())), ids=lambda i: row_name(model_rows()[i]))
def test_a_model_answers_as_float64_does_on_the_processor(index: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    subject = proven(tmp_path_factory.getbasetemp())[index]
    runner = make(subject, 1)
    assert repeat(subject, runner)["wrong"] == ""
    wanted = "on" if subject.precision == "tf32" else "off"
    assert runner.details["tf32"] == f"matmul {wanted}, conv {wanted}"


@pytest.mark.parametrize("target", ["onnx", "tensorrt_rtx", "tensorrt"])
def test_a_file_repeats_its_goldens_on_the_gpu(target: str, tmp_path: Path) -> None:
    for subject in file_rows(target, tmp_path):
        runner = made(subject)
        if subject.precision == "fp32":  # a float32 file's limits are not TF32's
            assert repeat(subject, runner)["wrong"] == ""
        if target == "onnx":
            assert runner.details["provider"].startswith("CUDAExecutionProvider")
            assert runner.details["fallback nodes"].startswith("0")
            assert runner.details["tf32"] == str(int(subject.precision == "tf32"))
            assert runner.details["cuda graph"] == str(int(subject.graph))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("code", ["eager", "compile"])
def test_a_replayed_graph_equals_its_launches_bit_for_bit(code: str, precision: str) -> None:
    how = Ways("cuda", (code,), (precision,), (False, True))
    plain, recorded = expanded([eager_subject("sinet", "random", SIZE)], how, print)
    one, two = make(plain, 1), make(recorded, 1)
    for x in (*images(plain), images(plain)[0]):
        np.testing.assert_array_equal(one(x), two(x))


@pytest.mark.parametrize("graph", [False, True])
def test_the_device_takes_no_longer_than_the_call(graph: bool) -> None:
    from time import perf_counter_ns

    (subject,) = expanded([eager_subject("sinet", "random", SIZE)], Ways("cuda", graphs=(graph,)), print)
    runner = make(subject, 1)
    for x in images(subject) * 3:
        runner(x)
    runner.feed(images(subject)[0])
    begin = perf_counter_ns()
    runner.run()
    host = perf_counter_ns() - begin
    assert runner.device_ns is not None and 0 < runner.device_ns() <= host
    assert runner.copies_ns is not None and all(ns > 0 for ns in runner.copies_ns())
    assert {"device", "capability", "cuda"} <= runner.details.keys()


def test_a_row_from_a_fresh_process(tmp_path: Path) -> None:
    """The whole way, as lightseg-bench goes it: goldens, device clock, copies, no word about the core."""
    from lightseg.benchmarks.timing.environment import quiet_cores

    (subject,) = expanded([eager_subject("sinet", "random", SIZE)], Ways("cuda", graphs=(True,)), print)
    (subject,) = with_proofs([subject], tmp_path, print)
    row = measure(subject, Protocol(samples=50, seconds=0.2, processes=1, warmup_seconds=2.0), quiet_cores(1))
    assert not row.invalid
    device = row.latency("device")
    assert device is not None and device.median <= row.run.median
    assert row.processes[0].apart["transfer"]["there_ns"]
    assert not any("held the core" in reason for reason in row.noise)
    assert row.processes[0].sampled["device_states"][0].keys() >= {"clock_mhz", "throttling"}


def test_a_batch_is_answered_image_by_image() -> None:
    (one,) = expanded([eager_subject("sinet", "random", SIZE)], Ways("cuda", graphs=(True,)), print)
    x = images(replace(one, shape=(4, *one.shape[1:])))[0]
    many = make(replace(one, shape=x.shape), 1)(x)
    single = make(one, 1)
    for index in range(4):
        want = single(x[index : index + 1])
        np.testing.assert_allclose(many[index : index + 1], want, atol=1e-4 * np.abs(want).max())


def test_the_driver_tells_name_and_clocks() -> None:
    if ask(["name"]) is None:
        pytest.skip("no nvidia-smi here")
    facts = gpu_facts()
    assert facts["gpu"]["name"] != NOT_AVAILABLE and facts["gpu_state"]["clock_mhz"] != NOT_AVAILABLE
