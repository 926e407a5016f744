"""Solutions of chapter 14: DistilBERT's names, a student made of a teacher's layers, pieces per word."""

import re

TABLE = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
    "cls.predictions.transform.dense": "vocab_transform",
    "cls.predictions.transform.LayerNorm": "vocab_layer_norm",
    "cls.predictions.decoder": "vocab_projector",
    "cls.predictions": "vocab_projector",
}


# Exercise 1: what has no name goes first; then the longest old name that occurs is replaced.
def my_distil_name(name):
    if any(part in name for part in ("token_type", "pooler", "seq_relationship")):
        return None
    name = name.replace("bert.embeddings.", "distilbert.embeddings.")
    name = name.replace("bert.encoder.", "distilbert.transformer.")
    for old in sorted(TABLE, key=len, reverse=True):
        if old in name:
            return name.replace(old, TABLE[old])
    return name


# With a pattern for names of layers.
def my_distil_name_with_a_pattern(name):
    found = re.fullmatch(r"bert\.encoder\.layer\.(\d+)\.(.+)\.(weight|bias)", name)
    if found:
        return f"distilbert.transformer.layer.{found[1]}.{TABLE[found[2]]}.{found[3]}"
    if name.startswith("bert.embeddings.") and "token_type" not in name:
        return f"distil{name}"
    module, _, end = name.rpartition(".")
    return f"{TABLE[module]}.{end}" if module in TABLE else None


# From minibert's own tables: from the old name to minibert's attribute, and from there to the new name.
def my_distil_name_from_the_tables(name):
    from minibert.names import BODY, HEADS

    number = re.search(r"(?<=layer\.)\d+", name)
    module, _, end = re.sub(r"(?<=layer\.)\d+", "{}", name).rpartition(".")
    old, new = BODY["bert"], BODY["distilbert"]
    pairs = {f"bert.{old[part]}": f"distilbert.{new[part]}" for part in old if part in new}
    heads = [HEADS[family]["BertForMaskedLM"]["head"] for family in ("bert", "distilbert")]
    pairs |= {heads[0][part]: heads[1][part] for part in heads[0]}
    found = pairs.get(module)
    return f"{found}.{end}".format(number and number.group()) if found else None


# Exercise 2: every second layer with a new number, and the segment row added to the positions.
def my_student_from_teacher(tensors):
    student = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        if name.startswith("encoder.layer."):
            number = int(parts[2])
            if number % 2 == 0:
                student[".".join(["encoder", "layer", str(number // 2), *parts[3:]])] = tensor
        elif "token_type" not in name and not name.startswith("pooler."):
            student[name] = tensor
    segment = tensors["embeddings.token_type_embeddings.weight"][0]  # (D,)
    student["embeddings.position_embeddings.weight"] = student["embeddings.position_embeddings.weight"] + segment
    return student


# With a pattern.
def my_student_from_teacher_with_a_pattern(tensors):
    student = {}
    for name, tensor in tensors.items():
        found = re.match(r"encoder\.layer\.(\d+)", name)
        if found and int(found[1]) % 2:
            continue
        new = f"encoder.layer.{int(found[1]) // 2}{name[found.end() :]}" if found else name
        student[new] = tensor
    segment = student.pop("embeddings.token_type_embeddings.weight")[0]  # (D,)
    student = {name: tensor for name, tensor in student.items() if "pooler" not in name}
    return student | {name: tensor + segment for name, tensor in student.items() if "position" in name}


# From the student's side: which tensor of the teacher does each of its layers want?
def my_student_from_teacher_from_the_student(tensors):
    layers = 1 + max(int(name.split(".")[2]) for name in tensors if name.startswith("encoder."))
    student = {name: tensors[name] for name in tensors if name.startswith("embeddings.")}
    for new, old in enumerate(range(0, layers, 2)):
        start = f"encoder.layer.{old}."
        student |= {
            name.replace(start, f"encoder.layer.{new}."): tensors[name] for name in tensors if name.startswith(start)
        }
    segments = student.pop("embeddings.token_type_embeddings.weight")  # (2, D)
    student["embeddings.position_embeddings.weight"] = segments[:1] + student["embeddings.position_embeddings.weight"]
    return student


# Exercise 3: sums first, one division at the end.
def my_pieces_per_word(texts, pieces_of):
    pieces = sum(len(pieces_of(text)) - 2 for text in texts)
    words = sum(len(text.split()) for text in texts)
    return pieces / words


# As a mean over words, each cut alone: the same as long as white space separates words for the tokenizer, too.
def my_pieces_per_word_word_by_word(texts, pieces_of):
    counts = [len(pieces_of(word)[1:-1]) for text in texts for word in text.split()]
    return sum(counts) / len(counts)


# All texts as one.
def my_pieces_per_word_as_one_text(texts, pieces_of):
    joined = " ".join(texts)
    return len([piece for piece in pieces_of(joined) if piece not in ("[CLS]", "[SEP]")]) / len(joined.split())
