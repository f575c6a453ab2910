"""Command lines: absl flags, then one call into train/ or lax_linalg/."""

import os

# LAPACK's threads spin against XLA's while they wait: on 2 cores a 512×512 SVD was seen 10 to 50 times slower with
# both. Set before NumPy is imported; a value that the user set stands.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
