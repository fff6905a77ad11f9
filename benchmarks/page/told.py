"""What a phone's ``benchmark_model`` told: its own protocol without samples, and so a table apart from our rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TIMES = ("init", "first", "median", "average", "p95", "minimum")


@dataclass(frozen=True)
class Told:
    """One file on one phone: medians over processes, in milliseconds."""

    network: str
    runtime: str
    where: str
    """The phone and its chip."""
    threads: int
    times: Mapping[str, float | None]
    """By the names in `TIMES`; None where its version does not say it."""
    runs: int
    throttling: str
    verdict: str
    why: str
    """The reasons of the verdict, and which kernels ran."""

    @property
    def name(self) -> str:
        return f"{self.network}, {self.runtime}" + (f", {self.threads} threads" if self.threads > 1 else "")


def told(summary: Mapping[str, Any], environment: Mapping[str, Any]) -> Told:
    """From a result's ``summaries`` and its environment."""
    from lightseg.benchmarks.remote.benchmark_model import middle

    subject, processes = summary["subject"], summary["processes_us"]
    values = {name: middle([one[name] for one in processes]) for name in TIMES}
    kernels = dict.fromkeys(one["delegate"] for one in processes)
    return Told(
        network=subject["label"],
        runtime=subject["runtime"],
        where=where_from(environment),
        threads=summary["threads"],
        times={name: None if value is None else value / 1e3 for name, value in values.items()},
        runs=sum(one["count"] for one in processes),
        throttling=" to ".join(dict.fromkeys(state for one in processes for state in one["thermal"])),
        verdict=summary["verdict"],
        why="; ".join([*summary["reasons"], *kernels]),
    )


def where_from(environment: Mapping[str, Any]) -> str:
    """The processor, and the phone it is in."""
    return ", ".join(environment[name] for name in ("phone", "cpu") if name in environment)
