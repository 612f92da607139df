"""What the chief does to the shared path: commit, publish, retire, quarantine, recover. Runs on one thread."""
