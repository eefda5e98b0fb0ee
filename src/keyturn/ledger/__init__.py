"""The tamper-evident log: tree, proofs, checkpoints, witnesses and stores.

Never changes or removes an entry, and never says that an event is right: only that it was recorded.
"""
