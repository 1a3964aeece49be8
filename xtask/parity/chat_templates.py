#!/usr/bin/env python3
"""Chat templates: the text and what the assistant said, as transformers renders them, beside codex-tokenize.

Needs `pip install transformers jinja2` in any virtual environment. Without arguments it renders the templates and conversations below with
transformers, compares codex's rendering (`cargo build -p codex-tokenize --example tokens`, its path in TOKENS) and writes the golden file that the Rust
tests read; with `--check` it leaves that file as it is. With files as arguments (any `*.jinja`) it only compares those.
"""
import datetime, importlib.metadata, json, os, pathlib, subprocess, sys, tempfile
import transformers.utils.chat_template_utils as hf

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "crates/codex-tokenize/tests/golden/chat.json"
TOKENS = os.environ.get("TOKENS", str(ROOT / "target/debug/examples/tokens"))


class Fixed(datetime.datetime):
    """The date that every rendering has."""

    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26, 12, 0, 0)


hf.datetime = Fixed

# Templates of the usual styles, written for this comparison.
TEMPLATES = {
    "chatml": "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "llama3": """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] | trim %}
    {%- set rest = messages[1:] %}
{%- else %}
    {%- set system = '' %}
    {%- set rest = messages %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}
{{- 'Today Date: ' + strftime_now('%d %b %Y') + '\\n\\n' + system + '<|eot_id|>' }}
{%- for message in rest %}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "mistral": """{{ bos_token }}{% for message in messages if message['role'] != 'system' %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}{% endif %}
{% endfor %}""",
    "qwen": """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- '# Tools\\n<tools>' }}
    {%- for tool in tools %}
        {{- '\\n' }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- '\\n</tools><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last=messages|length - 1, search=true) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.search and message.role == 'user' and not (message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.search = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set content = message.content if message.content is string else '' %}
        {%- set reasoning = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.index0 > ns.last and reasoning %}{{- '<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' }}{%- endif %}
        {{- content }}
        {%- for call in message.tool_calls or [] %}
            {%- set call = call.function if call.function else call %}
            {{- '\\n<tool_call>\\n{"name": "' ~ call.name ~ '", "arguments": ' }}
            {{- call.arguments if call.arguments is string else call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}""",
    "zephyr": """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}""",
    "gemma": """{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}""",
    "generation": """{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {{- '<|assistant|>' }}
        {%- generation %}
        {{- message.content + eos_token }}
        {%- endgeneration %}
    {%- else %}
        {{- '<|' ~ message.role ~ '|>' ~ message.content }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}""",
    "macros": """{%- macro shown(value, depth=0) -%}
    {%- if value is mapping -%}
        {%- for key, inner in value.items() -%}
            {{- '\\n' ~ '  ' * depth ~ key ~ ':' }}{{ shown(inner, depth + 1) }}
        {%- endfor -%}
    {%- elif value is string -%}{{ ' ' ~ value }}
    {%- elif value is iterable -%}{{ ' [' ~ value | join(', ') ~ ']' }}
    {%- else -%}{{ ' ' ~ value }}
    {%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
    {{- message.role | upper }}{{ shown(message) }}
{% if loop.last %}{{ 'last' | capitalize }}: {{ loop.length }}{% endif %}
{%- endfor %}
{{ tools | default('none', true) }}
{{ messages | map(attribute='role') | unique | list }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }}
{{ (tools or []) | tojson(indent=2) }} {{ 1.0 }} {{ true }} {{ none }} {{ [1, 'a', none, {'k': 1e20}] }} {{ 7 // 2 }} {{ 2 ** 10 }} {{ -7 % 3 }}
""",
}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "What it's like out \"there\" <now> é",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}, "days": {"type": "integer", "default": 3}}, "required": ["place"]},
    },
}
CONVERSATIONS = {
    "short": [{"role": "user", "content": "Hi there"}, {"role": "assistant", "content": "Hello, friend."}],
    "system": [
        {"role": "system", "content": "  Be brief. "},
        {"role": "user", "content": "Name a colour;\nthen another."},
        {"role": "assistant", "content": "Blue."},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": "Green 🦀 and naïve café."},
    ],
    "open": [{"role": "user", "content": "What's <b>this</b> & \"that\"?"}],
    "tools": [
        {"role": "user", "content": "Weather in Bath?"},
        {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"place": "Bath", "days": 1}}}]},
        {"role": "tool", "content": "rain"},
        {"role": "assistant", "content": "It rains.", "reasoning_content": "The tool says rain."},
    ],
    "thoughts": [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "<think>\nEasy.\n</think>\n\n2"},
    ],
    "nulls": [{"role": "user", "content": "x", "name": None}, {"role": "assistant", "content": "y", "tool_calls": None}],
}
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def expected(case, marked):
    """transformers' text and, where the template marks them, the assistant's parts; or the error."""
    messages = hf._normalize_chat_messages(case["messages"])
    try:
        texts, spans = hf.render_jinja_template(
            [messages], tools=case["tools"], chat_template=case["template"], return_assistant_tokens_mask=marked,
            add_generation_prompt=case["add_generation_prompt"], **case["tokens"], **case.get("variables", {}),
        )
    except Exception as error:  # a template may raise anything
        return None, None, f"{type(error).__name__}: {error}"
    text = texts[0]
    return text, [text[a:b] for a, b in spans[0]] if marked else None, None


