"""Scripts that run alone, in processes of their own with only the standard library, and never inside the governor."""
