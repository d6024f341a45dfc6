"""The worker with real files, real limits and real kills."""

import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from retrieval.chunking import Chunker
from retrieval.frames import (
    MOST_FRAME_BYTES,
    FrameError,
    FrameReader,
    FrameTimeoutError,
    write_frame,
)
from retrieval.parse_worker import ParseWorker, WorkerClosedError
from retrieval.parsing import ParseError, ParseLimits, parse
from tests.processes import children_with
from tests.retrieval import documents

ROOT = Path(__file__).resolve().parents[2]
LIMITS = replace(documents.LIMITS, seconds=60)
SLOW = b"The lamp is lit at dusk, and the horn is blown in fog. " * 150_000  # some 8 MB


@pytest.fixture(scope="module")
def shared() -> Iterator[ParseWorker]:
    with worker_with(LIMITS) as worker:
        yield worker


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes, str], Path]:
    def _file(data: bytes, name: str) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return _file


def worker_with(limits: ParseLimits) -> ParseWorker:
    return ParseWorker(limits, documents.TOKENIZER, documents.MAX_TOKENS)


def children(parent: int | None = None) -> list[psutil.Process]:
    return children_with("retrieval.parse_child", parent)


def the_child() -> psutil.Process:
    """The process that the worker of this test has started last."""
    return max(children(), key=lambda child: child.create_time())


def until(condition: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return met


def refused(worker: ParseWorker, path: Path) -> str:
    with pytest.raises(ParseError) as caught:
        worker.parse(path, path.name)
    assert caught.value.message.endswith(".")
    return caught.value.code


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (documents.pdf([["Lamp oil."], ["Fog horn."]], title="Log 👩‍👧"), "a.pdf"),
        (documents.word(paragraphs=200), "a.docx"),
        (documents.slides(), "a.pptx"),
        (documents.workbook(), "a.xlsx"),
        ("# Ebb 🌊\n\n灯台守の話。".encode() * 900, "a.md"),
    ],
)
def test_the_worker_gives_what_parsing_in_this_process_gives(shared, file, data, name):
    path = file(data, name)
    there = shared.parse(path, name)
    here = parse(path, name, LIMITS)
    assert there.chunks == Chunker(documents.TOKENIZER, documents.MAX_TOKENS).chunk(here)
    assert (there.media_type, there.title) == (here.media_type, here.title)
    assert (there.pages or 0, there.characters) == (len(here.page_starts), len(here.text))


def test_one_process_serves_many_files_and_refusals(file):
    with worker_with(LIMITS) as worker:
        worker.parse(file(b"Lamp", "a.txt"), "a.txt")
        first = children()
        assert refused(worker, file(b"", "b.txt")) == "empty"
        assert refused(worker, file(b"\x89PNG\0", "c.txt")) == "unsupported_type"
        assert refused(worker, Path("/nowhere/d.txt")) == "unreadable"
        assert worker.parse(file(b"Horn", "e.txt"), "e.txt").chunks[0].text == "Horn"
        assert children() == first


def test_a_500_page_pdf(shared, file):
    lines = [f"Entry {n}: the keeper lit the lamp at dusk and wound the clock." for n in range(50)]
    document = shared.parse(file(documents.pdf([lines] * 500), "log.pdf"), "log.pdf")
    assert document.pages == 500
    assert document.characters > 1_500_000
    assert [chunk.page for chunk in document.chunks][-1] == 500


