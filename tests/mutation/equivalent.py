"""Mutants that no test can notice: (path, function, change) -> why it changes nothing that matters."""

from __future__ import annotations

EQUIVALENT: dict[tuple[str, str, str], str] = {
    ("storage/durable.py", "make_folders", "never `if not stat.S_ISDIR(each.lstat().st_mode)`"): (
        "whatever is then made in the file that stands in a folder's place fails with ENOTDIR, at the next call"
    ),
    ("journal/reading.py", "was_deleted", "never `if is_milestone(slot)`"): (
        "a start whose record is a milestone then gives that generation up and takes the next: a number is skipped over"
    ),
    ("bundle/table_reader.py", "_block", "never `if end + TRAILER_BYTES > len(data) - FOOTER_BYTES`"): (
        "a block that is cut short does not have its checksum either; this check has the better words"
    ),
    ("storage/keys.py", "_check_name", "never `if not name or name.startswith('/')`"): (
        "an empty or absolute name has an empty component, which is refused as well; this check has the better words"
    ),
    ("commit/removal.py", "remove_retired", "never `if not retired and (not waiting)`"): (
        "no check: where there is nothing to delete it spares the look at the leases"
    ),
    ("protocol/takeover.py", "Takeover.ended", "never `if self.state is not TakeoverState.TAKING`"): (
        "an order has one outcome, and the agent has forgotten a takeover that ended before that came"
    ),
}
