"""The node's HTTP application."""
