"""The history of the coordinator's database."""
