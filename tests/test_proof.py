"""The proof on one page: the same numbers as transformers, to the bounds in tests/conftest.py.

    python -m pytest tests/test_proof.py -s

The tests in tests/lesson hold every module, head, mask and configuration to the same bounds.
"""

import torch

from minibert import BertForPreTraining, BertForSequenceClassification, BertModel, BertTokenizer
from tests.conftest import BOUNDS


def assert_close(name, found, expected, bound):
    difference = (found - expected).abs().max().item()
    print(f"{name:<50} largest difference {difference:.1e}, bound {bound:.0e}")
    assert difference <= bound


def test_stored_numbers():
    """What transformers 5.24 computes with the bundled weights; it need not be installed."""
    batch = BertTokenizer.from_pretrained("minibert-small")(["It was a waste of [MASK]."])
    assert batch["input_ids"].tolist() == [[2, 189, 224, 43, 1855, 177, 4, 18, 3]]
    model = BertForPreTraining.from_pretrained("minibert-small").eval()
    bound = BOUNDS["official model fp32"]
    with torch.no_grad():
        found = model(**batch, output_hidden_states=True)
    words = found.prediction_logits[0, 6, [396, 1186, 1692]]  # time, money, effort
    assert_close("logits", words, torch.tensor([14.2000399, 11.9543715, 8.4904699]), bound)
    follows = found.seq_relationship_logits[0]
    assert_close("next sentence", follows, torch.tensor([0.63452333, -0.51881385]), bound)
    cls = found.hidden_states[-1][0, 0, :3]
    assert_close("[CLS]", cls, torch.tensor([0.43084085, -0.14247289, 0.38984439]), bound)


def test_outputs_loss_and_gradients_in_double_precision(transformers, tmp_path):
    sizes = dict(vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
    config = transformers.BertConfig(**sizes, intermediate_size=37, num_labels=5)
    theirs = transformers.BertForSequenceClassification(config)
    for weight in theirs.parameters():
        torch.nn.init.normal_(weight, std=0.3)  # larger than in a new model: every part matters
    theirs.save_pretrained(tmp_path)
    ours = BertForSequenceClassification.from_pretrained(tmp_path)
    real = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    batch = dict(input_ids=torch.randint(1, 99, (2, 7)), attention_mask=real.long())
    batch |= dict(labels=torch.tensor([4, 0]), output_hidden_states=True)
    expected, found = theirs.double().eval()(**batch), ours.double().eval()(**batch)
    for layer, states in enumerate(expected.hidden_states):
        name = f"hidden states {layer}"
        assert_close(name, found.hidden_states[layer][real], states[real], BOUNDS["fp64"])
    assert_close("logits", found.logits, expected.logits, BOUNDS["fp64"])
    assert_close("loss", found.loss, expected.loss, BOUNDS["fp64"])
    expected.loss.backward()
    found.loss.backward()
    for weight in ours.parameters():
        weight.data = weight.grad  # so that the official names below are those of gradients
    gradients = ours.official_state_dict()
    for name, weight in theirs.named_parameters():
        assert_close(name.removeprefix("bert."), gradients[name], weight.grad, BOUNDS["fp64"])


def test_official_weights_layer_by_layer(transformers, minilm):
    batch = BertTokenizer.from_pretrained(minilm)(["A cat sat on the mat.", "It purred."])
    theirs = transformers.BertModel.from_pretrained(minilm).eval()
    ours = BertModel.from_pretrained(minilm).eval()
    with torch.no_grad():
        expected, found = (model(**batch, output_hidden_states=True) for model in (theirs, ours))
    real = batch["attention_mask"].bool()  # (B, S)
    for layer, states in enumerate(expected.hidden_states):
        bound = BOUNDS["official model fp32"]
        assert_close(f"MiniLM {layer}", found.hidden_states[layer][real], states[real], bound)
