"""Solutions of chapter 06: official names in three styles, old names, TensorFlow's variables, a plan for loading."""

import re

# Exercise 1, with the table of section 4.
OFFICIAL = {
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.segment": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "encoder.layers.{}.attention.query": "encoder.layer.{}.attention.self.query",
    "encoder.layers.{}.attention.key": "encoder.layer.{}.attention.self.key",
    "encoder.layers.{}.attention.value": "encoder.layer.{}.attention.self.value",
    "encoder.layers.{}.attention.output": "encoder.layer.{}.attention.output.dense",
    "encoder.layers.{}.attention_norm": "encoder.layer.{}.attention.output.LayerNorm",
    "encoder.layers.{}.feed_forward.inner": "encoder.layer.{}.intermediate.dense",
    "encoder.layers.{}.feed_forward.outer": "encoder.layer.{}.output.dense",
    "encoder.layers.{}.feed_forward_norm": "encoder.layer.{}.output.LayerNorm",
    "pooler.dense": "pooler.dense",
}


def my_official_name(name):
    module, _, last = name.rpartition(".")
    number = re.search(r"\d+", module)
    template = re.sub(r"\d+", "{}", module)
    official = OFFICIAL[template].format(number.group() if number else "")
    return f"bert.{official}.{last}"


# The same by rules for words, without a table.
def my_official_name_with_rules(name):
    rules = [
        ("attention_norm", "attention.output.LayerNorm"),
        ("feed_forward_norm", "output.LayerNorm"),
        ("feed_forward.inner", "intermediate.dense"),
        ("feed_forward.outer", "output.dense"),
        ("attention.output.w", "attention.output.dense.w"),
        ("attention.output.b", "attention.output.dense.b"),
        ("encoder.layers", "encoder.layer"),
        ("embeddings.norm", "embeddings.LayerNorm"),
        ("embeddings.segment", "embeddings.token_type"),
    ]
    for ours, theirs in rules:
        name = name.replace(ours, theirs)
    name = re.sub(r"attention\.(query|key|value)", r"attention.self.\1", name)
    return "bert." + re.sub(r"^embeddings\.(word|position|token_type)", r"embeddings.\1_embeddings", name)


# The same with all names of a model written out beforehand.
def my_official_name_by_listing(name, layers=24):
    names = {}
    for ours, theirs in OFFICIAL.items():
        for number in range(layers if "{}" in ours else 1):
            for last in ("weight", "bias"):
                names[f"{ours.format(number)}.{last}"] = f"bert.{theirs.format(number)}.{last}"
    return names[name]


# Exercise 2.
def my_modern_name(name):
    if name.endswith("embeddings.position_ids"):
        return None
    for prefix in ("bert.", "distilbert."):
        name = name.removeprefix(prefix)
    for old, new in (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")):
        if name.endswith(old):
            name = name.removesuffix(old) + new
    return name


# The same with regular expressions.
def my_modern_name_with_patterns(name):
    name = re.sub(r"^(distil)?bert\.", "", name)
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
    name = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)
    return None if name == "embeddings.position_ids" else name


# The same part by part.
def my_modern_name_by_parts(name):
    parts = name.split(".")
    if parts[0] in ("bert", "distilbert"):
        parts = parts[1:]
    if parts[-2:-1] == ["LayerNorm"]:
        parts[-1] = {"gamma": "weight", "beta": "bias"}.get(parts[-1], parts[-1])
    return None if parts[-1] == "position_ids" else ".".join(parts)


# Exercise 3.
def my_conversion(variables):
    words = {"kernel": "weight", "gamma": "weight", "beta": "bias", "output_weights": "weight", "output_bias": "bias"}
    tensors = {}
    for name, tensor in variables.items():
        *parts, last = name.split("/")
        if last in ("adam_m", "adam_v", "global_step"):
            continue
        if last.endswith("_embeddings"):
            parts, last = [*parts, last], "weight"
        official = ".".join([*parts, words.get(last, last)]).replace("layer_", "layer.")
        tensors[official] = tensor.T if last == "kernel" else tensor  # (out, in)
    return tensors


# The same with one pattern for each kind of name.
def my_conversion_with_patterns(variables):
    patterns = [
        (r"/(kernel|gamma|output_weights)$", "/weight"),
        (r"/(beta|output_bias)$", "/bias"),
        (r"(_embeddings)$", r"\1/weight"),
        (r"layer_(\d+)", r"layer/\1"),
        (r"/", "."),
    ]
    tensors = {}
    for name, tensor in variables.items():
        if re.search(r"adam_[mv]$|^global_step$", name):
            continue
        official = name
        for old, new in patterns:
            official = re.sub(old, new, official)
        tensors[official] = tensor.mT if name.endswith("/kernel") else tensor  # (out, in)
    return tensors


# The same, first the tensors that stay as they are, then those that are transposed.
def my_conversion_in_two_passes(variables):
    weights = {name: tensor for name, tensor in variables.items() if "adam_" not in name and name != "global_step"}
    kernels = {name: weights.pop(name) for name in [*weights] if name.endswith("kernel")}
    weights |= {
        name.removesuffix("kernel") + "weight": kernel.permute(1, 0) for name, kernel in kernels.items()
    }  # (out, in)
    endings = {"gamma": "weight", "beta": "bias", "output_weights": "weight", "output_bias": "bias"}
    tensors = {}
    for name, tensor in weights.items():
        name = name.replace("/", ".").replace("layer_", "layer.")
        for old, new in endings.items():
            name = name[: -len(old)] + new if name.endswith(f".{old}") else name
        tensors[f"{name}.weight" if name.endswith("_embeddings") else name] = tensor
    return tensors


# Exercise 4.
def my_plan(expected, stored, harmless):
    missing = [name for name in expected if name not in stored]
    unexpected = [name for name in stored if name not in expected and name not in harmless]
    shapes = [name for name in expected if name in stored and expected[name] != stored[name]]
    return missing, unexpected, shapes


# The same with sets.
def my_plan_with_sets(expected, stored, harmless):
    both = expected.keys() & stored.keys()
    misfits = {name for name in both if tuple(expected[name]) != tuple(stored[name])}
    return expected.keys() - stored.keys(), stored.keys() - expected.keys() - harmless, misfits


# The same in one pass over all names.
def my_plan_in_one_pass(expected, stored, harmless):
    missing, unexpected, shapes = [], [], []
    for name in {**expected, **stored}:
        if name not in stored:
            missing.append(name)
        elif name not in expected:
            if name not in harmless:
                unexpected.append(name)
        elif expected[name] != stored[name]:
            shapes.append(name)
    return [missing, unexpected, shapes]
