"""Training: a pure jitted loop on Optax, spectrum probes, regularisers, checkpoints that resume to the last bit."""
