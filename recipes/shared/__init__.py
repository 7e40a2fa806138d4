"""What all recipes share: trainer, models, records, command lines."""
