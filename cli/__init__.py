"""The alcove command."""
