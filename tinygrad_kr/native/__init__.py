"""C on this machine: its compiler, its cache of libraries, its kernels. Knows no Tensor."""
