"""A witness that anybody can run: its folder, its keys, and the HTTP door through which logs ask it.

Never answers before the disk holds what was cosigned, and never tells a client more than a sentence.
"""
