"""How fast /health answers while the node reads a 500-page PDF, embeds it and writes answers.

A bare server in a process of its own is asked at the same time: what it needs under the same load
is what the machine takes from everybody.
"""

from __future__ import annotations

import gc
import io
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from reportlab.pdfgen.canvas import Canvas

from api.node.node import create
from benchmarks.ingest import WORDS
from benchmarks.report import Options, Row
from benchmarks.servers import await_ready, free_port, serve_node, serving
from storage.settings import NodeSettings

SEED = 3
PAGES = 500
LINES = 40
SECONDS = 60.0
QUICK_SECONDS = 10.0
IDLE_SECONDS = 5.0
ANSWERERS = 2
PAUSE = 0.02


def run(options: Options) -> Iterator[Row]:
    """Percentiles of /health under load, and beside them on the idle node."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        key = create(NodeSettings(home=home)).token
        with serve_node(home) as url, _bare_server(Path(folder)) as bare:
            client = httpx.Client(
                base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=120
            )
            addresses = (f"{url}/health", bare)
            idle, _ = _percentiles(addresses, IDLE_SECONDS)
            files = [("file", ("long.pdf", _pdf()))]
            accepted = client.post("/v1/assistants/default/documents", files=files)
            accepted.raise_for_status()
            stop = threading.Event()
            answerers = [
                threading.Thread(target=_answer, args=(url, key, stop)) for _ in range(ANSWERERS)
            ]
            for thread in answerers:
                thread.start()
            seconds = QUICK_SECONDS if options.quick else SECONDS
            loaded, theirs = _percentiles(addresses, seconds)
            stop.set()
            for thread in answerers:
                thread.join()
            job = client.get(f"/v1/jobs/{accepted.json()['id']}").json()
    case = f"pages={PAGES} answers={ANSWERERS} ingest={job['state']}"
    for name in loaded:
        metric = f"/health {name}, ms"
        yield Row("health", case, metric, loaded[name], theirs[name], "bare http.server beside it")
        yield Row("health", "idle node", metric, idle[name])


def _percentiles(addresses: tuple[str, ...], seconds: float) -> list[dict[str, float]]:
    """Of the answers of each address in milliseconds, all asked at the same time."""

    def ask(address: str) -> dict[str, float]:
        taken = []
        with httpx.Client(timeout=30) as client:
            deadline = time.perf_counter() + seconds
            while (start := time.perf_counter()) < deadline:
                client.get(address).raise_for_status()
                taken.append((time.perf_counter() - start) * 1000)
                time.sleep(PAUSE)
        p50, p99 = np.percentile(taken, [50, 99])
        return {"p50": float(p50), "p99": float(p99), "worst": max(taken)}

    # A search for garbage among all that this process has loaded would count as theirs.
    gc.disable()
    try:
        with ThreadPoolExecutor(len(addresses)) as pool:
            return list(pool.map(ask, addresses))
    finally:
        gc.enable()


@contextmanager
def _bare_server(folder: Path) -> Iterator[str]:
    """The address of a server that does nothing else."""
    served = folder / "bare"
    served.mkdir()
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with serving([*command, "--directory", str(served)], {}, quiet=True) as process:
        yield await_ready(process, f"http://127.0.0.1:{port}", "/")


def _answer(url: str, key: str, stop: threading.Event) -> None:
    body = {
        "model": "default",
        "messages": [{"role": "user", "content": "Write about rivers and bridges."}],
        "use_context": False,
        "max_tokens": 100,
    }
    with httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=120) as client:
        while not stop.is_set():
            client.post(f"{url}/v1/chat/completions", json=body).raise_for_status()


def _pdf() -> bytes:
    chosen = random.Random(SEED)
    target = io.BytesIO()
    canvas = Canvas(target)
    for page in range(PAGES):
        for line in range(LINES):
            canvas.drawString(60, 780 - 18 * line, " ".join(chosen.choices(WORDS, k=11)))
        canvas.drawString(60, 30, f"Page {page + 1}")
        canvas.showPage()
    canvas.save()
    return target.getvalue()
