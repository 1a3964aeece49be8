//! Templates for models that come without one, and for training from nothing: the spelling of the markers is that of the models named, the
//! rest is ours. Each marks what the assistant says, its end included.

use codex_core::Registry;

use crate::error::TokenizeError;

/// Every message between `<|im_start|>` and `<|im_end|>`, as Qwen and SmolLM have it.
const CHATML: &str = "\
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' }}
    {%- if message['role'] == 'assistant' %}
        {%- generation %}
        {{- message['content'] + '<|im_end|>' }}
        {%- endgeneration %}
    {%- else %}
        {{- message['content'] + '<|im_end|>' }}
    {%- endif %}
    {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}";

/// The headers of Llama 3.
const LLAMA3: &str = "\
{{- bos_token if bos_token else '<|begin_of_text|>' }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {%- if message['role'] == 'assistant' %}
        {%- generation %}
        {{- message['content'] | trim + '<|eot_id|>' }}
        {%- endgeneration %}
    {%- else %}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}";

/// The role on a line of its own, the end of a text behind every message, as Zephyr and TinyLlama have it.
const ZEPHYR: &str = "\
{%- set end = eos_token if eos_token else '</s>' %}
{%- for message in messages %}
    {{- '<|' + message['role'] + '|>\\n' }}
    {%- if message['role'] == 'assistant' %}
        {%- generation %}
        {{- message['content'] + end }}
        {%- endgeneration %}
    {%- else %}
        {{- message['content'] + end }}
    {%- endif %}
    {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>\\n' }}
{%- endif %}";

/// The user's words between `[INST]` and `[/INST]`, as Mistral has it; what the system says stands before the first.
const MISTRAL: &str = "\
{%- set end = eos_token if eos_token else '</s>' %}
{{- bos_token if bos_token else '<s>' }}
{%- set told = namespace(system='') %}
{%- for message in messages %}
    {%- if message['role'] == 'system' %}
        {%- set told.system = message['content'] + '\\n\\n' %}
    {%- elif message['role'] == 'user' %}
        {{- '[INST] ' + told.system + message['content'] + ' [/INST]' }}
        {%- set told.system = '' %}
    {%- elif message['role'] == 'assistant' %}
        {%- generation %}
        {{- ' ' + message['content'] + end }}
        {%- endgeneration %}
    {%- else %}
        {{- raise_exception('the roles are system, user and assistant, not ' + message['role']) }}
    {%- endif %}
{%- endfor %}";

/// Words only, for a tokenizer without markers.
const PLAIN: &str = "\
{%- set end = eos_token if eos_token else '' %}
{%- for message in messages %}
    {{- message['role'] | capitalize + ':' }}
    {%- if message['role'] == 'assistant' %}
        {%- generation %}
        {{- ' ' + message['content'] + end }}
        {%- endgeneration %}
    {%- else %}
        {{- ' ' + message['content'] }}
    {%- endif %}
    {{- '\\n\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- 'Assistant:' }}
{%- endif %}";

/// The templates by name.
pub(crate) fn registry() -> Registry<&'static str> {
    let mut registry = Registry::new("chat template");
    for (name, source) in [("chatml", CHATML), ("llama3", LLAMA3), ("mistral", MISTRAL), ("plain", PLAIN), ("zephyr", ZEPHYR)] {
        let registered = registry.register(name, source);
        debug_assert!(registered.is_ok(), "each template has its own name");
    }
    registry
}

/// The text of one that comes with the crate.
pub(crate) fn source(name: &str) -> Result<&'static str, TokenizeError> {
    Ok(*registry().resolve(name)?)
}

/// The names of the templates that come with the crate.
pub fn builtin_names() -> Vec<String> {
    registry().names().map(str::to_owned).collect()
}
