"""Solvers on second moments: few weights, then a refit."""
