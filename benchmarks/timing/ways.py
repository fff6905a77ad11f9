"""The ways networks are run, as the options say: every combination that a device has is a row."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

from lightseg.benchmarks.timing.subject import PEER, Device, Subject
from lightseg.errors import BadInput, UnknownName

EAGER, COMPILED = "PyTorch eager", "torch.compile"
GRAPH = " + CUDA graph"
TORCH = {"eager": EAGER, "compile": COMPILED}
"""What ``--torch`` takes, and what tables call it."""
GRAPHS = {"on": (True,), "off": (False,), "both": (False, True)}
TORCH_PRECISIONS = {"cpu": ("fp32",), "cuda": ("fp32", "tf32", "fp16")}
"""What models in PyTorch are measured in; half precision on a processor is nobody's way."""
PRECISIONS = ("fp32", "tf32", "fp16", "int8")
CUDA_FILES = (".onnx", ".tensorrt", ".tensorrt_rtx")
FASTER_PRODUCTS = "tf32"
"""No precision of a file: how a GPU multiplies what a float32 file holds."""


@dataclass(frozen=True)
class Ways:
    """One field per choice, each with all that was asked for."""

    device: Device = "cpu"
    torch: tuple[str, ...] = ("eager",)
    precisions: tuple[str, ...] = ("fp32",)
    graphs: tuple[bool, ...] = (False,)
    batches: tuple[int, ...] = ()
    """Empty for the one a subject has."""

    @property
    def written(self) -> tuple[str, ...]:
        """Precisions that files are exported in."""
        names = ["fp32" if name == FASTER_PRODUCTS else name for name in self.precisions]
        return tuple(dict.fromkeys(names))


def ways(args: argparse.Namespace) -> Ways:
    """The options as `Ways`; on a GPU everything PyTorch has unless less was asked for. Errors: `UnknownName`."""
    cuda = args.device == "cuda"
    for name in args.precision:
        if name not in PRECISIONS:
            raise UnknownName("precision", name, PRECISIONS)
    return Ways(
        device="cuda" if cuda else "cpu",
        torch=tuple(args.torch or (TORCH if cuda else ["eager"])),
        precisions=tuple(args.precision),
        graphs=GRAPHS[args.graphs or "both"] if cuda else (False,),
        batches=tuple(args.batch),
    )


def expanded(subjects: Sequence[Subject], how: Ways, announce: Callable[[str], None]) -> list[Subject]:
    """Every subject in every way it has. Errors: `BadInput` for a file that nothing runs on a GPU."""
    rows: list[Subject] = []
    for subject in subjects:
        rows += torch_rows(subject, how) if subject.path is None else file_rows(subject, how, announce)
    return rows


def torch_rows(subject: Subject, how: Ways) -> list[Subject]:
    """A model in PyTorch, ``subject``, in every way."""
    names = [name for name in how.precisions if name in TORCH_PRECISIONS[how.device]] or ["fp32"]
    batches = how.batches or subject.shape[:1]
    return [
        replace(
            subject,
            runtime=TORCH[code] + GRAPH * graph + PEER * subject.runtime.endswith(PEER),
            shape=(batch, *subject.shape[1:]),
            precision=precision,
            device=how.device,
            compiled=code == "compile",
            graph=graph,
        )
        for batch, precision, code, graph in product(batches, names, how.torch, how.graphs)
    ]


def file_rows(subject: Subject, how: Ways, announce: Callable[[str], None]) -> list[Subject]:
    """An artifact, ``subject``, in every way; batches it does not take are announced and left out.

    Errors: `BadInput` for a file that nothing runs on a GPU.
    """
    suffix = "." + (subject.path or "").rpartition(".")[2]
    if how.device == "cuda" and suffix not in CUDA_FILES:
        raise BadInput(f"{subject.path}: --device cuda runs {', '.join(CUDA_FILES)} files; use --device cpu for others")
    asked = how.batches or subject.shape[:1]
    batches = [batch for batch in asked if subject.any_batch or batch == subject.shape[0]]
    left = [str(batch) for batch in asked if batch not in batches]
    if left:
        announce(f"{subject.name} takes batches of {subject.shape[0]}: no rows for {', '.join(left)}")
    return [
        replace(
            subject,
            runtime=subject.runtime + GRAPH * graph,
            shape=(batch, *subject.shape[1:]),
            precision=precision,
            device=how.device,
            graph=graph,
        )
        for batch, precision, graph in product(batches, _products(subject, suffix, how), how.graphs)
    ]


def _products(subject: Subject, suffix: str, how: Ways) -> list[str]:
    """The file's own precision, and TF32 where it was asked for and ONNX Runtime runs a float32 file on a GPU."""
    plain = subject.output == "logits" and subject.preprocess is not None  # what TF32's limits are known of
    chooses = suffix == ".onnx" and how.device == "cuda" and subject.precision == "fp32" and plain
    asked = FASTER_PRODUCTS in how.precisions
    own = [] if chooses and asked and "fp32" not in how.precisions else [subject.precision]
    return own + [FASTER_PRODUCTS] * (chooses and asked)
