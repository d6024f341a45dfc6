"""Passages to a streamed, cited answer."""
