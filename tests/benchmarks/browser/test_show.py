"""The demonstration page: what it is told, that it needs no other place, and how its server begins and ends."""

from __future__ import annotations

import json
import re
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lightseg.benchmarks import demo_cli
from lightseg.benchmarks.browser import runtimes, show
from lightseg.benchmarks.browser.runtimes import RUNTIMES
from lightseg.benchmarks.browser.site import PAGE
from lightseg.errors import BadInput, Unsupported
from lightseg.export.record import read_artifact
from lightseg.images import sample_photo

Capture = pytest.CaptureFixture[str]


def test_the_page_is_told_how_to_feed_and_read_a_file(small: dict[str, Path]) -> None:
    told = show.offer(small["tflite"], 3)
    assert told["runtime"] == "LiteRT.js"
    assert told["url"] == "/artifacts/3"
    assert told["contract"]["takes"] == "NHWC"
    assert told["contract"]["size"] == [32, 64]
    assert told["foreground"] == [1]
    assert told["contract"]["preprocess"]["order"] in ("RGB", "BGR")
    assert show.offer(small["onnx"], 0)["contract"]["takes"] == "NCHW"


def test_a_file_that_returns_masks_is_refused(small: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    masks = replace(read_artifact(small["tflite"]), output="mask")
    monkeypatch.setattr("lightseg.export.artifact.read_artifact", lambda path: masks)
    with pytest.raises(Unsupported, match="export it with --output logits"):
        show.offer(small["tflite"], 0)


def test_everything_comes_from_here(small: dict[str, Path], runtimes_folder: Path) -> None:
    site = show.demo_site(runtimes_folder, [small["onnx"], small["tflite"]], sample_photo())
    heard: list[dict[str, Any]] = []

    def visit() -> None:
        for address in ("", "page/demo.mjs", "page/demo.css", "page/frame.html", "sample", "artifacts/1"):
            with urllib.request.urlopen(heard[0]["url"] + address, timeout=10) as reply:
                assert reply.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
                heard.append({"address": address, "bytes": len(reply.read())})
        with urllib.request.urlopen(heard[0]["url"] + "artifacts.json", timeout=10) as reply:
            heard.append(json.loads(reply.read()))

    show.serve(site, 0, lambda url: heard.append({"url": url}), visit)
    assert heard[-2]["bytes"] == small["tflite"].stat().st_size
    assert [one["runtime"] for one in heard[-1]["artifacts"]] == [runtime.name for runtime in RUNTIMES]


def test_stopping_it_is_no_error(small: dict[str, Path], runtimes_folder: Path) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    site = show.demo_site(runtimes_folder, [small["onnx"]], sample_photo())
    show.serve(site, 0, lambda url: None, interrupted)


def test_a_port_that_is_taken(small: dict[str, Path], runtimes_folder: Path) -> None:
    site = show.demo_site(runtimes_folder, [small["onnx"]], sample_photo())

    def second() -> None:
        with pytest.raises(BadInput, match=r"cannot be used .*choose another --port"):
            show.serve(site, int(address[0].rstrip("/").rpartition(":")[2]), address.append, lambda: None)

    address: list[str] = []
    show.serve(site, 0, address.append, second)
    with pytest.raises(BadInput, match="choose another --port"):
        show.serve(site, 70000, address.append, lambda: None)


@pytest.mark.parametrize("name", sorted(path.name for path in PAGE.iterdir()))
def test_the_page_names_no_other_place(name: str) -> None:
    text = (PAGE / name).read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", text)


def test_the_script_and_the_page_agree_on_names() -> None:
    page = (PAGE / "index.html").read_text(encoding="utf-8")
    scripts = "".join((PAGE / f"{name}.mjs").read_text(encoding="utf-8") for name in ("demo", "figures", "pictures"))
    used = set(re.findall(r"\bel\('([a-z-]+)'\)", scripts))
    assert used
    assert used <= set(re.findall(r'id="([a-z-]+)"', page))


def test_the_command_says_what_to_fetch_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(runtimes, "default_folder", lambda: tmp_path)
    assert demo_cli.main(["--browser"]) == 1
    assert "run: lightseg-bench --device browser --setup" in capsys.readouterr().err


def test_the_command_serves_until_it_is_stopped(
    small: dict[str, Path], runtimes_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def stopped() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runtimes, "default_folder", lambda: runtimes_folder)
    monkeypatch.setattr(demo_cli, "_wait", stopped)
    assert demo_cli.main(["--browser", "--artifact", str(small["onnx"])]) == 0
    assert re.search(r"open http://127\.0\.0\.1:\d+/ in a browser", capsys.readouterr().out)


def test_artifacts_belong_to_the_page(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        demo_cli.main(["--artifact", "a.onnx"])
    assert caught.value.code == 2
    assert "--artifact belongs to --browser" in capsys.readouterr().err
