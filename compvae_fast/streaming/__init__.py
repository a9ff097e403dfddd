"""Multisets too long for memory: their parts are read, drawn and summed in chunks.

`prior_sum` and `prior_sum_of_network` draw w~ = sum_i w_i of labels or features that come from a file, a memory-mapped
array or any iterable; memory does not depend on how many there are, and neither the chunks nor the threads change a
bit of the sum of labels. `PartsOfSum` goes the other way: the parts of a whole that was drawn from counts, any of
them, at a cost of log K each. `compvae_fast.ops.prior_sum` and `CompVAE.generate` take such labels too.
"""

from compvae_fast.streaming.breakdown import PartsOfSum
from compvae_fast.streaming.sources import is_stream, open_parts
from compvae_fast.streaming.sums import Streamed, prior_sum, prior_sum_of_network

__all__ = ["PartsOfSum", "Streamed", "is_stream", "open_parts", "prior_sum", "prior_sum_of_network"]
