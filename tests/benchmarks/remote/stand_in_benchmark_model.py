"""LiteRT's benchmark_model as far as it is used: its options, its words, and real answers by LiteRT's interpreter.

``$BEHAVIOUR``: "wrong" adds to what it answers, "old" knows no --output_filepath, "mute" tells no timings.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

behaviour = os.environ.get("BEHAVIOUR", "")
options = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[1:])
started = time.perf_counter()
interpreter = Interpreter(model_path=options["graph"], num_threads=int(options["num_threads"]))
interpreter.allocate_tensors()
taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
init = (time.perf_counter() - started) * 1e6
if "input_layer_value_files" in options:
    assert options["input_layer_shape"] == ",".join(map(str, taken["shape"]))
    name, _, file = options["input_layer_value_files"].partition(":")
    assert name == options["input_layer"]
    x = np.frombuffer(Path(file).read_bytes(), taken["dtype"]).reshape(taken["shape"])
else:
    x = np.zeros(taken["shape"], taken["dtype"])
interpreter.set_tensor(taken["index"], x)
times = []
for _run in range(min(int(options["num_runs"]), 5)):
    begin = time.perf_counter()
    interpreter.invoke()
    times.append((time.perf_counter() - begin) * 1e6)
if "output_filepath" in options and behaviour != "old":
    y = interpreter.get_tensor(given["index"])
    Path(options["output_filepath"]).write_bytes((y + (1 if behaviour == "wrong" else 0)).tobytes())
elif "output_filepath" in options:
    sys.stdout.write(f"WARN: Unconsumed cmdline flags: --output_filepath={options['output_filepath']}\n")
lines = [
    "INFO: STARTING!",
    f"INFO: Graph: [{options['graph']}]",
    "INFO: Explicitly applied XNNPACK delegate, and the model graph will be completely executed by the delegate.",
    f"INFO: count=1 curr={times[0]:.0f} p5={times[0]:.0f} median={times[0]:.0f} p95={times[0]:.0f}",
    f"INFO: count={len(times)} first={times[0]:.0f} curr={times[-1]:.0f} min={min(times):.0f} max={max(times):.0f} "
    f"avg={np.mean(times):.5g} std={np.std(times):.0f} p5={np.percentile(times, 5):.0f} "
    f"median={np.median(times):.0f} p95={np.percentile(times, 95):.0f}",
    f"INFO: Inference timings in us: Init: {init:.0f}, First inference: {times[0]:.0f}, "
    f"Warmup (avg): {times[0]:.6g}, Inference (avg): {np.mean(times):.6g}",
]
sys.stdout.write("\n".join(lines[:2] if behaviour == "mute" else lines) + "\n")
