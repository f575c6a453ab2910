"""Study word vectors of a text, of a trained skip-gram or from a file: neighbours, analogies and spread.

python -m scripts.words --near=function,class
python -m scripts.words --workdir=runs/skipgram --analogy=list:lists::class
python -m scripts.words --vectors=glove.txt --near=king
"""

from __future__ import annotations

from absl import flags as absl_flags

from scripts import flags

TEXT = absl_flags.DEFINE_string("text", "", "text file; CPython's help topics by default")
WORKDIR = absl_flags.DEFINE_string("workdir", "", "folder of a run of --task=skipgram, to take its vectors")
VECTORS = absl_flags.DEFINE_string("vectors", "", "word2vec text file or .npz file, to take its vectors")
WIDTH = absl_flags.DEFINE_integer(
    "width", 64, "length of the vectors that PPMI and SVD compute from a text", lower_bound=1
)
WINDOW = absl_flags.DEFINE_integer(
    "window", 5, "largest distance at which two words of a text count as neighbours", lower_bound=1
)
NEAR = absl_flags.DEFINE_list("near", [], "words whose neighbours to print")
ANALOGY = absl_flags.DEFINE_list("analogy", [], "analogies to solve, as a:b::c: what is to c as b is to a")
SAVE = absl_flags.DEFINE_string("save", "", "write the vectors to this .npz file")


def main() -> None:
    from train.words import vectors_of

    analogies = []
    for given in ANALOGY.value:
        words = given.replace("::", ":").split(":")
        if len(words) != 3 or not all(words):
            raise absl_flags.Error(f"--analogy={given}: write a:b::c")
        analogies.append(words)
    vectors = vectors_of(TEXT.value, WORKDIR.value, VECTORS.value, WIDTH.value, WINDOW.value)
    count, width = vectors.vectors.shape
    print(f"{count} words of {width} numbers: mean cosine (anisotropy) {vectors.anisotropy():.4f}, ", end="")
    print(f"effective rank {vectors.effective_rank():.1f} of {width}")
    for word in NEAR.value:
        print(f"{word}: " + ", ".join(f"{near} {cosine:.2f}" for near, cosine in vectors.neighbours(word, 8)))
    for a, b, c in analogies:
        print(f"{a}:{b} :: {c}: " + ", ".join(f"{near} {cosine:.2f}" for near, cosine in vectors.analogy(a, b, c)))
    if SAVE.value:
        vectors.save(SAVE.value)


if __name__ == "__main__":
    flags.run(main)
