"""Training recipes; they run from a clone and are not part of the installed package."""
