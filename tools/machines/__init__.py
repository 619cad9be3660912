"""The product on machines that are emulated here: Windows, ARM, older processors."""
