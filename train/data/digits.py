"""The 1,797 real 8×8 images of handwritten digits that come with scikit-learn, 360 of them held out."""

from __future__ import annotations

import numpy as np

from train.data import Data, split_off


def load(data_dir: str = "", split_seed: int = 0) -> Data:
    """1,437 training and 360 test images, [N, 8, 8, 1] in 0…16, split by class in the same proportion.

    Example:
        >>> data = load()
        >>> data.train["image"].shape, data.test["image"].shape
        ((1437, 8, 8, 1), (360, 8, 8, 1))

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    arrays = {"image": images.reshape(-1, 8, 8, 1).astype(np.uint8), "label": labels.astype(np.int32)}
    return Data(*split_off(arrays, 360, split_seed))
