"""`alcove node`, and how commands find a node: folders, settings, ports, servers that die."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cli.listening import listen
from tests.cli.commands import SECONDS, command, refusal, run, run_json
from tests.forked import ENVIRONMENT, ROOT, Forked

HEAVY = ("torch", "transformers", "sentence_transformers", "faiss", "fastapi", "sqlalchemy")


Serve = Callable[[Path], "subprocess.Popen[str]"]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server; it has said where it listens and is still loading its models."""
    with ExitStack() as started:

        def start(home: Path) -> subprocess.Popen[str]:
            server: subprocess.Popen[str] = Forked(
                command("node", "serve", "--port", "0", home=home), env=ENVIRONMENT, cwd=ROOT,
                text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            started.callback(server.kill)
            assert server.stdout is not None
            assert server.stdout.readline().startswith(f"Serving {home} on http")
            return server

        yield start


def test_help_imports_nothing_that_takes_long() -> None:
    script = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print([m for m in {HEAVY} if m in sys.modules]))\n"
        "sys.argv = ['alcove', '--help']\n"
        "from cli.main import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, env=ENVIRONMENT, cwd=ROOT,
        capture_output=True, text=True,
    )  # fmt: skip
    assert "evaluate" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_new_node_shows_its_key_once_and_keeps_it_nowhere(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"
    done = run("node", "init", home=home)
    key = next(line for line in done.stdout.splitlines() if line.startswith("alcove_"))
    secret = key.rsplit("_", 1)[-1].encode()
    assert home.stat().st_mode & 0o777 == 0o700
    assert not any(secret in file.read_bytes() for file in home.rglob("*") if file.is_file())
    assert "already" in refusal(run("node", "init", home=home))


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear all")
    assert "not a node's folder" in refusal(run("node", "init", home=tmp_path))
    assert "not a folder" in refusal(run("node", "init", home=tmp_path / "letter.txt"))
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("arguments", [("node", "serve"), ("ask", "Who?"), ("node", "status")])
def test_without_a_node_commands_name_init(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert "alcove node init" in refusal(run(*arguments, home=tmp_path / "none"))


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "node.db").write_text("no database " * 1_000)
    message = refusal(run("key", "list", home=tmp_path))
    assert str(tmp_path / "node.db") in message and "not a database" in message


def test_every_wrong_setting_has_a_line(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('port = 99999\nprot = 1\nindex = "hnsw"\n')
    done = run("node", "init", home=tmp_path, environment={"ALCOVE_PASSAGES": "many"})
    file = tmp_path / "settings.toml"
    assert done.returncode == 1
    assert sorted(line.partition(": Input")[0] for line in done.stderr.splitlines()) == sorted([
        f"alcove: {file}: port",
        f"alcove: {file}: index",
        "alcove: ALCOVE_PASSAGES: passages",
        f"alcove: {file}: prot: there is no such setting",
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("content", "reason"),
    [("port = ", "not TOML"), ('host = "0.0.0.0"', "can be reached by others")],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "settings.toml").write_text(content)
    assert reason in refusal(run("node", "init", home=tmp_path))


def test_ports_that_cannot_be_had_are_refused(home: Path) -> None:
    assert "65535" in refusal(run("node", "serve", "--port", "99999", home=home), code=2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        message = refusal(run("node", "serve", "--port", port, home=home))
    assert port in message and "in use" in message


def test_a_node_that_cannot_load_its_models_ends_with_the_reason(home: Path) -> None:
    (home / "settings.toml").write_text('embedder = "/nowhere/model"\n')
    done = run("node", "serve", "--port", "0", home=home)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("alcove: the node cannot start: ")
    assert "/nowhere/model" in done.stderr.splitlines()[-1]
    assert not (home / "server.json").exists()


def test_a_folder_that_cannot_be_written_ends_the_start_with_the_reason(home: Path) -> None:
    (home / "server.json").mkdir()
    done = run("node", "serve", "--port", "0", home=home)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("alcove: ") and "Is a directory" in last


def test_a_server_that_was_killed_is_noticed_and_forgotten(home: Path, serve: Serve) -> None:
    server = serve(home)
    address = json.loads((home / "server.json").read_text())
    assert (home / "server.json").stat().st_mode & 0o777 == 0o600
    assert address["url"] in refusal(run("node", "serve", home=home))
    status = run_json("node", "status", home=home)
    assert status["url"] == address["url"] and status["state"] in ("starting", "serving")

    # Stopped, it takes the connection and never answers, until it is killed.
    server.send_signal(signal.SIGSTOP)
    search: subprocess.Popen[str] = Forked(
        command("search", "anything", home=home), env=ENVIRONMENT, cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    _wait_for_connection(search.pid, int(address["url"].rpartition(":")[2]))
    server.kill()
    _, errors = search.communicate(timeout=SECONDS)
    assert search.returncode == 1
    assert "stopped answering" in errors and "Traceback" not in errors

    assert (home / "server.json").exists()
    labels = [key["label"] for key in run_json("key", "list", home=home)["data"]]
    assert labels == ["first key"]
    assert not (home / "server.json").exists()
    assert run_json("node", "status", home=home)["state"] == "stopped"

    server = serve(home)
    following = json.loads((home / "server.json").read_text())
    answers = [_list_keys(following["url"], one["key"]) for one in (address, following)]
    assert answers == [401, 200]
    server.send_signal(signal.SIGTERM)
    assert server.wait(SECONDS) == 0
    assert not (home / "server.json").exists()


def test_commands_trust_the_servers_certificate_and_no_other(home: Path, serve: Serve) -> None:
    certificate, key = _self_signed(home.parent, "node")
    other, _ = _self_signed(home.parent, "other")
    (home / "settings.toml").write_text(f'tls_certificate = "{certificate}"\ntls_key = "{key}"\n')
    server = serve(home)
    assert len(run_json("key", "list", home=home)["data"]) == 1
    owner = run_json("key", "create", "--label", "page", "--scope", "owner", home=home)["key"]
    address = home / "server.json"
    announced = json.loads(address.read_text())
    assert announced["url"].startswith("https://")
    address.write_text(json.dumps({**announced, "certificate": other.read_text()}))
    assert "CERTIFICATE_VERIFY_FAILED" in refusal(run("key", "list", home=home))
    trusted = ssl.create_default_context(cafile=certificate)
    # It is for a name that no server here has.
    trusted.check_hostname = False
    with httpx.Client(base_url=announced["url"], verify=trusted, timeout=SECONDS) as browser:
        origins = (announced["url"].replace("https:", "http:"), announced["url"])
        answers = [
            browser.post("/ui/sign-in", data={"key": owner}, headers={"Origin": origin})
            for origin in origins
        ]
    assert [answer.status_code for answer in answers] == [403, 303]
    assert "; secure" in answers[1].headers["set-cookie"].lower()
    server.send_signal(signal.SIGINT)
    assert server.wait(SECONDS) == 0


def test_a_certificate_that_is_none_is_refused(home: Path) -> None:
    _, key = _self_signed(home.parent, "node")
    (home / "settings.toml").write_text(f'tls_certificate = "{key}"\ntls_key = "{key}"\n')
    assert "certificate" in refusal(run("node", "serve", "--port", "0", home=home))


def _wait_for_connection(pid: int, port: int) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if any(c.raddr and c.raddr.port == port for c in psutil.Process(pid).net_connections()):
            return
        time.sleep(0.05)
    raise AssertionError("the command made no connection")


def _list_keys(url: str, key: str) -> int:
    return httpx.get(f"{url}/v1/keys", headers={"Authorization": f"Bearer {key}"}).status_code


def _self_signed(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate and its key, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{name}.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    files = folder / f"{name}.pem", folder / f"{name}.key"
    pem = serialization.Encoding.PEM
    files[0].write_bytes(certificate.public_bytes(pem))
    files[1].write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def test_an_answer_does_not_wait_for_the_clients_acknowledgement() -> None:
    """RFC 896: without TCP_NODELAY a second small write waits until the first is acknowledged."""
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
