"""The history on disk, now.json, and the folder and locks they live under."""
