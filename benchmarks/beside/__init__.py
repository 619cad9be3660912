"""Other programs that run the same weights, measured beside this one."""
