"""The ties to loops of somebody else's: each lives in the loop's own process and reaches the governor through `sdk`.

Never decides, and never sees the log or a key of ours. This is the only room that imports other people's loops.
"""
