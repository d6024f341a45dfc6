"""The node's side of a federation: what it agrees to, what it sends, what it serves."""
