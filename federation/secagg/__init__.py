"""Secure aggregation: a server learns the sum of its clients' vectors modulo 2^32, and no vector.

The protocol is that of Bonawitz et al., "Practical secure aggregation for privacy-preserving
machine learning" (CCS 2017, eprint 2017/281), figure 4 with its consistency round, among neighbours
as in Bell et al., "Secure single-server aggregation with (poly)logarithmic overhead" (CCS 2020,
eprint 2020/704) where there are many clients. Two state machines, bytes in and bytes out; no I/O.

Reading order: `threat_model` (what is promised), `messages` (what is sent), `client.advertise`,
`share`, `masked`, `consistency`, `unmask` (figure 4, round by round) and the same names under
`server`; then `transcript` (what keys are derived from), `primitives`, `shamir`, `masks`, `graph`,
`degree`; last the two `machine` files.

What differs from the papers:
- All keys, masks and signatures are bound to a hash of the round's configuration (session, round,
  plan, model, roster, thresholds) and of all advertised keys.
- The order of the ring is a hash of those keys, so that clients recompute their neighbours.
- There is one survivor list and no list of drop-outs. Clients sign it in both threat models and ask
  for t signatures of survivors among their neighbours.
- Shares are opened before the masked input is sent, not in the last round.
- Clients commit to the seed of their self mask: false shares give a refusal and no false sum.

What rests on the caller:
- Connections are authenticated and keep messages whole in both directions; a masked input that is
  changed on the way cannot be told from another one.
- A client's states are stored before its messages leave, and the newest stage where it only grows
  (`client.machine`); a round is entered once. One process at a time holds a client.
- A client's `RoundConfig` is made from the plan and the roster that the node itself has accepted.
- When messages are sent must not depend on private data.
- A budget is charged before the server closes stage SIGNING.

What no caller can get from it: protection from clients. One of them can falsify the sum by its own
vector, and make the round fail by false shares.
"""

from federation.secagg.client.machine import Client, Persist, Snapshot
from federation.secagg.config import RoundConfig
from federation.secagg.refusal import Reason, Refusal
from federation.secagg.server.machine import Server
from federation.secagg.server.unmask import Aggregate
from federation.secagg.threat_model import Active, HonestButCurious, ThreatModel

__all__ = [
    "Active",
    "Aggregate",
    "Client",
    "HonestButCurious",
    "Persist",
    "Reason",
    "Refusal",
    "RoundConfig",
    "Server",
    "Snapshot",
    "ThreatModel",
]
