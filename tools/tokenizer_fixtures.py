#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Small tokenizers of every kind that Llama checkpoints come with, and the ids that the libraries they are for
give to a set of pages.

    python3 tools/tokenizer_fixtures.py [DIRECTORY]

Needs sentencepiece, tokenizers and transformers. The tests read the result and need none of them.
"""

import io
import json
import pathlib
import re
import sys
import tempfile

import sentencepiece
import tokenizers
import transformers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

DEFAULT_DIRECTORY = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "tokenizers"

# How LLaMA-3 and Qwen2 cut a text before they merge: they differ in the digits.
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2_PATTERN = LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")

TRAINING_TEXT = """\
The lighthouse keeper wrote down the weather every evening, and every morning he read what he had written.
There was wind from the north, then rain, then the sort of silence that comes before more rain.
She said that she'd rather walk; they'll wait for us at the bridge, won't they? I'm sure they will.
Nobody knew where the river began, but everybody knew where it ended: in the harbour, between the two towers.
A cache that keeps every entry grows with the text. A cache that keeps the low frequencies does not.
When the train stopped the children counted the carriages: 1, 2, 3, 10, 11, 12, 100, 2024, 65536.
In the beginning there were three rooms and a kitchen; in the end there was only the kitchen.
The first letter came in March, the second in April, and the third never came at all.
for (int i = 0; i < count; ++i) { total += values[i]; }
if (found == table.end()) { return nullptr; }
def transform(values):
    result = [value * 2 for value in values if value > 0]
    return sum(result) / len(result)
while True:
    line = stream.readline()
    if not line:
        break
    print(line.strip(), end="\\n")
const std::string name = "the name of the thing"; // a comment about the name
今天的天气很好，我们去河边散步。河边有很多人，也有很多树。
他说他明天再来，可是明天下雨，所以我们在家里看书。
这本书写的是一座灯塔和一个看灯塔的人。人们都说他很安静。
"""

PAGES = {
    "empty": "",
    "space": " ",
    "spaces": "     ",
    "word": "keeper",
    "leading spaces": "   The keeper",
    "English": "The keeper wrote down the weather; she'd rather walk. They'LL wait, WON'T they? I'm sure.\n",
    "unseen words": "Zyzzyva quokkas jinxed fjord waltz, vexing Mr. O'Brien's xylophone!?",
    "whole words": "there where we came, not the kit. Another cache wherever mother cooks, coming with someone; knot.",
    "code": "def f(x):\n    if x > 0:\n\t\treturn [x ** 2, -x]\n\n\nfor (int i = 0; i < n; ++i) {\r\n    a[i] += 1;\r\n}\r\n",
    "Chinese": "今天下雨，他在河边看书。鐵路與龍，誰寫的？",
    "other scripts": "Привет, мир! Καλημέρα κόσμε. مرحبا بالعالم שלום नमस्ते दुनिया こんにちは 안녕하세요 สวัสดี",
    "emoji": "👩‍👩‍👧‍👦 🇯🇵🇫🇷 👍🏽 ❤️ 😀😀 ☃ 🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "control characters": "a\0b\x01c\x07d\x1be\x1c\x1d\x1e\x1ff\x7fg\x85h\x9fi",
    "white space": "a \t b\t\tc\n\nd \n e\r\nf\r\rg\v\fh   \n   i    j \u00a0 k\u2003\u2003l\u3000m\u2028n\u2029o\u1680p",
    "no white space": "a\u180eb\u200bc\u200cd\u200de\u2060f\ufeffg \u180e \u200b h",
    "trailing spaces": "the end   \n\n   ",
    "digits": "0 12 123 1234 12345 123456789 3.14159 1e-10 0x1F ٣٤٥ ४५६ Ⅷ ½ ①②③ 1234５６７",
    "combining marks": "e\u0301 é A\u030a Å \u212b ñ n\u0303 q\u0307\u0323 q\u0323\u0307 \u1e69 s\u0323\u0307 가 \u1100\u1161\u11a8 \u0301",
    "contractions": "it's IT'S we've I'd you'll he'RE 'tis d'être ' s 'ſ ''s",
    "punctuation": "...!!! --- ((x)) «a» “b” ‘c’ — … $€£ #@%^&*_~`|\\ <>\n,,\n;;\r\n",
    "special tokens": "<|begin_of_text|>The<|end_of_text|> <|eot_id|><|im_start|>user\nkeeper<|im_end|>\n<s>a</s><unk><0x0A>",
    "added tokens": "<think>the river</think> <|im_start <|im_start|><|im_start|>|> <<think>> \u212b§ A\u030a§ Å§ ▁ _",
    "flags": "a <l> b <r> c<w>d <w> e<w>\u00e9 <lr>  \n f \u3000<l><lr> <r><w>_ <w>- g<n>h <n>x \u24d0<w> i<w>",
    "missing bytes": "a\x04b \x04\x13\x14 \u00c0\u00e9\u0113 \U000f4321\x1d\x06z\x04\x04",
    "newer characters": "a\U00011f04b 1\U00016130\U00016130 \u1c89x !\U00013460 \U000313502 \U00010d6ec\U00010d50\U00010d70 \u0897a",
    "long run": "a" * 200 + " " * 60 + "\n" * 30 + "ab" * 40 + "!" * 50,
}


def llama2():
    """SentencePiece with the options of LLaMA's, as a serialised model."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TRAINING_TEXT.splitlines()),
        model_writer=model,
        model_type="bpe",
        vocab_size=460,
        character_coverage=0.98,  # the rest is left to the bytes
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=True,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def train_bpe(tokenizer, vocabulary):
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TRAINING_TEXT.splitlines(keepends=True), trainer)
    return tokenizer


