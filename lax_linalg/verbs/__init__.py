"""One factorisation a file: the generic function, its contract, its result type and the guarded dense fallback."""
