"""A model folder served over HTTP by replicas that Ray Serve starts, watches and updates: `gru4rec serve`."""
