"""From an event log to the mini-batches of a training epoch."""
