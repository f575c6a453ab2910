"""Word vectors: by factorising the PPMI matrix, from a trained skip-gram, or from files; queries and their spectrum."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import lax_linalg as la
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, UnknownNameError
from models.catalog import registry
from models.checks import positive


@registry.register("skipgram")
class SkipGram(nnx.Module):
    """Skip-gram by one factorisation: the logits of the context words of word w are row w of E Cᵀ, of rank ≤ width.

    Args:
        input_shape: (), a word is a number.
        num_classes: size V of the vocabulary.
        width: size d of the vectors.
        rngs: source of the initial weights.

    Raises:
        DimensionMismatch: for sizes < 1, or an input_shape that is not ().

    Cost: 2 V d FLOPs an example (the full softmax, no sampling).

    Example:
        >>> model = SkipGram(input_shape=(), num_classes=7, width=3, rngs=nnx.Rngs(0))
        >>> model(jnp.array([0, 6])).shape
        (2, 7)

    Source: Mikolov et al., arXiv:1301.3781, section 3.2; as a factorisation: Levy and Goldberg, NeurIPS 2014.
    """

    def __init__(self, *, input_shape: Sequence[int], num_classes: int, width: int = 64, rngs: nnx.Rngs):
        if tuple(input_shape):
            raise DimensionMismatch(f"skipgram takes word numbers, so input_shape is (), got {tuple(input_shape)}")
        scale = positive("width", width) ** -0.5
        self.embedding = nnx.Param(scale * jax.random.normal(rngs.params(), (num_classes, width)))
        self.context = nnx.Param(scale * jax.random.normal(rngs.params(), (num_classes, width)))

    def operator(self, input_shape: Sequence[int] | None = None) -> la.LowRank:
        """The matrix of logits, C Eᵀ.

        Args:
            input_shape: not needed.

        Returns:
            `la.LowRank` [V, V].

        Example:
            >>> SkipGram(input_shape=(), num_classes=7, width=3, rngs=nnx.Rngs(0)).operator().shape
            (7, 7)
        """
        return la.LowRank(self.context[...], self.embedding[...])

    def __call__(self, words: jax.Array) -> jax.Array:
        return self.embedding[...][words] @ self.context[...].T


@dataclasses.dataclass(frozen=True, eq=False)
class WordVectors:
    """Words and their vectors [V, d], the most frequent first.

    Raises:
        DimensionMismatch: when there are not as many vectors as words.
        LinearAlgebraError: for a word that stands twice.

    Example:
        >>> vectors = WordVectors(("up", "down"), np.eye(2))
        >>> vectors["down"].tolist()
        [0.0, 1.0]
    """

    words: tuple[str, ...]
    vectors: np.ndarray

    def __post_init__(self):
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.words):
            raise DimensionMismatch(f"{len(self.words)} words need vectors [words, d], got {self.vectors.shape}")
        object.__setattr__(self, "_index", {word: i for i, word in enumerate(self.words)})
        if len(self._index) != len(self.words):  # type: ignore[attr-defined]
            raise LinearAlgebraError("a word stands twice in the vocabulary")

    def index(self, word: str) -> int:
        """The number of a word.

        Raises:
            UnknownNameError: for a word that is not in the vocabulary; gives the nearest spelling.

        Example:
            >>> WordVectors(("up", "down"), np.eye(2)).index("down")
            1
        """
        if word not in self._index:  # type: ignore[attr-defined]
            error = UnknownNameError.of("word", word, self.words)
            raise UnknownNameError(str(error).split("Available:")[0] + f"The vocabulary has {len(self.words)} words")
        return self._index[word]  # type: ignore[attr-defined]

    def __getitem__(self, word: str) -> np.ndarray:
        return self.vectors[self.index(word)]

    def nearest(self, vector: np.ndarray, count: int = 10, without: Sequence[str] = ()) -> list[tuple[str, float]]:
        """The words whose vectors have the largest cosine with `vector`.

        Args:
            vector: [d].
            count: how many words.
            without: words left out.

        Returns:
            (word, cosine), largest first.

        Cost: O(V d).

        Example:
            >>> WordVectors(("up", "down"), np.eye(2)).nearest(np.array([1.0, 0.1]), 1)[0][0]
            'up'
        """
        unit = _unit(self.vectors)
        cosine = unit @ _unit(np.asarray(vector)[None])[0]
        cosine[[self.index(word) for word in without]] = -np.inf
        best = np.argsort(-cosine, kind="stable")[:count]
        return [(self.words[i], float(cosine[i])) for i in best if np.isfinite(cosine[i])]

    def neighbours(self, word: str, count: int = 10) -> list[tuple[str, float]]:
        """The words nearest to a word, itself left out.

        Example:
            >>> WordVectors(("a", "b", "c"), np.array([[1.0, 0], [1, 0.2], [0, 1]])).neighbours("a", 1)[0][0]
            'b'
        """
        return self.nearest(self[word], count, (word,))

    def analogy(self, a: str, b: str, c: str, count: int = 5) -> list[tuple[str, float]]:
        """What is to c as b is to a: the words nearest to b − a + c, of unit vectors, the three left out.

        Example:
            >>> vectors = np.array([[1.0, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0.7, 0.7]])
            >>> WordVectors(("man", "woman", "king", "queen"), vectors).analogy("man", "woman", "king", 1)[0][0]
            'queen'

        Source: Mikolov, Yih and Zweig, NAACL 2013, section 4.
        """
        u = {word: _unit(self[word][None])[0] for word in (a, b, c)}
        return self.nearest(u[b] - u[a] + u[c], count, (a, b, c))

    def anisotropy(self) -> float:
        """The mean cosine between two different words, 0 for isotropic vectors: (‖Σ u_i‖² − V)/(V(V − 1)).

        Example:
            >>> WordVectors(("a", "b"), np.array([[1.0, 0], [2, 0]])).anisotropy()
            1.0

        Source: Ethayarajh, arXiv:1909.00512, section 3.3.
        """
        total, n = _unit(self.vectors).sum(0), len(self.words)
        return float((total @ total - n) / (n * (n - 1)))

    def effective_rank(self) -> float:
        """exp(−Σ p log p) with p = σ/Σσ, of the centred vectors: how many directions they fill.

        Example:
            >>> round(WordVectors(("a", "b", "c"), np.array([[1.0, 0], [-1, 0], [0, 0]])).effective_rank(), 3)
            1.0

        Source: Roy and Vetterli, The effective rank (EUSIPCO 2007), definition 1.
        """
        s = np.asarray(la.svdvals(la.Dense(jnp.asarray(self.vectors - self.vectors.mean(0)))), np.float64)
        p = s / s.sum()
        p = p[p > 1e-9]  # rounding's singular values
        return float(np.exp(-np.sum(p * np.log(p))))

    def save(self, path: str | pathlib.Path) -> None:
        """Write words and vectors to an .npz file.

        Example:
            >>> import tempfile
            >>> path = pathlib.Path(tempfile.mkdtemp()) / "words.npz"
            >>> WordVectors(("up", "down"), np.eye(2)).save(path)
            >>> load_vectors(path).words
            ('up', 'down')
        """
        np.savez(path, words=np.array(self.words), vectors=self.vectors)


def ppmi(counts: np.ndarray) -> np.ndarray:
    """Positive pointwise mutual information, max(0, log(n_ij N / (n_i n_j))), 0 where nothing was counted.

    Args:
        counts: co-occurrences n_ij ≥ 0, [V, V].

    Returns:
        [V, V].

    Example:
        >>> ppmi(np.array([[2.0, 0], [0, 2.0]])).round(3).tolist()
        [[0.693, 0.0], [0.0, 0.693]]

    Source: Church and Hanks, 1990; Levy and Goldberg, NeurIPS 2014, section 2.
    """
    counts = np.asarray(counts, np.float64)
    total = counts.sum()
    expected = counts.sum(1, keepdims=True) * counts.sum(0, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.log(counts * total / expected)
    return np.where(counts > 0, np.maximum(information, 0), 0)


def ppmi_svd(words: Sequence[str], counts: np.ndarray, width: int = 64, power: float = 0.5) -> WordVectors:
    """Vectors U_d Σ_d^power from the singular value decomposition of the PPMI matrix.

    Args:
        words: the vocabulary.
        counts: co-occurrences [V, V].
        width: size d ≤ V of the vectors.
        power: 1 gives the best approximation of PPMI PPMIᵀ by inner products, 1/2 splits the values evenly.

    Returns:
        `WordVectors`.

    Raises:
        DimensionMismatch: for a width above V.

    Cost: one singular value decomposition, O(V³).

    Example:
        >>> ppmi_svd(["a", "b"], np.array([[0.0, 3], [3, 1]]), width=1).vectors.shape
        (2, 1)

    Source: Levy, Goldberg and Dagan, TACL 2015, sections 2.2 and 3.3.
    """
    if positive("width", width) > len(words):
        raise DimensionMismatch(f"{len(words)} words have vectors of at most that size, got width {width}")
    U, S, _ = la.svd(la.Dense(jnp.asarray(ppmi(counts), jnp.float32)))
    return WordVectors(tuple(words), np.asarray(U[:, :width] * S[:width] ** power))


def load_vectors(path: str | pathlib.Path) -> WordVectors:
    """Read word vectors: .npz with "words" and "vectors", or word2vec's text (a line "V d", then "word x₁ … x_d").

    GloVe's text, which lacks the first line, is read too.

    Args:
        path: of the file.

    Returns:
        `WordVectors`.

    Raises:
        LinearAlgebraError: when the file is not of that form; names the line.

    Example:
        >>> import tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "words.txt"
        >>> _ = path.write_text("2 3\\nup 1 0 0\\ndown 0 1 0\\n")
        >>> load_vectors(path).vectors.shape
        (2, 3)
    """
    path = pathlib.Path(path)
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as file:
                return WordVectors(tuple(str(word) for word in file["words"]), np.asarray(file["vectors"]))
        except (KeyError, ValueError) as error:
            raise LinearAlgebraError(f"{path} must hold the arrays words and vectors: {error}") from None
    words: list[str] = []
    rows: list[list[float]] = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            word, *numbers = line.split() or [""]
            if number == 1 and len(numbers) == 1 and word.isdecimal():
                continue
            try:
                row = [float(x) for x in numbers]
            except ValueError:
                row = []
            if not row or (rows and len(row) != len(rows[0])):
                raise LinearAlgebraError(
                    f"{path}, line {number}: expected a word and {len(rows[0]) if rows else 'its'} numbers"
                )
            words.append(word)
            rows.append(row)
    if not rows:
        raise LinearAlgebraError(f"{path} holds no vectors")
    return WordVectors(tuple(words), np.array(rows, np.float32))


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)
