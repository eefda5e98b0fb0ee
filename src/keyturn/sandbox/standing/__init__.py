"""The last containment check of this machine and account: what it is bound to, where it lies, whether it stands.

Never lets a check speak for anything but what it ran on.
"""
