"""Chromium's part in the tests: opens the address it is given and answers as the page would, by a native runtime.

Behaviours: honest; wrong (every output is shifted); deaf (never opens the page); dies (ends with a message when told
to sample); crashes (the page goes, the browser stays); single (starts no threads); failing (the runtime cannot open).
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


class StandIn:
    def __init__(self, url: str, behaviour: str) -> None:
        self.root = "http://" + urlsplit(url).netloc
        self.base = self.root + parse_qs(urlsplit(url).query)["session"][0]
        self.behaviour = behaviour
        self.alive = urllib.request.urlopen(f"{self.base}/alive", timeout=60)
        self.session: Any = None
        self.shape: list[int] = []

    def serve(self) -> None:
        self.get(self.root + "/page/bench.html")
        self.post("answer", b'{"here": true}')
        while True:
            request = json.loads(self.get(f"{self.base}/request"))
            self.post("answer", json.dumps(getattr(self, f"do_{request['do']}")(request)).encode())

    def get(self, address: str) -> bytes:
        with urllib.request.urlopen(address, timeout=30) as reply:
            content: bytes = reply.read()
        return content

    def post(self, name: str, body: bytes) -> None:
        request = urllib.request.Request(f"{self.base}/{name}", body, method="POST")
        urllib.request.urlopen(request, timeout=30).close()

    def array(self, name: str) -> Any:
        import numpy as np  # here, so that a deaf browser is deaf at once

        return np.frombuffer(self.get(f"{self.base}/{name}"), np.float32).reshape(self.shape)

    def run(self, x: Any) -> Any:
        y = self.session.run(None, {self.session.get_inputs()[0].name: x})[0]
        return 2 * y + 1 if self.behaviour == "wrong" else y

    def do_open(self, request: dict[str, Any]) -> dict[str, Any]:
        import onnxruntime

        if self.behaviour == "failing":
            return {"error": "Error: operator Mystery is not known"}
        self.session = onnxruntime.InferenceSession(self.get(self.root + request["file"]))
        self.shape = request["input"]["shape"]
        outputs = [self.run(self.array(f"input/{i}")) for i in range(request["inputs"])]
        return {
            "import_and_load_ns": 9_000_000,
            "load_ns": 3_000_000,
            "first_ns": 2_000_000,
            "inputs": len(outputs),
            "output_shape": list(outputs[0].shape),
            "output_dtype": "float32",
            "clock_resolution_ns": 5000,
            "granted": {"isolated": True, "simd": True, "processors": 2, "agent": "StandIn/1"},
            "workers": 0 if self.behaviour == "single" else request["threads"] - 1,
            "runtime": request["runtime"],
            "details": {"runtime": request["runtime"], "provider": "wasm", "threads": str(request["threads"])},
        }

    def do_infer(self, request: dict[str, Any]) -> dict[str, Any]:
        y = self.run(self.array("probe"))
        self.post("output", y.astype("float32").tobytes())
        return {"shape": list(y.shape), "dtype": "Float32Array"}

    def do_window(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"samples_ns": [1_000_000] * request["samples"]}

    def do_sample(self, request: dict[str, Any]) -> dict[str, Any]:
        if self.behaviour == "dies":
            sys.exit("out of memory")
        if self.behaviour == "crashes":
            self.alive.close()
            time.sleep(30)
        times = [1_000_000 + 100 * (i % 7) for i in range(request["samples"])]
        return {"samples_ns": times, "wall_ns": sum(times), "audit": {"checked": 3, "worst": 0.0, "distinct": True}}

    def do_image_to_mask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert set(request["contract"]) == {"size", "takes", "gives", "dtype", "preprocess", "classes"}
        for i, (height, width) in enumerate(request["photos"]):
            assert len(self.get(f"{self.base}/photo/{i}")) == 3 * height * width
        return {"samples_ns": [2_000_000] * request["fewest"]}


def main(argv: list[str]) -> None:
    url, behaviour = argv[-2:]
    assert "--headless" in argv
    assert Path(next(a for a in argv if "--user-data-dir" in a).partition("=")[2]).is_dir()
    if behaviour == "deaf":
        sys.stderr.write("cannot open display\n")
        sys.stderr.flush()
        time.sleep(60)
    StandIn(url, behaviour).serve()


if __name__ == "__main__":
    main(sys.argv)
