"""Coverage-guided fuzzing of every parser of `federation.secagg`; run by `test_secagg.py`.

The first byte of an input chooses the parser, the second whether the rest gets a valid header.
What a parser accepts must encode to the same bytes again; what it does not accept it must refuse.
"""

import sys

import atheris

with atheris.instrument_imports(include=["federation"]):
    from federation.secagg import messages
    from federation.secagg.client.machine import Client
    from federation.secagg.config import RoundConfig
    from federation.secagg.primitives import Label, digest
    from federation.secagg.refusal import Refusal
    from federation.secagg.server.machine import Server
    from tests.federation.secagg.parties import Store, config, curious, identity

CONFIG = config(curious(3))
RECORDS = [
    messages.Advertisement,
    messages.Directory,
    messages.SealedShares,
    messages.Delivery,
    messages.MaskedInput,
    messages.SurvivorList,
    messages.SurvivorSignature,
    messages.SurvivorSignatures,
    messages.ReleasedShares,
    messages.Abort,
]


def one_input(data: bytes) -> None:
    if len(data) < 2:
        return
    choice, with_header, body = data[0] % (len(RECORDS) + 3), data[1] % 2, data[2:]
    try:
        if choice < len(RECORDS):
            record = RECORDS[choice]
            if with_header:
                body = bytes((messages.VERSION, record.kind)) + CONFIG.hash + body
            again = messages.encode(messages.decode(record, body, CONFIG.hash), CONFIG.hash)
        elif choice == len(RECORDS):
            again = RoundConfig.from_bytes(body).to_bytes()
        elif choice == len(RECORDS) + 1:
            body = _with_digest(Label.CLIENT_STATE, body, with_header)
            Client.restore(body, CONFIG, identity(0), Store(), newest=0)
            again = body
        else:
            body = _with_digest(Label.SERVER_STATE, body, with_header)
            Server.restore(body, CONFIG)
            again = body
    except Refusal:
        return
    if again != body:
        raise AssertionError(f"{body.hex()} came back as {again.hex()}")


def _with_digest(label: Label, body: bytes, valid: int) -> bytes:
    """States are read only behind their digest, which no fuzzer would guess."""
    if not valid:
        return body
    body = bytes((1, body[0] if body else 0)) + CONFIG.hash + body[1:]
    return body + digest(label, body)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
