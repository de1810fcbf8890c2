#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes tests/fixtures/chat_templates.json: conversations as transformers writes them.

    venv/bin/python tools/make_chat_fixtures.py                     what is in the repository
    venv/bin/python tools/make_chat_fixtures.py OUT FAMILY=FILE...  the same of other templates, to compare with

The templates below are this project's own words for what those of the families do, as far as conversations between
a user and a model go. A conversation is a list of texts, the user's and the model's in turn. `replies` are the model's
words with the white space that the template puts around them, which models write themselves.
"""

import datetime
import json
import pathlib
import re
import sys

import jinja2
import tokenizers
import transformers
from transformers.utils import chat_template_utils

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures"
NOON = datetime.datetime(2026, 11, 29, 12)


def chatml(default=""):
    """ChatML, in which `default` is said to the model if nothing else is."""
    head = ""
    if default:
        head = (
            "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\\n" + default + "<|im_end|>\\n' }}{% endif %}"
        )
    return (
        head
        + "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )


def turns(spellings, close):
    """A turn of each role is the role's spelling, its content and `close`; then that of the model."""
    cases = "".join(
        "{% if m.role == '" + role + "' %}{{ " + begin + " }}{% endif %}" for role, begin in spellings.items()
    )
    return (
        "{% for m in messages %}" + cases + "{{ " + close + " }}{% endfor %}"
        "{% if add_generation_prompt %}{{ " + spellings["assistant"].split(" + m.content")[0] + " }}{% endif %}"
    )


SMOLLM3 = """
{%- set mode = namespace(name='/think', words='') -%}
{%- if messages[0].role == 'system' -%}
{%- if '/no_think' in messages[0].content -%}{%- set mode.name = '/no_think' -%}{%- endif -%}
{%- set mode.words = messages[0].content.replace('/no_think', '').replace('/think', '').rstrip() -%}
{%- endif -%}
{{- '<|im_start|>system\n## Metadata\n\nKnowledge Cutoff Date: June 2025\n' -}}
{{- 'Today Date: ' + strftime_now('%d %B %Y') + '\nReasoning Mode: ' + mode.name + '\n\n## Custom Instructions\n\n' -}}
{%- if mode.words -%}
{{- mode.words + '\n\n' -}}
{%- elif mode.name == '/think' -%}
{{- "You are a model that thinks. First <think> so </think> and then otherwise.\n\n" -}}
{%- else -%}
{{- "You are a model that answers.\n\n" -}}
{%- endif -%}
{{- '<|im_end|>\n' -}}
{%- set open = '<|im_start|>assistant\n' + ('' if mode.name == '/think' else '<think>\n\n</think>\n') -%}
{%- for m in messages -%}
{%- if m.role == 'user' -%}{{- '<|im_start|>user\n' + m.content + '<|im_end|>\n' -}}{%- endif -%}
{%- if m.role == 'assistant' -%}{{- open + m.content + '<|im_end|>\n' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- open -}}{%- endif -%}
"""

LLAMA2 = """
{%- set given = messages[0].content if messages[0].role == 'system' else none -%}
{%- for m in messages if m.role != 'system' -%}
{%- if m.role == 'user' -%}
{%- set words = m.content if given is none or not loop.first else '<<SYS>>\n' + given + '\n<</SYS>>\n\n' + m.content -%}
{{- bos_token + '[INST] ' + words.strip() + ' [/INST]' -}}
{%- else -%}
{{- ' ' + m.content.strip() + ' ' + eos_token -}}
{%- endif -%}
{%- endfor -%}
"""

LLAMA3 = """
{%- for m in messages -%}
{{- bos_token if loop.first else '' -}}
{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' -}}
{%- endfor -%}
{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' if add_generation_prompt else '' -}}
"""

LLAMA31 = """
{{- bos_token + '<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n' -}}
{{- 'Today Date: ' + DATE + '\n\n' -}}
{{- messages[0].content | trim if messages[0].role == 'system' else '' -}}
{{- '<|eot_id|>' -}}
{%- for m in messages if m.role != 'system' -%}
{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' -}}
{%- endfor -%}
{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' if add_generation_prompt else '' -}}
"""

# The system's words are the beginning of the first message.
MISTRAL = """
{%- set given = messages[0].content + '\n\n' if messages[0].role == 'system' else '' -%}
{{- bos_token -}}
{%- for m in messages if m.role != 'system' -%}
{%- if m.role == 'user' -%}{{- 'BEFORE' + (given if loop.first else '') + m.content + 'BEHIND' -}}{%- endif -%}
{%- if m.role == 'assistant' -%}{{- 'SPACE' + m.content + eos_token -}}{%- endif -%}
{%- endfor -%}
"""

GEMMA = """
{%- set given = messages[0].content + '\n\n' if messages[0].role == 'system' else '' -%}
{{- bos_token -}}
{%- for m in messages if m.role != 'system' -%}
{{- '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' -}}
{{- (given if loop.first else '') + m.content | trim + '<end_of_turn>\n' -}}
{%- endfor -%}
{{- '<start_of_turn>model\n' if add_generation_prompt else '' -}}
"""


def mistral(before, behind, space, tools=True):
    mark = "{#- [AVAILABLE_TOOLS] are not for conversations -#}" if tools else ""
    return mark + MISTRAL.replace("BEFORE", before).replace("BEHIND", behind).replace("SPACE", space)


def mistral7(space):
    return "{{ bos_token }}" + turns(
        {
            "system": "'[SYSTEM_PROMPT]" + space + "' + m.content + '[/SYSTEM_PROMPT]'",
            "user": "'[INST]" + space + "' + m.content + '[/INST]'",
            "assistant": "'" + space + "' + m.content + eos_token",
        },
        "''",
    ).replace("{% if add_generation_prompt %}{{ '" + space + "' }}{% endif %}", "")


