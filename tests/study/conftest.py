"""The folder of a saved model, as for the checkpoint's own tests."""

from tests.checkpoint.conftest import saved

__all__ = ["saved"]
