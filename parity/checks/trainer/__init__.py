"""What the checks of a trainer share: watching it, recomputing what it did, resuming it, running it on ranks."""