def split_and_bytes(pattern):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])


def llama3():
    tokenizer = tokenizers.Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = split_and_bytes(LLAMA3_PATTERN)
    train_bpe(tokenizer, 420)
    tokenizer.add_special_tokens(
        ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    )
    begin = "<|begin_of_text|>"
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(
            single=f"{begin} $A", pair=f"{begin} $A {begin}:1 $B:1",
            special_tokens=[(begin, tokenizer.token_to_id(begin))],
        ),
    ])
    content = json.loads(tokenizer.to_str())
    # Without its merge a token is found by ignore_merges only, where it is a whole pre-token.
    content["model"]["merges"] = content["model"]["merges"][:-12]
    return content, {"bos_token": begin, "eos_token": "<|end_of_text|>"}


def qwen2():
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = split_and_bytes(QWEN2_PATTERN)
    train_bpe(tokenizer, 420)
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([
        AddedToken("<think>", normalized=False),
        AddedToken("</think>", normalized=False),
        AddedToken("Å§", normalized=True),
    ])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    content = json.loads(tokenizer.to_str())
    # Older files, Qwen2's among them, have a merge as one string.
    content["model"]["merges"] = [" ".join(merge) for merge in content["model"]["merges"]]
    return content, {"bos_token": None, "eos_token": {"content": "<|im_end|>", "special": True}}


def gpt2():
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)
    train_bpe(tokenizer, 320)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return json.loads(tokenizer.to_str()), None


def smollm():
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ])
    train_bpe(tokenizer, 320)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return json.loads(tokenizer.to_str()), None


def flags():
    """Added tokens that take white space with them, stand alone, or are looked for in the normalised text."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = split_and_bytes(LLAMA3_PATTERN)
    train_bpe(tokenizer, 280)
    tokenizer.add_special_tokens([AddedToken("<l>", lstrip=True), AddedToken("<r>", rstrip=True)])
    tokenizer.add_tokens([
        AddedToken("<lr>", lstrip=True, rstrip=True),
        AddedToken("<w>", single_word=True),
        AddedToken("<n>", normalized=True, rstrip=True),
        AddedToken("keeper", single_word=True, lstrip=True),
    ])
    return json.loads(tokenizer.to_str()), None


def gaps(**unknown):
    """A vocabulary without tokens for some bytes."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    train_bpe(tokenizer, 280)
    content = json.loads(tokenizer.to_str())
    # The characters that stand for the bytes 4, 6, 19, 20, 0xc0, 0xf3 and 0xf4 in GPT-2's alphabet.
    missing = ["\u0104", "\u0106", "\u0113", "\u0114", "\u00c0", "\u00f3", "\u00f4"]
    for character in missing:
        del content["model"]["vocab"][character]
    content["model"]["merges"] = [m for m in content["model"]["merges"] if not any(c in part for c in missing for part in m)]
    if unknown:
        content["model"]["vocab"]["<unk>"] = 280
        content["model"].update(unk_token="<unk>", **unknown)
    return content, None


