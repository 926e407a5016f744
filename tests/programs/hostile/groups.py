"""All groups of cases, in the order of the table."""

from tests.programs.hostile import configs, headers, sentences, shards, tokenizers, weights

GROUPS = (*headers.GROUPS, *configs.GROUPS, *shards.GROUPS, *weights.GROUPS, *tokenizers.GROUPS, *sentences.GROUPS)
