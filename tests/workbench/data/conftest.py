"""The texts and vocabularies of the tests of tokens."""

from tests.texts import sample, uncased

__all__ = ["sample", "uncased"]
