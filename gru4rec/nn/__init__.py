"""The network, its losses and optimizers, written without autograd: each forward has its backward beside it."""
