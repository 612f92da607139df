"""Coordinator, agent, plan and retention, without I/O: `handle(event, now) -> effects`.

`coordinator` and `agent` are the two machines; `events` says what may happen to them and what the runtime owes them,
`effects` what they want done, `messages` what they say to each other, `deadlines` how long anything may take. `plan`
and `retention` are pure functions. Nothing here knows a clock, thread, socket, file or TensorFlow.
"""
