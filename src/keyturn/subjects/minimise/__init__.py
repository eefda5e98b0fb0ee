"""An example for loops of somebody else's: find the lowest point of a function, in the layout that OpenEvolve expects.

`initial_program.py`, `evaluator.py` and `config.yaml` are what a user of OpenEvolve writes; `held_out.py` is the check
that a user of Keyturn adds. The endpoint answers like a language model would, from a fixed stock of ideas, five of them
hostile. The governor never imports any of it.
"""
