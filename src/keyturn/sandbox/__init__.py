"""Run a subject sealed, bring its observations back, and stop it with proof.

Never accepts a tier weaker than the one asked for, and never says stopped without having looked.
"""
