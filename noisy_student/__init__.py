"""Noisy Student Training (Xie et al., arXiv 1911.04252).

`iterate.py` tells the method. Its stages are `preparation`, `training`, `labeling`,
`balancing`, `evaluation` and `export`; each is a package here.
"""
