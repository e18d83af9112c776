"""The gateway through HTTP."""
