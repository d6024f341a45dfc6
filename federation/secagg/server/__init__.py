"""The server's side: one file per state, `machine` to run them."""
