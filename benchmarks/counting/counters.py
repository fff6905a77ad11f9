"""What an artifact costs, exactly: whole numbers that the next run repeats, for a CI to hold against a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightseg.benchmarks.counting.instructions import Instructions, count_instructions, why_not
from lightseg.benchmarks.profile import count_file
from lightseg.benchmarks.timing.process import Failed
from lightseg.files import size_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

COUNTERS = {
    "params": "trained elements that operators read",
    "macs": "multiply-accumulates of convolutions and linear layers; FLOPs are twice as many",
    "operators": "all but views; operators.KIND of each kind but the two below",
    "layout": "operators that only move elements: transposes, gathers, slices, depth to space",
    "casts": "casts, quantisations and dequantisations",
    "partitions": "parts the delegate runs; more than one means copies in between",
    "artifact_bytes": "the file, or all files of the folder",
    "peak_tensor_bytes": "largest sum of live activations, operators in file order, every result in a new buffer",
    "instructions": "retired by one inference, one thread, counted by valgrind (x86-64, AVX2 at most)",
    "instructions_arm64": "retired by one inference of the ARM kernels in an emulated Cortex-A76; with --device arm64",
}
"""Every counter's name in JSON, in a budget and in the table, and what it counts."""
INSTRUCTIONS = ("instructions", "instructions_arm64")


@dataclass(frozen=True)
class Counters:
    """The counts of one artifact; a counter that cannot be read here is in ``missing`` with the reason."""

    name: str
    counts: dict[str, int]
    missing: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    """The runtime with its version and delegate, and who counted instructions."""

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def count_artifact(
    path: Path,
    counted: str | None = None,
    count: Callable[[Path, NDArray[Any]], Instructions] | None = None,
    instructions: bool = True,
) -> Counters:
    """Every counter of the artifact at ``path``, with a lightseg record or without.

    Instructions, which take some twenty seconds, are counted by valgrind where it is installed; ``counted`` and
    ``count`` name another counter, for instance the emulator's. They depend on the processor; without them what is
    left is the same on every machine.
    Errors: those of `count_file`; `BadInput` for a file its runtime does not load.
    """
    counts = counts_of_file(path)
    partitions, details = read_runtime(path)
    missing = {} if partitions is not None else {"partitions": f"{details['runtime']} has no delegate here"}
    if partitions is not None:
        counts["partitions"] = partitions
    if instructions:
        key = counted or "instructions"
        try:
            if count is None and (reason := why_not()):
                raise Failed(reason)
            found = (count or count_instructions)(path, one_input(path))
            counts[key] = found.count
            details |= {"counter": found.counter, "spread": f"{found.spread:.2%}"}
        except Failed as error:
            missing[key] = str(error)
    return Counters(path.name, counts, missing, details)


def counts_of_file(path: Path) -> dict[str, int]:
    """What can be counted by reading the file alone."""
    cost = count_file(path)
    kinds = cost.ops
    apart = {"layout": kinds.pop("layout", 0), "casts": kinds.pop("cast", 0)}
    return {
        "params": cost.params,
        "macs": cost.macs,
        "operators": sum(kinds.values()) + sum(apart.values()),
        **{f"operators.{kind}": count for kind, count in kinds.items()},
        **apart,
        "artifact_bytes": size_of(path),
        "peak_tensor_bytes": cost.peak_activation_bytes,
    }


def read_runtime(path: Path) -> tuple[int | None, dict[str, str]]:
    """How many parts the runtime's delegate takes the file in (None where it has none), and what runs it."""
    from lightseg.export.verification import load

    details = dict(load(path).details)
    partitions = details.pop("partitions", None)
    details.pop("threads", None)
    return None if partitions is None else int(partitions), details


def one_input(path: Path) -> NDArray[Any]:
    """The packaged portrait as the artifact's network takes it; its values cannot change a count of instructions much,
    but denormal or clipped ones could."""
    from lightseg.benchmarks.peers import peer_subject
    from lightseg.benchmarks.selection import artifact_subjects, is_foreign
    from lightseg.benchmarks.timing.opening import subject_inputs

    subject = peer_subject(path) if is_foreign(path) else artifact_subjects([path])[1]
    return subject_inputs(subject, 1, None)[0]


def count_all(paths: Sequence[Path], announce: Callable[[str], None], **how: Any) -> list[Counters]:
    """`count_artifact` for each of ``paths``."""
    found = []
    for path in paths:
        announce(f"counting {path.name}")
        found.append(count_artifact(path, **how))
    return found
