"""Exact bytes: canonical form, digests, envelopes, statements, frames and signature checks; pure.

Never reads a file, a clock or a key store, and never decides what a signature is good for.
"""
