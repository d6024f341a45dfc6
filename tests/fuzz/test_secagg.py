"""A minute of coverage-guided fuzzing of what secure aggregation reads."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from federation.secagg.messages import Kind
from federation.secagg.primitives import HASH_BYTES
from tests.federation.secagg.parties import Round, config, curious

ROOT = Path(__file__).parents[2]
HEADER = 2 + HASH_BYTES


@pytest.mark.fuzz
def test_parsers_of_secure_aggregation_refuse_or_accept(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds()):
        (corpus / str(number)).write_bytes(seed)
    options = ["-max_total_time=50", "-max_len=2000", f"-artifact_prefix={tmp_path}/"]
    run = subprocess.run(
        [sys.executable, "tests/fuzz/secagg_parsers.py", *options, str(corpus)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    assert "Done" in run.stderr


def seeds() -> list[bytes]:
    """One valid input for every parser, in the form that the harness takes."""
    played = Round(config(curious(3)))
    parsers = len(Kind)
    found = [bytes((parsers, 0)) + played.config.to_bytes()]
    for stage in range(5):
        outbox = played.until(0) if stage == 0 else dict(played.server.outbox)
        saved = played.server.save()
        found.append(bytes((parsers + 2, 1)) + saved[1:2] + saved[HEADER:-HASH_BYTES])
        for party in played.parties:
            sent = party.answer(stage, outbox[party.index]) if stage else party.client.message
            played.server.receive(party.index, sent)
        data = played.parties[0].store.newest.data
        found.append(bytes((parsers + 1, 1)) + data[1:2] + data[HEADER:-HASH_BYTES])
        messages = [sent, outbox[0]] if stage else [sent]
        found += [bytes((m[1] - 1, 1)) + m[HEADER:] for m in messages]
        if stage < 4:
            played.server.close()
    leaving = played.parties[0].client.leave()
    return [*found, bytes((leaving[1] - 1, 1)) + leaving[HEADER:]]
