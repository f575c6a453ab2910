"""Which dense algorithm runs on which backend, and small dense kernels."""
