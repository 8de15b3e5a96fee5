"""Where observations come from: worlds to train in, generated token rows, and episodes recorded from MettaGrid."""
