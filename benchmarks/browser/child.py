"""The parent's end of a measured page. It answers the same requests as `lightseg.benchmarks.timing.process.Child`.

So everything above it (rows, verdicts, reports) is the same for a browser as for a process of our own. A fresh server
and a fresh Chromium with an empty profile serve one row; while the page measures, the parent sleeps.
"""

from __future__ import annotations

import json
import queue
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from lightseg.benchmarks.browser import chromium
from lightseg.benchmarks.browser.contract import Contract
from lightseg.benchmarks.browser.runner import PageRunner
from lightseg.benchmarks.browser.runtimes import RUNTIMES, Runtime
from lightseg.benchmarks.browser.server import Reply, Server
from lightseg.benchmarks.browser.site import site_of
from lightseg.benchmarks.timing import latency
from lightseg.benchmarks.timing.child import REFERENCES, stolen_from, taken
from lightseg.benchmarks.timing.environment import load_average, temperature
from lightseg.benchmarks.timing.process import Failed
from lightseg.benchmarks.timing.subject import Subject

START_SECONDS = 120.0
"""A browser that has shown nothing by then never will."""
ANSWER_SECONDS = 1800.0
GONE_SECONDS = 3.0
POLL_SECONDS = 60.0
"""How long a page's question for work is left open before it asks again."""
Answer = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Place:
    """What a browser row needs from this machine."""

    program: Path
    runtimes: Path
    """The folder of `lightseg.benchmarks.browser.runtimes.default_folder`."""
    start_seconds: float = START_SECONDS
    answer_seconds: float = ANSWER_SECONDS


