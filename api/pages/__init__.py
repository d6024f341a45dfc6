"""What the pages of both applications stand on: sign-in, sessions, the API's client, the frame.

The pages own no logic. Each call of theirs is a request to the application itself, made with the
key that the session was opened with: what a page may see and do is what its key may.
"""
