"""What people and monitoring see of a job: what happened, how it stands, and why."""
