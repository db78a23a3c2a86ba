"""How much is told of errors, by ``prune`` and ``compare``."""

from __future__ import annotations

CERTIFICATES = ("quick", "full", "none")
CERTIFICATE_HELP = "What is told of each layer's costs at the outputs: quick, full or none."
CERTIFICATE_DETAIL = (
    "Beside the costs it tells what the layers' norms prove. quick: costs of 16 groups of layers "
    "at most, on a part of the samples. full: of every layer, on all of them."
)
