"""The chat template used when a checkpoint ships none (`docs/checkpoint.md`, chat template).

ChatML without BOS: a system turn is always present, past assistant turns keep an empty thought,
thinking is off unless asked for. Works on string content and on lists of content parts.
"""

CHAT_TEMPLATE = """\
{%- macro text_of(content) -%}
    {%- if content is string -%}
        {{- content -}}
    {%- else -%}
        {%- for part in content -%}
            {%- if part.type == 'text' -%}
                {{- part.text -}}
            {%- elif part.type in ['image', 'image_url'] -%}
                {{- '<|image_start|>' -}}
            {%- else -%}
                {{- raise_exception('unsupported content part ' + part.type) -}}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
{%- if messages and messages[0].role == 'system' -%}
    {%- set system = text_of(messages[0].content) -%}
    {%- set turns = messages[1:] -%}
{%- else -%}
    {%- set system = '' -%}
    {%- set turns = messages -%}
{%- endif -%}
{{- '<|im_start|>system\\n' + system + '<|im_end|>\\n' -}}
{%- for message in turns -%}
    {%- if message.role == 'user' -%}
        {{- '<|im_start|>user\\n' + text_of(message.content) + '<|im_end|>\\n' -}}
    {%- elif message.role == 'assistant' -%}
        {%- set answer = text_of(message.content).split('</think>')[-1] -%}
        {{- '<|im_start|>assistant\\n<think></think>' + answer + '<|im_end|>\\n' -}}
    {%- else -%}
        {{- raise_exception('unknown role ' + message.role) -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
    {%- if enable_thinking is defined and enable_thinking -%}
        {{- '<think>\\n' -}}
    {%- else -%}
        {{- '<think></think>' -}}
    {%- endif -%}
{%- endif -%}
"""
