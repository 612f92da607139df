"""A search through every state of a small job: real coordinators, agents and journals, every order of events."""
