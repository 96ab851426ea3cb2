"""Noisy Student Training (Xie et al., arXiv 1911.04252).

`iterate.py` tells the method; every stage it names is a module of that name.
"""
