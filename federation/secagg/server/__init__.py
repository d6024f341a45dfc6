"""The server's side. One file per round, with the state in which its messages are collected.

Every state has `expected` (who may send), `accept` (check one message and keep it, or refuse and
keep nothing), `close` or `open` (what follows), and `write` and `read` for saving. `machine` runs
them.
"""
