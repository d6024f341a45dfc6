"""A query map as files: its two matrices, and which embedder's questions it maps."""

from __future__ import annotations

import json
from collections.abc import Mapping

from safetensors.numpy import save

from retrieval.query_map import QueryMap
from storage.tensors import read_tensors

SPEC_FILE = "query_map.json"
TENSORS_FILE = "query_map.safetensors"
LARGEST: dict[str, int] = {SPEC_FILE: 1 << 16, TENSORS_FILE: 64 << 20}
"""Bytes that each file may have."""

_FORMAT, _VERSION = "alcove-query-map", 1


def query_map_files(query_map: QueryMap, embedder: str) -> dict[str, bytes]:
    """The files of a query map for the questions of this embedder (`Embedder.identity`)."""
    dimension, rank = query_map.basis.shape
    spec = {
        "format": _FORMAT,
        "version": _VERSION,
        "embedder": embedder,
        "dimension": dimension,
        "rank": rank,
        "formula": "q' = normalise(q + q A W), A = basis, W = weights",
    }
    tensors = {"basis": query_map.basis, "weights": query_map.weights}
    return {
        SPEC_FILE: (json.dumps(spec, indent=2) + "\n").encode(),
        TENSORS_FILE: save(tensors),
    }


def read_query_map(files: Mapping[str, bytes], embedder: str) -> QueryMap:
    """The query map of these files, by name.

    Args:
        embedder: whose questions it must be for.

    Raises:
        ValueError: a file is missing or too large, the spec is of another format or embedder, or
            the tensors are not those that it describes, or no query map.
    """
    if files.keys() != LARGEST.keys():
        raise ValueError(f"a query map is the files {SPEC_FILE} and {TENSORS_FILE}, no others")
    if len(files[SPEC_FILE]) > LARGEST[SPEC_FILE]:
        raise ValueError(f"{SPEC_FILE} has at most {LARGEST[SPEC_FILE]:,} bytes")
    try:
        spec = json.loads(files[SPEC_FILE])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{SPEC_FILE} is no JSON: {error}") from error
    if not isinstance(spec, dict) or (spec.get("format"), spec.get("version")) != (
        _FORMAT,
        _VERSION,
    ):
        raise ValueError(f"{SPEC_FILE} is of the format {_FORMAT!r}, version {_VERSION}")
    if spec.get("embedder") != embedder:
        raise ValueError(
            f"the query map is for the embedder {str(spec.get('embedder'))[:200]!r}, and this one"
            f" is {embedder!r}"
        )
    tensors = read_tensors(files[TENSORS_FILE], LARGEST[TENSORS_FILE])
    if sorted(tensors) != ["basis", "weights"]:
        raise ValueError(
            f"a query map has the tensors basis and weights, not {sorted(tensors)[:8]}"
        )
    if list(tensors["basis"].shape) != [spec.get("dimension"), spec.get("rank")]:
        raise ValueError(f"the basis is of shape {tensors['basis'].shape}, not as the spec says")
    return QueryMap(tensors["basis"], tensors["weights"])
