"""Regimes as dated data, the clocks that they start, drafts and exports.

Never files anything by itself, never keeps law as code, and never gives legal advice.
"""
