"""The samples: short labelled reviews written for this project (README.md is their card)."""