class PageChild:
    """One row's page as a context manager; ``contract`` belongs to the file it will open."""

    offers = ("goldens", "image_to_mask", "transfer", "energy", "memory")
    """Requests that not every device answers, and this one does."""
    subject: Subject
    images: str | None
    cores: list[int]
    details: dict[str, str]

    def __init__(self, place: Place, contract: Contract, cores: Sequence[int]) -> None:
        self.place, self.contract = place, contract
        self._requests: queue.Queue[bytes] = queue.Queue()
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._inputs = 0
        self.probe, self.output = b"", b""
        self.protocol = latency.FULL
        self.base = f"/session/{secrets.token_hex(16)}"
        self.site = site_of(place.runtimes)
        self.site.computed |= {f"{self.base}/request": self._next, f"{self.base}/probe": lambda: self.probe}
        self.site.takes |= {f"{self.base}/answer": self._answered, f"{self.base}/output": self._gave}
        self.site.watched[f"{self.base}/alive"] = self._gone
        self.server = Server(self.site)
        url = f"{self.server.url}/page/bench.html?session={self.base}"
        self.browser = chromium.Browser(place.program, url, cores, self._lost)

    def _next(self) -> Reply:
        try:
            return self._requests.get(timeout=POLL_SECONDS)
        except queue.Empty:
            return None

    def _answered(self, body: bytes) -> None:
        try:
            self._answers.put(json.loads(body))
        except ValueError:
            self._lost("the page answered with no JSON")

    def _gave(self, body: bytes) -> None:
        self.output = body

    def _gone(self) -> None:
        """A page that goes with its browser is the browser's news."""
        if not self.browser.ended_within(GONE_SECONDS):
            self._lost("the page is gone: its process crashed, perhaps for want of memory")

    def _lost(self, line: str) -> None:
        self._answers.put({"error": line})

    def __enter__(self) -> PageChild:
        self.server.__enter__()
        self.browser.__enter__()
        try:
            self._answer(
                self.place.start_seconds,
                f"{self.place.program.name} did not open the page within {self.place.start_seconds:.0f} s",
            )
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.browser.__exit__(kind, error, at)
        self.server.__exit__(kind, error, at)

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """One request of `lightseg.benchmarks.timing.child`. Errors: `Failed`, with the reason of page or browser."""
        answer: Answer = getattr(self, f"_do_{do}")
        return answer(**arguments)

    def page(self, do: str, **arguments: Any) -> dict[str, Any]:
        """One request of the page's own, and its answer."""
        self._requests.put(json.dumps({"do": do, **arguments}).encode())
        seconds = self.place.answer_seconds
        return self._answer(seconds, f"the page did not answer {do!r} within {seconds:.0f} s; the browser was ended")

    def _answer(self, seconds: float, otherwise: str) -> dict[str, Any]:
        try:
            answer = self._answers.get(timeout=seconds)
        except queue.Empty:
            said = self.browser.said()
            raise Failed(otherwise + (f"; it said: {said}" if said else "")) from None
        if "error" in answer:
            raise Failed(str(answer["error"]))
        return answer

    def _do_open(
        self, subject: dict[str, Any], protocol: dict[str, Any], cores: list[int], threads: int, images: str | None
    ) -> dict[str, Any]:
        self.protocol = latency.Protocol(**protocol)
        opened = self._started(subject, self.protocol.inputs, cores, threads, images)
        return {**opened, "affinity": list(cores), "details": self.details}

    def _started(
        self, subject: dict[str, Any], wanted: int, cores: list[int], threads: int, images: str | None
    ) -> dict[str, Any]:
        """The runtime started, the file opened and the inputs handed over, all in the page. Errors: `Failed`."""
        from lightseg.benchmarks.timing.opening import subject_inputs

        self.subject, self.images, self.cores = Subject.from_dict(subject), images, list(cores)
        inputs = [self.contract.arranged(x) for x in subject_inputs(self.subject, wanted, images)]
        self._inputs = len(inputs)
        for number, x in enumerate(inputs):
            self._serve(f"input/{number}", x.tobytes())
        self.site.files["/artifact"] = Path(self.subject.path or "")
        opened = self.page(
            "open",
            runtime=self.subject.runtime,
            threads=threads,
            file="/artifact",
            input={"shape": list(inputs[0].shape), "dtype": self.contract.dtype},
            inputs=len(inputs),
            references=REFERENCES,
        )
        self.details = self._details(opened, runtime_of(self.subject.runtime))
        self._check_threads(opened, threads)
        return opened

    def _serve(self, name: str, content: bytes) -> None:
        self.site.computed[f"{self.base}/{name}"] = lambda: content

    def _details(self, opened: dict[str, Any], runtime: Runtime) -> dict[str, str]:
        """What really ran: the page's word, and which files it fetched to do so."""
        granted = opened["granted"]
        wasm = sorted(path.rpartition("/")[2] for path in self.site.served if path.endswith(".wasm"))
        return {
            "version": runtime.version,
            **opened["details"],
            "wasm": ", ".join(wasm),
            "simd": "yes" if granted["simd"] else "no",
            "isolated": "yes" if granted["isolated"] else "no",
            "workers": str(opened["workers"]),
            "clock": f"performance.now(), {opened['clock_resolution_ns'] / 1e3:g} µs steps",
            "browser": granted["agent"],
            "run": "typed array in, typed array out: the copies into and out of WebAssembly memory are inside",
        }

    def _check_threads(self, opened: dict[str, Any], threads: int) -> None:
        """Browsers and runtimes fall back to one thread without a word. Errors: `Failed`."""
        if not opened["granted"]["isolated"]:
            raise Failed("the browser did not isolate the page, so it has neither threads nor a fine clock")
        if threads > 1 and (opened["workers"] < threads - 1 or self.details["threads"] != str(threads)):
            raise Failed(
                f"asked for {threads} threads, {self.subject.runtime} uses {self.details['threads']} "
                f"and started {opened['workers']} workers"
            )

    def _do_goldens(self) -> dict[str, Any]:
        """As the native process answers, with the scale of every golden beside its error."""
        from lightseg.errors import ParityError
        from lightseg.export.parity import check_goldens
        from lightseg.export.record import read_artifact

        artifact = read_artifact(Path(self.subject.path or ""))
        try:
            checked = check_goldens(artifact, PageRunner(self))
        except ParityError as error:
            return {"wrong": f"in the browser {error}", "checked": []}
        facts = {g.probe: {"largest": float(np.abs(g.samples).max()), "pixels": g.mask.size} for g in artifact.golden}
        return {"wrong": "", "checked": [{**one, **facts[one["probe"]]} for one in checked]}

    def _do_warm_up(self) -> dict[str, Any]:
        protocol, runs, spent = self.protocol, 0, 0.0
        medians: list[float] = []
        while not latency.is_settled(medians, protocol.settled) and spent < protocol.warmup_seconds * 1e9:
            window = self.page("window", samples=protocol.window_samples, seconds=protocol.window_seconds)["samples_ns"]
            medians.append(sorted(window)[len(window) // 2])
            runs, spent = runs + len(window), spent + sum(window)
        return {"settled": latency.is_settled(medians, protocol.settled), "runs": runs, "window_medians_ns": medians}

    def _do_sample(
        self, samples: int, seconds: float, seed: int = 0, rotate: bool = True, watch: bool = False
    ) -> dict[str, Any]:
        share = self.protocol.audits / samples * max(1.0, self._inputs / REFERENCES)
        pid = self.browser.process.pid
        load, warmth, stolen = load_average(), temperature(), stolen_from(self.cores)
        before = chromium.page_times(pid)
        sampled = self.page("sample", samples=samples, seconds=seconds, seed=seed, share=share, rotate=rotate)
        after = chromium.page_times(pid)
        spent = [after[one] - before[one] for one in after if one in before]
        return {
            **sampled,
            "cpu_samples_ns": [],  # no browser tells a page how much processor time one run took …
            "cpu_ns": max(spent, default=None),  # … but the system tells it of the page's main thread
            "device_ns": [],
            "load_average": [load, load_average()],
            "temperature": [warmth, temperature()],
            "stolen_jiffies": taken(stolen, stolen_from(self.cores)),
        }

    def _do_transfer(self, seconds: float) -> dict[str, Any]:
        reason = "not applicable: the copies into and out of WebAssembly memory are in the run"
        return {"samples_ns": [], "reason": reason}

    def _do_energy(self, seconds: float) -> dict[str, Any]:
        return {"reason": "not measured: a counter would see the whole browser"}

    def _do_image_to_mask(self, seconds: float) -> dict[str, Any]:
        """Photographs at their own size to masks of that size, all of it in the page, by the demonstration's code."""
        from lightseg.benchmarks.timing.opening import own_photographs
        from lightseg.benchmarks.timing.passes import FEWEST, MOST, why_no_mask

        reason = why_no_mask(self.subject)
        if reason:
            return {"samples_ns": [], "reason": reason}
        photos = own_photographs(self.images)
        for number, photo in enumerate(photos):
            self._serve(f"photo/{number}", photo.tobytes())
        sizes = [list(photo.shape[:2]) for photo in photos]
        limits = {"fewest": FEWEST, "most": MOST, "seconds": seconds}
        labels = self.subject.labels or {}
        contract = self.contract.to_page(self.subject.shape, self.subject.preprocess, len(labels["names"]))
        timed = self.page("image_to_mask", photos=sizes, contract=contract, **limits)
        return {**timed, "photo_sizes": sizes, "reason": ""}

    def _do_memory(self, subject: dict[str, Any], cores: list[int], threads: int, images: str | None) -> dict[str, Any]:
        """Of the page's process: JavaScript, WebAssembly memory and the browser's own code that shows a page."""
        pid = self.browser.process.pid
        before = chromium.page_memory(pid)
        self._started(subject, 3, cores, threads, images)
        return {"peak_memory_bytes": chromium.page_memory(pid), "before_model_bytes": before}

    def _do_close(self) -> dict[str, Any]:
        return {}


def runtime_of(name: str) -> Runtime:
    return next(runtime for runtime in RUNTIMES if runtime.name == name)