def llama2_json(model, legacy):
    """What transformers makes of a tokenizer.model."""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory)
        (path / "tokenizer.model").write_bytes(model)
        write_json(path / "tokenizer_config.json", {
            "tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
            "add_bos_token": True, "legacy": legacy,
        })
        transformers.AutoTokenizer.from_pretrained(path).save_pretrained(path / "saved")
        return (json.loads((path / "saved" / "tokenizer.json").read_text()),
                {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True})


def llama2_prepend(content):
    """The same as older files have it: with a normalizer, and control tokens that are normalised with the text."""
    content = json.loads(json.dumps(content))
    content["pre_tokenizer"] = None
    content["normalizer"] = {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
    ]}
    for token in content["added_tokens"]:
        token["normalized"] = token["content"] == "</s>"
    content["added_tokens"].append({"id": 460, "content": "keeper", "single_word": True, "lstrip": False,
                                    "rstrip": False, "normalized": False, "special": False})
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                   {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]},
                           "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}},
    }
    return content, None


def gemma(content):
    """No byte for an unknown character, no space at the beginning, words cut as Gemma's file says."""
    content = json.loads(json.dumps(content))
    content["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    content["pre_tokenizer"] = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
                                "invert": False}
    content["model"].update(byte_fallback=False, fuse_unk=True, unk_token="<unk>")
    content["decoder"] = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
    ]}
    return content, None


def encode_parts(processor, text):
    """Control tokens become what they say, and what lies between them is a text for sentencepiece: as LLaMA-2's slow
    tokenizer and llama.cpp do it."""
    ids = []
    for part in re.split("(<s>|</s>|<unk>)", text):
        control = part in ("<s>", "</s>", "<unk>")
        ids += [processor.piece_to_id(part)] if control else processor.encode(part)
    return ids


def write_json(path, content):
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def write(directory=DEFAULT_DIRECTORY):
    """Writes all tokenizers and pages.json into `directory`."""
    directory = pathlib.Path(directory)
    ids = {}

    (directory / "llama2").mkdir(parents=True, exist_ok=True)
    model = llama2()
    (directory / "llama2" / "tokenizer.model").write_bytes(model)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    ids["llama2"] = [encode_parts(processor, text) for text in PAGES.values()]
    # What a GGUF file holds of the same tokenizer; its types are numbered as SentencePiece numbers them.
    kinds = [(processor.is_unknown, 2), (processor.is_control, 3), (processor.is_unused, 5), (processor.is_byte, 6)]
    size = processor.vocab_size()
    write_json(directory / "llama2" / "vocabulary.json", {
        "tokens": [processor.id_to_piece(i) for i in range(size)],
        "scores": [processor.get_score(i) for i in range(size)],
        "types": [next((kind for is_kind, kind in kinds if is_kind(i)), 1) for i in range(size)],
    })

    saved = llama2_json(model, legacy=False)
    made = {
        "llama3": llama3(), "qwen2": qwen2(), "gpt2": gpt2(), "smollm": smollm(), "flags": flags(), "gaps": gaps(),
        "gaps-unknown": gaps(fuse_unk=False), "gaps-fused": gaps(fuse_unk=True),
        "llama2-first": saved, "llama2-always": llama2_json(model, legacy=True),
        "llama2-prepend": llama2_prepend(saved[0]), "gemma": gemma(saved[0]),
    }
    for name, (content, config) in made.items():
        (directory / name).mkdir(parents=True, exist_ok=True)
        path = directory / name / "tokenizer.json"
        write_json(path, content)
        if config is not None:
            write_json(directory / name / "tokenizer_config.json", config)
        fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path))
        ids[name] = [fast.encode(text, add_special_tokens=False) for text in PAGES.values()]

    write_json(directory / "pages.json", {
        "versions": {package.__name__: package.__version__ for package in (sentencepiece, tokenizers, transformers)},
        "pages": [{"name": page, "text": text} | {name: ids[name][i] for name in ids}
                  for i, (page, text) in enumerate(PAGES.items())],
    })


if __name__ == "__main__":
    write(*sys.argv[1:2])
