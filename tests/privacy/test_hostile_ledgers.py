"""The verifier against hostile files: findings, never an exception and never a pass."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.canonical import canonical_bytes
from privacy.verification import LONGEST_LINE
from privacy.verification_report import Code
from tests.privacy.verifying import check, codes, genuine


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 7))
def test_garbage_anywhere_is_found(garbage: bytes, at: int) -> None:
    lines = genuine().lines
    if garbage:
        assert not check(b"".join([*lines[:at], garbage, *lines[at:]])).ok


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\n" * 1000,
        b"{}\n",
        b"null\n",
        b"[]\n",
        b'"record"\n',
        b"\xff\xfe\n",
        b"[" * 500_000 + b"\n",
        b'{"record":' * 50_000 + b"\n",
        b"9" * 1_000_000 + b"\n",
        b"x" * (LONGEST_LINE * 3),
        b"\x00" * 1000,
    ],
)
def test_files_that_are_no_ledger_are_refused(data: bytes) -> None:
    report = check(data)
    assert not report.ok
    assert "not accepted" in report.statements()[0]
    assert len(report.findings) <= 101


def test_a_file_cut_inside_its_last_record_is_found() -> None:
    for cut in (1, 2, 100, len(genuine().lines[-1]) - 1):
        assert Code.UNREADABLE in codes(check(genuine().file[:-cut]))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_wrong_types_in_a_signed_record_are_found(data: st.DataObject) -> None:
    """Even the coordinator cannot make the verifier stumble: the record is signed as it is."""
    value = json.loads(genuine().lines[2])["record"]
    target, path = value, []
    while isinstance(target, dict) and (not path or data.draw(st.booleans())):
        path.append(data.draw(st.sampled_from(sorted(target))))
        parent, target = target, target[path[-1]]
    replacement = data.draw(json_values.filter(lambda new: new != target))
    parent[path[-1]] = replacement
    try:
        message = canonical_bytes(value)
    except ValueError:
        return
    signature = genuine().key.sign(b"alcove/v1/ledger-record\x00" + message).hex()
    sealed = {"record": value, "signature": signature, "signer": genuine().public_key}
    lines = [*genuine().lines[:2], canonical_bytes(sealed) + b"\n", *genuine().lines[3:]]
    assert not check(b"".join(lines)).ok


@pytest.mark.parametrize(
    "plan",
    [
        {"cohort": 2**31, "min_survivors": 2**31, "noise_multiplier": 1e9},
        {"noise_multiplier": 1e-3},
        {"grid": 1e-300},
        {"dimension": 2**52},
    ],
)
def test_absurd_plans_in_a_signed_record_are_found(plan: dict[str, object]) -> None:
    value = json.loads(genuine().lines[1])["record"]
    value["round"]["facts"]["plan"] |= plan
    message = canonical_bytes(value)
    signature = genuine().key.sign(b"alcove/v1/ledger-record\x00" + message).hex()
    sealed = {"record": value, "signature": signature, "signer": genuine().public_key}
    report = check(genuine().lines[0] + canonical_bytes(sealed) + b"\n")
    assert not report.ok
