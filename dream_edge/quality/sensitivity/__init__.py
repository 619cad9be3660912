"""Which matrices matter: the loss of storing each of them otherwise, and bits spent by it."""
