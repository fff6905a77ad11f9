"""The parent's end of the pipe, against small programs in place of the measured process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lightseg.benchmarks.timing.process import Child, Failed

ECHO = """
import json, os, sys
for line in sys.stdin:
    print(json.dumps({"heard": json.loads(line), "threads": os.environ["OMP_NUM_THREADS"]}), flush=True)
"""


def child(program: str, threads: int = 1, timeout: float = 20.0) -> Child:
    return Child(threads, (sys.executable, "-S", "-c", program), timeout)


def test_requests_and_answers() -> None:
    with child(ECHO, threads=3) as process:
        answer = process.ask("sample", samples=5)
        assert answer == {"heard": {"do": "sample", "samples": 5}, "threads": "3"}
        assert process.ask("close")["heard"] == {"do": "close"}
    assert process.process.returncode == 0


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"was killed by SIGSEGV$"),
        ("import sys; print('no such thing', file=sys.stderr); sys.exit(3)", r"exit code 3: no such thing$"),
        ("raise ValueError('deep inside')", r"exit code 1: ValueError: deep inside$"),
        ('input(); print(\'{"error": "the model is gone"}\')', r"^the model is gone$"),
        ("input(); print('no JSON')", r"answered .*no JSON"),
    ],
)
def test_death_and_errors_are_one_line(program: str, reason: str) -> None:
    with pytest.raises(Failed, match=reason) as caught, child(program) as process:
        process.ask("open")
    assert "\n" not in str(caught.value)


def test_silence_is_ended() -> None:
    with pytest.raises(Failed, match="no answer to 'open' within"), child("input(); input()", timeout=0.3) as process:
        process.ask("open")
    assert process.process.returncode is not None


def test_a_child_that_ignores_the_end_is_killed_when_the_parent_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), child("import time; time.sleep(600)") as process:
        raise RuntimeError
    assert process.process.returncode == -9
