"""What both ends of a connection agree on: limits, and how soon a dead peer is noticed."""

from __future__ import annotations

from distckpt.protocol.deadlines import Deadlines
from distckpt.rpc.checks import MESSAGE_BYTES_MAX

SILENCE_S = Deadlines().silence_s
PING_MS_MIN = 5_000
_PINGS_IN_SILENCE = 3

OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # Else each message that comes on a quiet connection is followed by a ping, which measures what small messages do
    # not need: a fifth of the processor time of a save of 1,000 workers.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A server that is busy takes the pings by which gRPC measures a connection under load for an attack, and closes it
    # ("too many pings": seen with 100 agents that report their shares at once).
    ("grpc.http2.max_ping_strikes", 0),
)


def keepalive(silence_s: float) -> tuple[tuple[str, int], ...]:
    """The pings of a connection whose ends count as lost after `silence_s`, a third of it apart, with as much time for
    the answer.

    The protocol's heartbeats find out who is lost. Pings are for what these cannot do: they tell a machine that
    vanished from one that is silent, sooner (a process that died is noticed at once, without them), and gRPC's own
    threads answer them, so a process that is merely busy in Python is not taken for dead. But on a machine that is busy
    with thousands of connections an answer takes its time, and a connection that is closed for that is one more to be
    made: where heartbeats are rarer (`Deadlines.for_world`), so are pings.
    """
    ping_ms = max(PING_MS_MIN, round(1_000 * silence_s / _PINGS_IN_SILENCE))
    return (
        ("grpc.keepalive_time_ms", ping_ms),
        ("grpc.keepalive_timeout_ms", ping_ms),
        # Without this an answer is waited for for a minute, whatever the line before says (seen with gRPC 1.85).
        ("grpc.http2.ping_timeout_ms", ping_ms),
    )


CONNECTED = "distckpt-connected"
"""The key in the server's initial metadata that says that a stream stands."""