def test_several_threads_take_turns(shared, file):
    paths = [file(f"Lamp number {n}".encode(), f"{n}.txt") for n in range(8)]
    texts: dict[int, str] = {}

    def read(n: int) -> None:
        texts[n] = shared.parse(paths[n], paths[n].name).chunks[0].text

    threads = [threading.Thread(target=read, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == {n: f"Lamp number {n}" for n in range(8)}


def test_killed_while_parsing(file):
    with worker_with(LIMITS) as worker:
        worker.parse(file(b"Lamp", "a.txt"), "a.txt")
        child = the_child()
        idle = sum(child.cpu_times()[:2])

        def kill_when_busy() -> None:
            until(lambda: sum(child.cpu_times()[:2]) > idle + 0.2)
            child.kill()

        killer = threading.Thread(target=kill_when_busy)
        killer.start()
        assert refused(worker, file(SLOW, "b.txt")) == "crashed"
        killer.join()
        assert worker.parse(file(b"Horn", "c.txt"), "c.txt").chunks[0].text == "Horn"
        assert the_child().pid != child.pid


def test_killed_while_idle_costs_nothing(file):
    with worker_with(LIMITS) as worker:
        worker.parse(file(b"Lamp", "a.txt"), "a.txt")
        child = the_child()
        child.kill()
        assert until(lambda: child.status() == psutil.STATUS_ZOMBIE)
        assert worker.parse(file(b"Horn", "b.txt"), "b.txt").chunks[0].text == "Horn"


def test_out_of_time(file):
    with worker_with(replace(LIMITS, seconds=1)) as worker:
        worker.parse(file(b"Lamp", "a.txt"), "a.txt")
        child = the_child()
        assert refused(worker, file(SLOW, "b.txt")) == "timeout"
        assert not child.is_running()
        assert worker.parse(file(b"Horn", "c.txt"), "c.txt").chunks[0].text == "Horn"


def test_out_of_memory(file):
    """A DOCX that unpacks to 30 MB, within the limit for that, takes ten times that as a tree."""
    with worker_with(replace(LIMITS, memory_bytes=420 << 20)) as worker:
        assert refused(worker, file(documents.swollen_word(30), "a.docx")) == "out_of_memory"
        assert worker.parse(file(documents.word(), "b.docx"), "b.docx").characters > 0


def test_the_process_is_niced_limited_and_holds_nothing_of_ours(file, monkeypatch):
    monkeypatch.setenv("ALCOVE_SECRET", "hunter2")
    with socket.create_server(("127.0.0.1", 0)) as server, worker_with(LIMITS) as worker:
        server.set_inheritable(True)
        worker.parse(file(b"Lamp", "a.txt"), "a.txt")
        child = the_child()
        assert child.nice() > psutil.Process().nice()
        assert "hunter2" not in str(child.environ())
        assert os.getsid(child.pid) == os.getpgid(child.pid) == child.pid
        opened = Path(f"/proc/{child.pid}/fd")
        for descriptor in ("0", "1"):
            assert (opened / descriptor).readlink() == Path(os.devnull)
        assert not any(stat.S_ISSOCK(entry.stat().st_mode) for entry in opened.iterdir())
        memory, cpu, files, cores = (
            child.rlimit(kind)
            for kind in (
                psutil.RLIMIT_AS,
                psutil.RLIMIT_CPU,
                psutil.RLIMIT_FSIZE,
                psutil.RLIMIT_CORE,
            )
        )
        assert memory == (LIMITS.memory_bytes,) * 2
        assert LIMITS.seconds <= cpu[0] <= LIMITS.seconds + 10
        assert files == cores == (0, 0)


def test_a_process_without_a_parent_ends_by_itself(file):
    path = file(SLOW * 6, "a.txt")  # minutes of work
    script = (
        "from dataclasses import replace; from pathlib import Path\n"
        "from retrieval.parse_worker import ParseWorker\n"
        "from tests.retrieval.documents import LIMITS\n"
        "limits = replace(LIMITS, seconds=2, text_characters=10**9)\n"
        f"worker = ParseWorker(limits, Path({str(documents.TOKENIZER)!r}), 256)\n"
        f"worker.parse(Path({str(path)!r}), 'a.txt')\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) as parent:
        assert until(lambda: bool(children(parent.pid)))
        (child,) = children(parent.pid)
        assert until(lambda: sum(child.cpu_times()[:2]) > 0.5)
        parent.kill()
    assert until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 20)


def test_closed_while_parsing(file):
    worker = worker_with(LIMITS)
    worker.parse(file(b"Lamp", "a.txt"), "a.txt")
    child = the_child()
    idle = sum(child.cpu_times()[:2])

    def close_when_busy() -> None:
        until(lambda: sum(child.cpu_times()[:2]) > idle + 0.2)
        worker.close()

    closer = threading.Thread(target=close_when_busy)
    closer.start()
    with pytest.raises(WorkerClosedError):
        worker.parse(file(SLOW, "b.txt"), "b.txt")
    closer.join()
    assert not child.is_running()
    with pytest.raises(WorkerClosedError):
        worker.parse(file(b"Horn", "c.txt"), "c.txt")


def test_a_process_that_cannot_start_is_no_fault_of_the_file(file, tmp_path):
    with (
        ParseWorker(LIMITS, tmp_path / "no-tokenizer.json", 256) as worker,
        pytest.raises(RuntimeError, match="did not start"),
    ):
        worker.parse(file(b"Lamp", "a.txt"), "a.txt")


@pytest.mark.parametrize(
    "attempt",
    [
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import socket; socket.getaddrinfo('localhost', 80)",
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9/')",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
        "import os; os.posix_spawn('/bin/true', ['true'], {})",
        "import os; os.fork()",
        "open('here', 'w')",
        "import os; os.open('here', os.O_CREAT | os.O_RDWR)",
        "import pathlib; pathlib.Path('here').touch()",
    ],
)
def test_what_a_parser_may_not_do(attempt, tmp_path):
    script = (
        "import sys; from retrieval import parse_child\n"
        "sys.addaudithook(parse_child.refuse_side_effects)\n"
        f"try:\n    {attempt}\nexcept PermissionError as error:\n    sys.exit(str(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "a parser may not" in done.stderr
    assert list(tmp_path.iterdir()) == []


# A child in the hands of an attacker: it speaks the protocol, then says anything.


@pytest.mark.parametrize(
    "answer",
    [
        r"b'\xff\xff\xff\xff'",
        r"b'\0\0\0\2{]'",
        r"b'\0\0\0\2[]'",
        r"b'\0\0\0\2{}'",
        "frame({'chunks': [{'position': 0}]})",
        "frame({'chunks': [chunk | {'text': 7}]})",
        "frame({'chunks': [chunk | {'more': 7}]})",
        "frame({'document': {'media_type': 'a', 'title': [], 'pages': 1, 'characters': 1}})",
        "frame({'document': 'a'})",
        "frame({'error': {'code': 'made_up', 'message': 'a'}})",
        "frame({'chunks': [chunk] * 100})",
        "b'[' * 10000",
    ],
)
def test_answers_are_not_believed(file, tmp_path, monkeypatch, answer):
    liar = tmp_path / "python"
    liar.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        "def frame(m): m = json.dumps(m).encode(); return len(m).to_bytes(4, 'big') + m\n"
        "chunk = {'position': 0, 'text': 'a', 'heading': '', 'page': None,"
        " 'start': 0, 'end': 1, 'tokens': 3}\n"
        "os.read(0, 9999); os.write(1, frame({'ready': True})); os.read(0, 9999)\n"
        f"data = {answer}\n"
        "while True: os.write(1, data)\n"
    )
    liar.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(liar))
    with worker_with(replace(LIMITS, seconds=10, text_characters=1000)) as worker:
        assert refused(worker, file(b"Lamp", "a.txt")) == "crashed"


def test_frames():
    read_end, write_end = os.pipe()
    reader = FrameReader(read_end)
    write_frame(write_end, {"a": "é🌊\udc80"})
    write_frame(write_end, {})
    assert (reader.read(), reader.read()) == ({"a": "é🌊\udc80"}, {})
    os.write(write_end, b"\0\0")
    with pytest.raises(FrameTimeoutError):
        reader.read(time.monotonic() + 0.05)
    with pytest.raises(FrameError):
        write_frame(write_end, {"a": "x" * MOST_FRAME_BYTES})
    os.close(write_end)
    with pytest.raises(EOFError):
        reader.read()
    os.close(read_end)
