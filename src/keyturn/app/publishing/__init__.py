"""What strangers are handed: static files, proofs, a bundle taken apart; and whether all of it still holds.

Never decides anything, and never hands out what does not lead to a checkpoint that the pinned key signed.
"""
