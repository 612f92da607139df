"""Power losses, and operations that fail, under a chief's real work on a real directory."""
