"""The tables of the RandomMix paper, run again: `python -m recipes.tables 3 --data data/sc/prepared/kaggle12`."""
