"""Small programs that try to get out: run alone inside a sandbox, bare as their own control, never in the governor."""
