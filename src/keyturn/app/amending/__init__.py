"""Change who may decide and with which keys: adopt a policy by everybody whom it needs, make the governor's next key.

Never decides whether enough people signed; `flow/policy` and the core do.
"""