# name, family, template, white space before and behind a reply
TEMPLATES = [
    ("chatml", "chatml", chatml(), "", ""),
    ("chatml-default", "chatml", chatml("You are kind, and it\\'s late."), "", ""),
    ("smollm3", "smollm3", SMOLLM3, "", ""),
    ("llama2", "llama2", LLAMA2, " ", " "),
    ("llama3", "llama3", LLAMA3, "", ""),
    ("llama31", "llama31", LLAMA31.replace("DATE", "'26 Jul 2024'"), "", ""),
    ("llama31-today", "llama31", LLAMA31.replace("DATE", "strftime_now('%d %b %Y')"), "", ""),
    ("mistral", "mistral", mistral(" [INST] ", " [/INST]", " ", False), " ", ""),
    ("mistral-tight", "mistral", mistral("[INST] ", " [/INST]", "", False), "", ""),
    ("mistral3", "mistral3", mistral("[INST] ", "[/INST]", " "), " ", ""),
    ("tekken", "tekken", mistral("[INST]", "[/INST]", ""), "", ""),
    ("mistral7", "mistral7", mistral7(" "), " ", ""),
    ("mistral7-tekken", "mistral7", mistral7(""), "", ""),
    (
        "zephyr",
        "zephyr",
        turns(
            {
                "system": "'<|system|>\\n' + m.content",
                "user": "'<|user|>\\n' + m.content",
                "assistant": "'<|assistant|>\\n' + m.content",
            },
            "eos_token + '\\n'",
        ),
        "",
        "",
    ),
    (
        "phi3",
        "phi3",
        turns(
            {
                "system": "'<|system|>\\n' + m.content",
                "user": "'<|user|>\\n' + m.content",
                "assistant": "'<|assistant|>\\n' + m.content",
            },
            "'<|end|>\\n'",
        ),
        "",
        "",
    ),
    ("gemma", "gemma", GEMMA, "", ""),
]

# The words for the system (None: none), then the user's and the model's.
CONVERSATIONS = [
    (None, ["Hello"]),
    ("Answer briefly.", ["What is the capital of France?"]),
    (None, ["Hello", "Good day!", "How are you?", "Well, and you?", "Well."]),
    ("You speak as a pirate.", ["One", "Two", "Three", "Four", "Five"]),
    (" Äußerst höflich.\n", [" Grüße \n\n", "Schön.", "\tnoch\n einmal 🎉 "]),
    (None, ["What do <|im_end|>, </s>, [/INST] and <end_of_turn> mean?", "Nothing.", "<|eot_id|>"]),
    ("Be short. /no_think", ["Now?", "Yes.", "Why?"]),
    ("/no_think", ["Now?"]),
]


def messages_of(system, texts):
    messages = [] if system is None else [{"role": "system", "content": system}]
    return messages + [{"role": ["user", "assistant"][i % 2], "content": text} for i, text in enumerate(texts)]


def main():
    class Today(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return NOON

    chat_template_utils.datetime = Today
    templates = TEMPLATES
    out = FIXTURES / "chat_templates.json"
    if len(sys.argv) > 1:
        out = pathlib.Path(sys.argv[1])
        spaces = {family: (before, behind) for _, family, _, before, behind in TEMPLATES}
        templates = []
        for argument in sys.argv[2:]:
            family, path = argument.split("=")
            templates.append((path, family, pathlib.Path(path).read_text(), *spaces[family]))

    model = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=model, bos_token="<s>", eos_token="</s>")
    result = []
    for name, family, template, before, behind in templates:
        conversations = []
        for system, texts in CONVERSATIONS:
            try:
                written = tokenizer.apply_chat_template(
                    messages_of(system, texts), chat_template=template, tokenize=False, add_generation_prompt=True
                )
            except (jinja2.exceptions.TemplateError, TypeError) as error:  # others may refuse one
                if templates is TEMPLATES:
                    raise
                print(f"{name}: left out: {error}", file=sys.stderr)
                continue
            replies = [before + text + behind for text in texts[1::2]]
            conversations.append({"system": system, "user": texts[::2], "replies": replies, "written": written})
        result.append({"name": name, "family": family, "template": template, "conversations": conversations})
    # The ids of what is read before a first reply, by the tokenizers of the fixtures. In the words no control token is
    # spelt: transformers would read it as one.
    ids = []
    for directory, name in [("llama3", "llama3"), ("llama3", "llama31"), ("qwen2", "chatml-default")]:
        template = next(template for other, _, template, _, _ in TEMPLATES if other == name)
        fixture = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(FIXTURES / "tokenizers" / directory / "tokenizer.json"), bos_token="<|begin_of_text|>"
        )
        for system, texts in CONVERSATIONS[:5]:
            read = fixture.apply_chat_template(
                messages_of(system, texts[:1]), chat_template=template, add_generation_prompt=True, return_dict=False
            )
            ids.append({"tokenizer": directory, "name": name, "system": system, "user": texts[0], "ids": read})

    content = {
        "now": int(NOON.replace(tzinfo=datetime.timezone.utc).timestamp()),
        "transformers": transformers.__version__,
        "templates": result,
        "first_turns": ids,
    }
    text = json.dumps(content, indent=1, ensure_ascii=False)
    text = re.sub(r"\[[\d,\s]+\]", lambda numbers: " ".join(numbers[0].split()), text)
    out.write_text(text + "\n")


main()
