"""Whose messages are acted on: the checks that every message of an agent passes before anything else."""

from __future__ import annotations

from distckpt.model import Cause
from distckpt.protocol.membership import Membership
from distckpt.protocol.messages import AgentMessage, Join, Sender


def refusal(sender: Sender, message: AgentMessage, job: str, generation: int, members: Membership) -> Cause | None:
    """Why `message` must not be acted on; None if it may be."""
    elsewhere = _other_job(sender, job, generation)
    if elsewhere is not None:
        return elsewhere
    who = f"worker {sender.worker}"
    if not 0 <= sender.worker < members.world_size:
        text = f"there is no {who}: this job has {members.world_size} workers (0 to {members.world_size - 1})"
        return Cause("ConfigurationError", text, sender.worker)
    if members.was_replaced(sender.worker, sender.incarnation):
        return Cause("Fenced", f"a newer incarnation of {who} has joined", sender.worker)
    if isinstance(message, Join):
        return _other_size(sender, message, members)
    if members.find(sender.worker, sender.incarnation) is None:
        text = f"incarnation {sender.incarnation} of {who} has not joined generation {generation}"
        return Cause("Refused", text, sender.worker)
    return None


def _other_job(sender: Sender, job: str, generation: int) -> Cause | None:
    if sender.job != job:
        text = f"worker {sender.worker} is of job {sender.job!r}, this is job {job!r}"
        return Cause("Refused", text, sender.worker)
    if sender.generation == generation:
        return None
    text = f"worker {sender.worker} is of generation {sender.generation}, this is generation {generation}"
    return Cause("Fenced" if sender.generation < generation else "Refused", text, sender.worker)


def _other_size(sender: Sender, join: Join, members: Membership) -> Cause | None:
    if join.world_size == members.world_size:
        return None
    text = (
        f"worker {sender.worker} ({join.address or join.host}) counts {join.world_size} workers, "
        f"the chief counts {members.world_size}: they do not have the same TF_CONFIG"
    )
    return Cause("ConfigurationError", text, sender.worker)
