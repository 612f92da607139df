"""The gRPC protocol between the agents and the coordinator, each in its process. Knows nothing of state machines."""
