"""What is the operator's to say and nobody's to sign: where the log and its static files lie, and who governs now.

Never holds a rule: what people decided stands in the policy, and no choice made here clears or loosens a gate.
"""
