"""Word vectors: counts and PPMI from their definitions, queries, spectral measures, files, training a skip-gram."""

from __future__ import annotations

import json

import numpy as np
import pytest
from flax import nnx

import lax_linalg as la
import models
from lax_linalg.errors import DimensionMismatch, LinearAlgebraError, UnknownNameError
from tests.train.runs import small
from train.data import text
from train.errors import ConfigError, DataError
from train.loop import train_and_evaluate
from train.words import vectors_of


def test_counts_are_those_of_a_plain_loop():
    numbers = np.array([0, 1, -1, 2, 0, 0, 1])
    expected = np.zeros((3, 3), int)
    for i, a in enumerate(numbers):
        for j, b in enumerate(numbers):
            if i != j and abs(i - j) <= 2 and a >= 0 and b >= 0:
                expected[a, b] += 1
    np.testing.assert_array_equal(text.cooccurrences(numbers, 3, 2), expected)


def test_ppmi_is_log_of_joint_over_independent():
    counts = np.array([[4.0, 1, 0], [1, 0, 3], [0, 3, 2]])
    P = counts / counts.sum()
    for i in range(3):
        for j in range(3):
            mutual = np.log(P[i, j] / (P[i].sum() * P[:, j].sum())) if P[i, j] else -np.inf
            assert models.ppmi(counts)[i, j] == pytest.approx(max(mutual, 0))


def test_svd_vectors_are_the_best_approximation():
    """With power 1, the vectors' Gram matrix is the best rank-d approximation of M Mᵀ."""
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 9, (6, 6))
    counts = counts + counts.T
    E = models.ppmi_svd("abcdef", counts, width=2, power=1).vectors
    s, U = np.linalg.eigh(models.ppmi(counts) @ models.ppmi(counts).T)
    np.testing.assert_allclose(E @ E.T, (U[:, -2:] * s[-2:]) @ U[:, -2:].T, atol=1e-4)


def test_analogies_and_measures_of_a_planted_lattice():
    """Words on a parallelogram answer their analogy; isotropic vectors have no mean cosine and full effective rank."""
    base, shift = np.array([1.0, 0, 0, 0]), np.array([0, 0.6, 0, 0])
    planted = {"boy": base, "girl": base + shift, "king": [0, 0, 1, 0], "queen": [0, 0.6, 1, 0], "cup": [0, 0, 0, 1]}
    vectors = models.WordVectors(tuple(planted), np.array(list(planted.values())))
    assert vectors.analogy("boy", "girl", "king", 1)[0][0] == "queen"
    assert vectors.neighbours("king", 1)[0][0] == "queen"
    basis = models.WordVectors(tuple("abcd"), np.concatenate([np.eye(2), -np.eye(2)]))
    assert basis.anisotropy() == pytest.approx(-1 / 3)  # Σu = 0: −V/(V(V − 1))
    assert basis.effective_rank() == pytest.approx(2, rel=1e-5)


def test_help_topics_have_sensible_neighbours():
    vectors = vectors_of(width=32)
    assert len(vectors.words) == 2000
    near = [word for word, _ in vectors.neighbours("bytes", 15)]
    assert {"string", "strings", "bytearray", "byte"} & set(near)
    assert 1 < vectors.effective_rank() <= 32


def test_the_skip_gram_learns_through_the_loop(tmp_path):
    (tmp_path / "text.txt").write_text("the cat sat on the mat and the dog sat on the rug " * 40)
    config = small(
        tmp_path / "run",
        task="skipgram",
        model="skipgram",
        model_options="width=4",
        data_dir=str(tmp_path / "text.txt"),
        augment=False,
        learning_rate=0.05,
        steps=60,
    )
    train_and_evaluate(config, config.workdir)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "eval"]
    assert losses[0] == pytest.approx(np.log(2000), rel=0.05)  # uniform over the vocabulary
    assert losses[-1] < 3
    vectors = vectors_of(workdir=config.workdir)
    assert vectors.words[0] == "the" and vectors.vectors.shape == (8, 4)


def test_the_operator_is_the_matrix_of_logits():
    model = models.SkipGram(input_shape=(), num_classes=5, width=2, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(la.materialize(model.operator()), model(np.arange(5)).T, atol=1e-6)
    assert int(la.rank(model.operator())) == 2


def test_files_are_read_back(tmp_path):
    vectors = models.WordVectors(("up", "down"), np.array([[1.0, 2], [3, 4]], np.float32))
    vectors.save(tmp_path / "v.npz")
    (tmp_path / "w2v.txt").write_text("2 2\nup 1 2\ndown 3 4\n")
    (tmp_path / "glove.txt").write_text("up 1 2\ndown 3 4\n")
    for name in ("v.npz", "w2v.txt", "glove.txt"):
        found = models.load_vectors(tmp_path / name)
        assert found.words == vectors.words
        np.testing.assert_array_equal(found.vectors, vectors.vectors)


def test_bad_input_is_refused(tmp_path):
    (tmp_path / "torn.txt").write_text("2 2\nup 1 2\ndown 3\n")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    np.savez(tmp_path / "other.npz", a=1)
    vectors = models.WordVectors(("up", "down"), np.eye(2))
    with pytest.raises(LinearAlgebraError, match="line 3: expected a word and 2 numbers"):
        models.load_vectors(tmp_path / "torn.txt")
    with pytest.raises(LinearAlgebraError, match="holds no vectors"):
        models.load_vectors(tmp_path / "empty.txt")
    with pytest.raises(LinearAlgebraError, match="arrays words and vectors"):
        models.load_vectors(tmp_path / "other.npz")
    with pytest.raises(UnknownNameError, match="did you mean 'down'"):
        vectors["dwn"]
    with pytest.raises(DimensionMismatch, match="width 3"):
        models.ppmi_svd(["a", "b"], np.eye(2), width=3)
    with pytest.raises(DataError, match="no text in UTF-8"):
        text.read(tmp_path / "bytes.txt")
    with pytest.raises(DataError, match="--data_dir names a text file"):
        text.read(tmp_path / "missing.txt")
    with pytest.raises(ConfigError, match="no run in"):
        vectors_of(workdir=str(tmp_path))
