"""Secure aggregation of vectors modulo 2^32 (Bonawitz et al. 2017, Bell et al. 2020)."""
