"""Where a search runs: checks of this machine and of a Ray cluster before a launch."""
