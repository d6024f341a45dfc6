"""The mathematics of differential privacy; no I/O, no HTTP, no database, no torch."""
