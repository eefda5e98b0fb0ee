"""The last containment check of this machine and account: what it is bound to, where it lies, whether it stands."""
