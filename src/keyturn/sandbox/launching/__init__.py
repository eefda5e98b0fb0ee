"""How a sandbox comes to be: the governor's end of the process that makes it."""
