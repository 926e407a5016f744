"""The folder of a saved model, as for the checkpoint's own tests."""

from tests.io.conftest import saved

__all__ = ["saved"]
