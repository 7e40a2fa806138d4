"""One module per corpus: download, verify, prepare. Run from the clone; not part of the wheel."""
