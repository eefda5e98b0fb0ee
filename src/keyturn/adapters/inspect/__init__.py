"""Inspect's tools, run in our sandbox: `--sandbox keyturn`, attested before they begin and stopped with proof.

Never shows a lost sandbox as a command's output, and never runs below the tier that was asked for.
"""
