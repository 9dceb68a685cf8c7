"""The ways to run one layer: each file here without an underscore is one of them.

`xla` runs everywhere; the others are kernels, as `_protocol` describes them, and `_choice` says which one runs where.
"""
