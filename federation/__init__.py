"""Plans, rounds, secure aggregation, participants, shared adapters."""
