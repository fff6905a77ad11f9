"""Where named weights are searched, and the download: resumed, checked, explained."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lightseg.download import download
from lightseg.errors import OutputError, WeightsError
from lightseg.spec import Weights
from lightseg.weights import cache_dir, locate
from lightseg.zoo import MODELS, find_weights

CONTENT = bytes(range(256)) * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
SPEC = MODELS["sinet"]


@dataclass
class Server:
    """What a local HTTP server shall do, and the Range headers it has seen."""

    url: str = ""
    ranges: bool = True
    cut_at: int | None = None
    seen: list[str | None] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    plan = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            plan.seen.append(wanted)
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and plan.ranges else 0
            if self.path != "/weights.pth":
                self.send_error(404)
                return
            if start >= len(CONTENT):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            self.wfile.write(CONTENT[start : plan.cut_at])

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        plan.url = f"http://127.0.0.1:{http.server_port}/weights.pth"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield plan
        http.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("LIGHTSEG_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_dir()


def weights(url: str | None, digest: str = DIGEST) -> Weights:
    return replace(find_weights(SPEC, "clova"), file="weights.pth", url=url, sha256=digest, packaged=False)


def test_fetches_whole_files(server: Server, tmp_path: Path) -> None:
    assert download(server.url, tmp_path / "new" / "w.pth", DIGEST).read_bytes() == CONTENT
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["w.pth"] and server.seen == [None]


def test_a_broken_transfer_is_resumed(server: Server, tmp_path: Path) -> None:
    server.cut_at = 100_000
    with pytest.raises(WeightsError, match=r"broke after 100000 of 256000 bytes; run again to continue"):
        download(server.url, tmp_path / "w.pth", DIGEST)
    assert not (tmp_path / "w.pth").exists()
    server.cut_at = None
    assert download(server.url, tmp_path / "w.pth", DIGEST).read_bytes() == CONTENT
    assert server.seen == [None, "bytes=100000-"]


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    (tmp_path / "w.pth.part").write_bytes(CONTENT[:5])
    server.ranges = False
    assert download(server.url, tmp_path / "w.pth", DIGEST).read_bytes() == CONTENT


def test_a_complete_part_counts(server: Server, tmp_path: Path) -> None:
    (tmp_path / "w.pth.part").write_bytes(CONTENT)
    assert download(server.url, tmp_path / "w.pth", DIGEST).read_bytes() == CONTENT


@pytest.mark.parametrize("stale", [b"x" * 10, CONTENT + b"too long"])
def test_wrong_content_is_thrown_away(stale: bytes, server: Server, tmp_path: Path) -> None:
    (tmp_path / "w.pth.part").write_bytes(stale)
    with pytest.raises(WeightsError, match="wrong sha256"):
        download(server.url, tmp_path / "w.pth", DIGEST)
    assert list(tmp_path.iterdir()) == []
    assert download(server.url, tmp_path / "w.pth", DIGEST).read_bytes() == CONTENT


def test_not_found(server: Server, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"download failed .*Not Found"):
        download(server.url + "x", tmp_path / "w.pth", DIGEST)


def test_unwritable_folder(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        download(server.url, tmp_path / "file" / "w.pth", DIGEST)


def test_order_is_environment_package_cache_download(
    server: Server, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, package, own = replace(weights(server.url), packaged=True), tmp_path / "package", tmp_path / "own"
    monkeypatch.setattr("lightseg.weights.PACKAGED", package)
    own.mkdir()
    package.mkdir()
    monkeypatch.setenv("LIGHTSEG_WEIGHTS", str(own))
    assert locate(SPEC, record) == cache / "weights.pth"
    assert locate(SPEC, record) == cache / "weights.pth" and len(server.seen) == 1, "the second time from the cache"
    (package / "weights.pth").touch()
    assert locate(SPEC, record) == package / "weights.pth"
    (own / "weights.pth").touch()
    assert locate(SPEC, record) == own / "weights.pth"
    assert locate(SPEC, weights(server.url)) == own / "weights.pth", "the environment is for all weights"


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:9/weights.pth"])
def test_nowhere_to_be_found_names_the_three_ways_out(url: str | None, cache: Path) -> None:
    with pytest.raises(WeightsError) as error:
        locate(SPEC, weights(url))
    text = str(error.value)
    assert "\n" not in text and str(cache) in text
    assert "download failed" in text if url else "no download address" in text
    assert all(way in text for way in ("LIGHTSEG_WEIGHTS", "--weights FILE", "--weights random"))


def test_cache_without_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_dir() == Path.home() / ".cache" / "lightseg"