def cases(templates):
    for name, template in templates.items():
        for conversation, messages in CONVERSATIONS.items():
            for tools in [None, [TOOL]]:
                for prompt in [False, True]:
                    for variables in [{}, {"enable_thinking": False}]:
                        if variables and not (prompt and "enable_thinking" in template):
                            continue
                        yield {"name": f"{name}/{conversation}", "template": template, "tokens": SPECIAL, "messages": messages, "tools": tools,
                               "add_generation_prompt": prompt, "variables": variables}


def main():
    check, files = "--check" in sys.argv, [argument for argument in sys.argv[1:] if argument != "--check"]
    templates = {pathlib.Path(file).stem: pathlib.Path(file).read_text() for file in files} if files else TEMPLATES
    all_cases = list(cases(templates))
    with tempfile.TemporaryDirectory() as folder:
        given, out = pathlib.Path(folder, "cases.json"), pathlib.Path(folder, "out.json")
        given.write_text(json.dumps(all_cases))
        subprocess.run([TOKENS, "chat", given, out], check=True)
        rows = json.loads(out.read_text())
    same = differ = both_fail = ours_fails = spans_same = spans_missing = 0
    golden = []
    for case, (text, spans, problem) in zip(all_cases, rows, strict=True):
        marked = "generation %}" in case["template"] and "endgeneration" in case["template"]
        want, parts, failure = expected(case, marked)
        if want is None:
            both_fail += problem is not None and not text
            if problem is None:
                differ += 1
                print("only transformers fails", case["name"], failure)
        elif want != text:
            differ += 1
            if problem and not text:
                ours_fails += 1
                print("only codex fails", case["name"], problem)
            else:
                at = next((i for i, (a, b) in enumerate(zip(want, text)) if a != b), min(len(want), len(text)))
                print("differs", case["name"], at, repr(want[max(at - 20, 0):at + 40]), repr(text[max(at - 20, 0):at + 40]))
        else:
            same += 1
            said = [text.encode()[a:b].decode() for a, b in spans]
            if marked and parts != said:
                print("spans differ", case["name"], parts, said)
            spans_same += marked and parts == said
            spans_missing += problem is not None
        golden.append({"template": case["name"].split("/")[0], "conversation": case["name"].split("/")[1], "tools": case["tools"] is not None,
                       "prompt": case["add_generation_prompt"], "variables": case["variables"], "text": want,
                       "said": None if problem or want is None else [text.encode()[a:b].decode() for a, b in spans] if not marked else parts})
    print(f"{len(all_cases)} conversations: {same} equal, {differ} differ ({ours_fails} fail in codex only), {both_fail} refused by both; "
          f"{spans_same} with marks equal, {spans_missing} texts equal whose spans cannot be found by comparison")
    print(f"{same + both_fail} passed, {differ} failed")
    if not files and not check:
        GOLDEN.parent.mkdir(parents=True, exist_ok=True)
        GOLDEN.write_text(json.dumps({"made_with": "transformers " + importlib.metadata.version("transformers"), "templates": TEMPLATES,
                                      "conversations": CONVERSATIONS, "tool": TOOL, "tokens": SPECIAL, "rows": golden}, ensure_ascii=False, indent=1) + "\n")
    sys.exit(1 if differ else 0)


main()
