"""Documents to chunks to vectors to a private index to ranked passages."""
