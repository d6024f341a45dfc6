"""The client's side. One file per round: the state it leads to, and the function that gets there.

The functions take a state and the server's bytes and return the next state and the answer, or
refuse; they change nothing. `machine` runs them in order and keeps the rules of sending.
"""
