"""The coordinator's HTTP application."""
