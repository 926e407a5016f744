"""All groups of cases, in the order of the table."""

from tests.hostile import headers, tokenizers

GROUPS = (*headers.GROUPS, *tokenizers.GROUPS)
