"""Hold all that runs sealed still, let people look, and let it go on by the governor's word alone."""
