"""What filters mean, in Python, and strategies that make them."""

from __future__ import annotations

import string
from typing import Any

from hypothesis import strategies as st

from retrieval import filters

NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.1, 0.30000000000000004, 1e-300, 2.0**53, 2**53 + 1]),
)
TEXTS = st.one_of(st.sampled_from(["", "a", "b", "B", "é", "1", "true", "null"]), st.text())
VALUES = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
NAMES = st.one_of(
    st.sampled_from(["year", "", "a.b", "a[0]", "[0]", "#", "*", "$.x", "é", "\n", "ключ", "1"]),
    st.text(st.characters(exclude_characters='"\\\0$', codec="utf-8"), max_size=5),
).filter(lambda name: name not in filters.OWN_FIELDS and not name.startswith("$"))
COMPARISONS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte")
SMALL = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "truth value"
    return "number" if isinstance(value, int | float) else "text"


def holds(op: str, value: Any, operand: Any) -> bool:
    """What an operator means, in Python."""
    if op == "$in":
        return any(holds("$eq", value, one) for one in operand)
    if op == "$nin":
        return not holds("$in", value, operand)
    if op == "$ne":
        return not holds("$eq", value, operand)
    if kind(value) != kind(operand):
        return False
    match op:
        case "$eq":
            return bool(value == operand)
        case "$gt":
            return bool(value > operand)
        case "$gte":
            return bool(value >= operand)
        case "$lt":
            return bool(value < operand)
        case "$lte":
            return bool(value <= operand)
        case "$contains":
            return operand.translate(SMALL) in value.translate(SMALL)
    raise AssertionError(op)


def passes(given: Any, described: dict[str, Any]) -> bool:
    """What a filter means, in Python."""
    for name, condition in given.items():
        if name == "$and":
            held = all(passes(part, described) for part in condition)
        elif name == "$or":
            held = any(passes(part, described) for part in condition)
        else:
            conditions = condition if isinstance(condition, dict) else {"$eq": condition}
            value = described.get(name)
            held = all(holds(op, value, operand) for op, operand in conditions.items())
        if not held:
            return False
    return True


def operands(
    op: str, values: st.SearchStrategy[Any], ordered: st.SearchStrategy[Any]
) -> st.SearchStrategy[Any]:
    if op in ("$in", "$nin"):
        return st.lists(values, max_size=4)
    if op == "$contains":
        return TEXTS
    return values if op in ("$eq", "$ne") else ordered


def some_filters(
    names: st.SearchStrategy[str],
    values: st.SearchStrategy[Any] = VALUES,
    ordered: st.SearchStrategy[Any] | None = None,
) -> st.SearchStrategy[Any]:
    """Filters of a few conditions on `names`; `ordered` are the operands of $gt and the like."""
    ordered = values if ordered is None else ordered
    conditions = st.one_of(
        values,
        *(
            operands(op, values, ordered).map(lambda operand, op=op: {op: operand})
            for op in (*COMPARISONS, "$in", "$nin", "$contains")
        ),
        st.fixed_dictionaries({"$gte": ordered, "$lt": ordered, "$ne": values}),
    )
    return st.recursive(
        st.dictionaries(names, conditions, max_size=2),
        lambda parts: st.one_of(
            st.fixed_dictionaries({"$and": st.lists(parts, min_size=1, max_size=3)}),
            st.fixed_dictionaries({"$or": st.lists(parts, min_size=1, max_size=3)}),
        ),
        max_leaves=6,
    )
