"""What the pages across runs show, each in words, as a formula, and with the function that computes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Definition:
    """One measure. `module` is a path in the repository and `function` a name in it."""

    anchor: str
    name: str
    words: str
    formula: str
    module: str
    function: str


SCORE = Definition(
    "score",
    "Retrieval score",
    "How much of the answer a head copies: of the answer's tokens k, the share that the head attended to with its "
    "largest attention weight while the model produced that very token; averaged over the samples that it answers.",
    "score(h) = mean over counted samples of |copied(h)| / |k|",
    "rh_bench/scores/heads.py",
    "score",
)
CURVE = Definition(
    "curve",
    "Curve of scores",
    "All heads of a model from the strongest to the weakest. Rank is divided by the number of heads, so that models of "
    "different size share one axis. For a family: the median over its models at each normalised rank, and the band "
    "from the first to the third quartile.",
    "f(r) = score of the ⌈rH⌉-th strongest of H heads, 0 < r ≤ 1",
    "leaderboard/universality_charts.py",
    "curve_points",
)
SHARE = Definition(
    "share",
    "Share of retrieval heads",
    "Heads with a score above 0.1, of all heads. The paper found fewer than 5%. The interval of a model is the 95% "
    "bootstrap interval over its samples; that of a family is over its models, resampled as a whole.",
    "share = |{h : score(h) > 0.1}| / H",
    "rh_bench/stats/distribution.py",
    "share_above",
)
DEPTH = Definition(
    "layers",
    "Depth of retrieval heads",
    "Where the retrieval heads are in the network: their share in each tenth of its layers, from the first "
    "layers to the last.",
    "tenth of layer i of L = ⌊10 i / L⌋, i from 0",
    "leaderboard/universality_charts.py",
    "depth_shares",
)
PEARSON = Definition(
    "pearson",
    "Pearson correlation of two models",
    "Whether the scores of the same heads rise and fall together. The few strong heads dominate it.",
    "(H Σxy − Σx Σy) / √((H Σx² − (Σx)²)(H Σy² − (Σy)²))",
    "rh_bench/stats/similarity.py",
    "pearson",
)
SPEARMAN = Definition(
    "spearman",
    "Spearman correlation of two models",
    "Whether the same heads come in the same order, ties at their average rank. All heads count equally, including the "
    "many weak ones.",
    "Pearson correlation of the ranks of x and y",
    "rh_bench/stats/similarity.py",
    "spearman",
)
JACCARD = Definition(
    "jaccard",
    "Overlap above 0.1 of two models",
    "Of the heads above 0.1 in either model, the share that is above 0.1 in both (Jaccard). “By chance” is the exact "
    "overlap of random sets of the same sizes, from the hypergeometric distribution.",
    "|A ∩ B| / |A ∪ B|; by chance Σₖ P(k) k / (|A| + |B| − k)",
    "rh_bench/stats/similarity.py",
    "jaccard",
)
TOP = Definition(
    "top",
    "Overlap of the ten strongest",
    "Of the ten strongest heads of one model, the share that is among the ten strongest of the other. By chance it is "
    "10 / H.",
    "|top₁₀(x) ∩ top₁₀(y)| / 10",
    "rh_bench/stats/similarity.py",
    "top_overlap",
)
ROBUSTNESS = Definition(
    "robustness",
    "Robustness over needles, lengths, depths",
    "Whether the heads are the same in all parts of the samples: heads are scored per needle (length, depth), "
    "and every two parts are compared, in rank (Spearman) and as sets above 0.1 (Jaccard). Parts of few samples differ "
    "by chance; “at random” is the same with the labels shuffled among otherwise equal samples. Only values "
    "below it depend on the factor.",
    "mean over pairs i < j of parts of ρ(xᵢ, xⱼ), and of |Aᵢ ∩ Aⱼ| / |Aᵢ ∪ Aⱼ|",
    "rh_bench/scores/robustness.py",
    "robustness",
)
SETS = Definition(
    "sets",
    "Robustness over haystack sets",
    "The same between runs of one model, with one protocol, on different haystack sets.",
    "mean over pairs of sets, as above",
    "rh_bench/scores/robustness.py",
    "agreement",
)

ACTIVATION = Definition(
    "activation",
    "Activation frequency",
    "Of the samples that count, the share in which a head has at least one copy event. A head with one in each of "
    "at least ten is always on.",
    "counted samples with a copy event / counted samples",
    "rh_bench/scores/heads.py",
    "activation_frequency",
)
GINI = Definition(
    "gini",
    "Gini coefficient",
    "How unequally the scores are spread over the heads: 0 when all score the same, nearly 1 when one has everything.",
    "Σᵢ (2i − H − 1) xᵢ / (H Σx), x ascending",
    "rh_bench/stats/distribution.py",
    "gini",
)
EFFECTIVE = Definition(
    "effective",
    "Effective heads",
    "The number of equally strong heads with the same concentration: the exponential of the entropy of their shares.",
    "exp(−Σ p ln p), p = x / Σx",
    "rh_bench/stats/distribution.py",
    "effective_number",
)
INTERVAL = Definition(
    "interval",
    "Intervals",
    "Counted samples are resampled, with replacement, within equal needle, length and depth, and everything is "
    "recomputed: the middle 95% of 1,000 replicates. Success rates of few samples have Wilson intervals.",
    "25th and 975th of 1,000 sorted replicates",
    "rh_bench/stats/bootstrap.py",
    "bootstrap_means",
)

MEASUREMENT = (SCORE, ACTIVATION, GINI, EFFECTIVE, INTERVAL)
UNIVERSALITY = (SCORE, CURVE, SHARE, DEPTH, SPEARMAN, PEARSON, JACCARD, TOP, ROBUSTNESS, SETS)
COMPARISON = (PEARSON, SPEARMAN, JACCARD, TOP)
