"""The 1,797 real 8×8 images of handwritten digits that come with scikit-learn, with a fixed held-out part of 360."""

from __future__ import annotations

import numpy as np

from train.data import Data


def load(data_dir: str = "") -> Data:
    """1,437 training and 360 held-out images, [N, 8, 8, 1] in 0…16, split by class in the same proportion.

    Example:
        >>> data = load()
        >>> data.train["image"].shape, data.test["image"].shape
        ((1437, 8, 8, 1), (360, 8, 8, 1))

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    image, label = images.reshape(-1, 8, 8, 1).astype(np.uint8), labels.astype(np.int32)
    train, test = train_test_split(np.arange(len(label)), test_size=360, stratify=label, random_state=0)
    return Data(*({"image": image[part], "label": label[part]} for part in (train, test)))
