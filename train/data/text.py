"""Words of a text: any file, or the English that ships with CPython, the topics of its interactive help."""

from __future__ import annotations

import collections
import pathlib
import re
from typing import NamedTuple

import numpy as np

from train.errors import DataError


class Corpus(NamedTuple):
    """A text as numbers: its most frequent words, and each running word's place among them (−1: none)."""

    words: tuple[str, ...]
    numbers: np.ndarray


def read(path: str | pathlib.Path = "") -> str:
    """The text of a file, or CPython's help topics.

    Raises:
        DataError: when the file is missing or is no text; without a path, when this Python ships without its help.

    Example:
        >>> len(read()) > 100_000
        True
    """
    if not path:
        try:
            from pydoc_data.topics import topics
        except ImportError:
            raise DataError("this Python ships without its help topics; name a text file by --data_dir") from None
        return "\n".join(topics.values())
    try:
        return pathlib.Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; --data_dir names a text file here") from None


def corpus(text: str, size: int = 2000) -> Corpus:
    """Lower-case words (letters and apostrophes inside) and the `size` most frequent of them.

    Raises:
        DataError: for a text of fewer than two different words.

    Example:
        >>> corpus("To be, or not to be", size=2)
        Corpus(words=('to', 'be'), numbers=array([ 0,  1, -1, -1,  0,  1]))
    """
    running = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", text.lower())
    counted = collections.Counter(running)
    words = tuple(word for word, _ in counted.most_common(size))  # of equal counts, the first to appear
    if len(words) < 2:
        raise DataError(f"the text has {len(words)} different words; at least 2 are needed")
    index = {word: i for i, word in enumerate(words)}
    return Corpus(words, np.array([index.get(word, -1) for word in running]))


def pairs(numbers: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Every (word, context word) at most `window` words apart, in both directions; words without a number are skipped.

    Example:
        >>> [array.tolist() for array in pairs(np.array([0, 1, -1, 2]), window=2)]
        [[0, 1, 1, 2], [1, 2, 0, 1]]
    """
    left = [(numbers[:-gap], numbers[gap:]) for gap in range(1, window + 1)]
    centre, context = (np.concatenate([pair[side] for pair in left]) for side in (0, 1))
    both = (centre >= 0) & (context >= 0)
    centre, context = centre[both], context[both]
    return np.concatenate([centre, context]), np.concatenate([context, centre])


def cooccurrences(numbers: np.ndarray, size: int, window: int) -> np.ndarray:
    """How often each two words are at most `window` words apart, [size, size], symmetric.

    Example:
        >>> cooccurrences(np.array([0, 1, 0]), size=2, window=1).tolist()
        [[0, 2], [2, 0]]
    """
    counts = np.zeros((size, size), np.int64)
    np.add.at(counts, pairs(numbers, window), 1)
    return counts
