"""What both ends of a connection agree on: limits, and how soon a dead peer is noticed."""

from __future__ import annotations

from distckpt.rpc.checks import MESSAGE_BYTES_MAX

# Pings are answered by gRPC's own threads, so a process that is merely busy in Python is not taken for dead. A machine
# that vanished without a word is noticed after the sum of the two; a process that died, at once.
_PING_EVERY_MS = 5_000
_PING_ANSWER_MS = 5_000

OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", _PING_EVERY_MS),
    ("grpc.keepalive_timeout_ms", _PING_ANSWER_MS),
    # Without this one a ping's answer is waited for for a minute, whatever the line before says (seen with gRPC 1.85).
    ("grpc.http2.ping_timeout_ms", _PING_ANSWER_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A server that is busy takes the pings by which gRPC measures a connection under load for an attack, and closes it
    # ("too many pings": seen with 100 agents that report their shares at once).
    ("grpc.http2.max_ping_strikes", 0),
)

WATCHING = "distckpt-watching"
"""The key in the server's initial metadata that says that a Watch stands."""
