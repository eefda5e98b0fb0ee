"""Witnesses of the log, of both sides: what they sign and are asked, what they remember and decide, and who asks them.

Never lets a witness sign two histories of one log, and never counts a signature that was not verified here.
"""
