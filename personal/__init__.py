"""What makes an assistant its owner's own: personal adapters, which never leave unless exported."""
