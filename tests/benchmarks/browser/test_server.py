"""The local server: the headers that threads need, and nothing from outside, for other hosts or too big."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lightseg.benchmarks.browser.server import Server, Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "page.html").write_text("<p>hello")
    (tmp_path / "open" / "run.wasm").write_bytes(b"\0asm")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "open" / "link.txt").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "open-too").mkdir()
    (tmp_path / "open-too" / "x").write_text("secret")
    return Site(files={"/open/": tmp_path / "open", "/": tmp_path / "open" / "page.html"})


@pytest.fixture
def server(site: Site) -> Iterator[Server]:
    with Server(site, body_limit=100) as running:
        yield running


def ask(
    server: Server, path: str, method: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path, body, headers or {})
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    return reply.status, content, reply.headers


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [("/", 200, "text/html"), ("/open/run.wasm", 200, "application/wasm"), ("/open/absent", 404, "text/plain")],
)
def test_every_answer_isolates_the_page(server: Server, path: str, status: int, kind: str) -> None:
    got, _, headers = ask(server, path)
    assert got == status
    assert headers["Content-Type"].startswith(kind)
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert headers["Cache-Control"] == "no-store"


def test_a_page_may_load_nothing_from_elsewhere(server: Server) -> None:
    assert ask(server, "/open/page.html")[2]["Content-Security-Policy"].startswith("default-src 'self'")


@pytest.mark.parametrize(
    "path",
    [
        "/open/../secret.txt",
        "/open/%2e%2e/secret.txt",
        "/open/..%2fsecret.txt",
        "/open/link.txt",
        "/open/../open-too/x",
        "/open-too/x",
        "//etc/passwd",
        "/open//etc/passwd",
        "/open/",
        "/secret.txt",
    ],
)
def test_nothing_outside_a_folder_is_reached(server: Server, path: str) -> None:
    status, content, _ = ask(server, path)
    assert status == 404
    assert b"secret" not in content


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1:1", ""])
def test_other_names_for_this_machine_are_refused(server: Server, host: str) -> None:
    assert ask(server, "/", headers={"Host": host})[0] == 403


def test_localhost_is_a_name_too(server: Server) -> None:
    assert ask(server, "/", headers={"Host": f"localhost:{server.port}"})[0] == 200


def test_what_a_page_sends(server: Server, site: Site) -> None:
    got: list[bytes] = []
    site.takes["/answer"] = got.append
    assert ask(server, "/answer", "POST", b"{}")[0] == 204
    assert ask(server, "/answer", "POST", bytes(101))[0] == 413
    assert ask(server, "/answer", "POST", None, {"Content-Length": "many"})[0] == 411
    assert ask(server, "/other", "POST", b"{}")[0] == 404
    assert got == [b"{}"]


def test_computed_answers(server: Server, site: Site) -> None:
    site.computed |= {"/one": lambda: b"\1", "/none": lambda: None}
    assert ask(server, "/one")[:2] == (200, b"\1")
    assert ask(server, "/none")[:2] == (204, b"")


def test_the_end_of_a_page_is_noticed(server: Server, site: Site) -> None:
    gone = threading.Event()
    site.watched["/alive"] = gone.set
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/alive")
    reply = connection.getresponse()
    assert reply.status == 200
    assert not gone.wait(0.1)
    reply.close()
    connection.close()
    assert gone.wait(10)


def test_served_files_are_remembered(server: Server, site: Site) -> None:
    ask(server, "/open/run.wasm")
    ask(server, "/open/absent")
    assert site.served == {"/open/run.wasm"}
