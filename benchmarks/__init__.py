"""python -m benchmarks NAME: each measures us beside a peer in one run."""
