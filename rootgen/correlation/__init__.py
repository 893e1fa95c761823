"""Inter-layer filter correlation of a trained network (the paper's section 4 and Fig. 6).

pairs finds adjacent convolutions in a net, responses runs it over images, moments accumulates
covariances in one pass, whitening turns them into the matrices and scores, report writes them.
"""

from rootgen.correlation.moments import Covariance, Moments
from rootgen.correlation.study import CorrelationOptions, CorrelationOutcome, run
from rootgen.correlation.whitening import Correlation, block_score, correlate, inverse_square_root

__all__ = [
    "Correlation",
    "CorrelationOptions",
    "CorrelationOutcome",
    "Covariance",
    "Moments",
    "block_score",
    "correlate",
    "inverse_square_root",
    "run",
]
