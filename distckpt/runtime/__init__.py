"""Coordinator and agent as they run: the threads, timers and sockets around the state machines of `protocol/`."""
