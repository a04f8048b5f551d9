"""C on this machine: compiler, cache of libraries, kernels. Imports no Tensor."""
