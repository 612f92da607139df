"""When a worker is lost between two saves: the newest snapshot that all survivors have kept becomes a checkpoint.

The survivors' heartbeats say what they keep. When each has spoken since the loss, the coordinator names the newest step
that all of them have, and each announces its snapshot of it: from there on it is a save like any other, without the one
that is lost (save_round.py). When the coordinator itself is lost, each agent sees to it alone (agent.py, takeover.py).

Promised: what is salvaged is newer than the last commit; one attempt for each loss; a save that the training asks for
is not kept waiting by survivors that do not come to a salvage; and a worker whose training is over may go when no loss
can turn up any more for which its snapshots are needed.
"""

from __future__ import annotations

from distckpt.model import CHIEF
from distckpt.protocol.desk import Desk
from distckpt.protocol.membership import Member, Membership, Presence
from distckpt.protocol.messages import Alive, Salvage
from distckpt.protocol.rounds import Rounds


class Salvages:
    """Sets `rounds.salvaged`, which ends with the save."""

    def __init__(self, desk: Desk, members: Membership, rounds: Rounds) -> None:
        self._desk = desk
        self._members = members
        self._rounds = rounds
        self._lost_at: float | None = None
        """Of the last loss that nothing was decided on yet."""

    def lost(self) -> None:
        """Some worker is lost."""
        self._lost_at = self._desk.now

    def told(self, member: Member, kept: tuple[int, ...], *, is_parting: bool) -> None:
        """Takes what a heartbeat says."""
        begins_to_part = is_parting and not member.is_parting
        member.kept, member.is_parting, member.told_at = kept, is_parting, self._desk.now
        wanted = self._rounds.salvaged
        if wanted is not None and wanted in kept:
            self._desk.say(member, Salvage(wanted))
        if begins_to_part and self.all_may_go:
            for other in self._survivors:
                self._desk.say(other, Alive(may_go=True))

    def advance(self) -> None:
        """Decides what is salvaged, when nothing else is open and all survivors have spoken since the loss."""
        if self._lost_at is None or self._rounds.current is not None:
            return
        survivors = self._survivors
        if any(member.told_at < self._lost_at for member in survivors):
            return
        self._lost_at = None
        step = self._newest_common(survivors)
        if step is None:
            return
        self._rounds.salvaged = step
        who = ", ".join(str(worker) for worker in self._members.those(Presence.LOST))
        self._desk.log("warning", f"lost: worker {who}: what the others kept of the end of step {step} is salvaged")
        for member in survivors:
            self._desk.say(member, Salvage(step))

    def _newest_common(self, survivors: list[Member]) -> int | None:
        """The newest step that all of them have, unless a commit is as new, or someone is missing without whom no save
        goes on.
        """
        if self._members.those(Presence.LEFT) or all(member.worker != CHIEF for member in survivors):
            return None
        common = set.intersection(*(set(member.kept) for member in survivors))
        live = self._rounds.checkpoints
        step = max(common, default=None)
        return None if step is None or (live and step <= live[-1].step) else step

    @property
    def _survivors(self) -> list[Member]:
        return [member for member in self._members if member.presence is Presence.PRESENT]

    @property
    def all_may_go(self) -> bool:
        """Whether nobody needs what the others keep: all that are there are parting, and nothing is to be salvaged."""
        if self._lost_at is not None or self._rounds.salvaged is not None or self._rounds.current is not None:
            return False
        return all(member.is_parting for member in self._survivors)
