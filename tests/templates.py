"""Chat templates with the structure of those of well-known families, shortened: what they say about dates, thoughts,
turns and the form of messages is theirs, tools and the like are left out. Written for these tests."""

from __future__ import annotations

LLAMA_3 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

MISTRAL_SMALL_3 = """{%- set today = strftime_now("%Y-%m-%d") %}
{%- set default_system_message = "You are a model. Your knowledge ends on 2023-10-01.\\n\\nThe current date is "
    + today + "." %}

{{- bos_token }}

{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set system_message = default_system_message %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- '[SYSTEM_PROMPT]' + system_message + '[/SYSTEM_PROMPT]' }}

{%- for message in loop_messages %}
    {%- if message['role'] == 'user' %}
        {{- '[INST]' + message['content'] + '[/INST]' }}
    {%- elif message['role'] == 'assistant' %}
        {{- message['content'] + eos_token }}
    {%- else %}
        {{- raise_exception('Only user and assistant roles are supported!') }}
    {%- endif %}
{%- endfor %}
"""

GRANITE = """{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set system_message = "Knowledge Cutoff Date: April 2024.\\nToday's Date: " + strftime_now('%B %d, %Y')
        + ".\\nYou are Granite." %}
    {%- if thinking %}
        {%- set system_message = system_message
            + "\\nWrite your thoughts between <think></think> and your response between <response></response>." %}
    {%- endif %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- '<|start_of_role|>system<|end_of_role|>' + system_message + '<|end_of_text|>\\n' }}
{%- for message in loop_messages %}
    {{- '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + message['content'] + '<|end_of_text|>\\n' }}
    {%- if loop.last and add_generation_prompt %}
        {{- '<|start_of_role|>assistant' }}
        {{- '<|end_of_role|>' }}
    {%- endif %}
{%- endfor %}
"""

SMOLLM_3 = """{%- if enable_thinking is not defined %}
{%- set enable_thinking = true %}
{%- endif %}
{%- set reasoning_mode = "/think" if enable_thinking else "/no_think" %}
{{- "<|im_start|>system\\n" }}
{{- "## Metadata\\n\\n" }}
{{- "Knowledge Cutoff Date: June 2025\\n" }}
{%- set today = strftime_now("%d %B %Y") %}
{{- "Today Date: " ~ today ~ "\\n" }}
{{- "Reasoning Mode: " + reasoning_mode + "\\n\\n" }}
{{- "<|im_end|>\\n" }}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else "" %}
    {%- if message.role == "user" %}
        {{- "<|im_start|>" + message.role + "\\n" + content + "<|im_end|>\\n" }}
    {%- elif message.role == "assistant" %}
        {%- generation %}
        {%- if reasoning_mode == "/think" %}
            {{- "<|im_start|>assistant\\n" + content.lstrip("\\n") + "<|im_end|>\\n" }}
        {%- else %}
            {{- "<|im_start|>assistant\\n" + "<think>\\n\\n</think>\\n" + content.lstrip("\\n") + "<|im_end|>\\n" }}
        {%- endif %}
        {%- endgeneration %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {%- if reasoning_mode == "/think" %}
        {{- "<|im_start|>assistant\\n" }}
    {%- else %}
        {{- "<|im_start|>assistant\\n" + "<think>\\n\\n</think>\\n" }}
    {%- endif %}
{%- endif %}
"""

GPT_OSS = """{%- macro build_system_message() -%}
    {{- "You are a model.\\nKnowledge cutoff: 2024-06\\n" }}
    {{- "Current date: " + strftime_now("%Y-%m-%d") + "\\n\\n" }}
    {%- if reasoning_effort is not defined %}
        {%- set reasoning_effort = "medium" %}
    {%- endif %}
    {{- "Reasoning: " + reasoning_effort + "\\n\\n" }}
    {{- "# Valid channels: analysis, commentary, final. Channel must be included for every message." }}
{%- endmacro -%}
{{- "<|start|>system<|message|>" }}
{{- build_system_message() }}
{{- "<|end|>" }}
{%- for message in messages -%}
    {%- if message.role == 'assistant' -%}
        {%- if "<|channel|>final<|message|>" in message.content %}
            {{- raise_exception("Pass the analysis as thinking and the final message as content.") }}
        {%- endif %}
        {%- if loop.last and not add_generation_prompt %}
            {%- if "thinking" in message %}
                {{- "<|start|>assistant<|channel|>analysis<|message|>" + message.thinking + "<|end|>" }}
            {%- endif %}
            {{- "<|start|>assistant<|channel|>final<|message|>" + message.content + "<|return|>" }}
        {%- else %}
            {{- "<|start|>assistant<|channel|>final<|message|>" + message.content + "<|end|>" }}
        {%- endif %}
    {%- elif message.role == 'user' -%}
        {{- "<|start|>user<|message|>" + message.content + "<|end|>" }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
<|start|>assistant
{%- endif -%}
"""

QWEN_3 = """{%- set ns = namespace(last_query_index=messages|length - 1) %}
{%- for message in messages %}
    {%- if message.role == "user" %}{%- set ns.last_query_index = loop.index0 %}{%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "user" %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index and (loop.last or reasoning_content) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n'
                + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    SWITCH
{%- endif %}"""
QWEN_3_HYBRID = QWEN_3.replace(
    "SWITCH",
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}",
)
QWEN_3_THINKING = QWEN_3.replace("SWITCH", "{{- '<think>\\n' }}")

R1_DISTILL = """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}
{{- bos_token }}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}
        {{- '<｜User｜>' + message['content'] }}
    {%- elif message['role'] == 'assistant' %}
        {%- set content = message['content'] %}
        {%- if '</think>' in content %}{%- set content = content.split('</think>')[-1] %}{%- endif %}
        {{- '<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<｜Assistant｜>OPENED' }}{%- endif %}"""
R1_DISTILL_OLD = R1_DISTILL.replace("OPENED", "")
R1_DISTILL_NEW = R1_DISTILL.replace("OPENED", "<think>\\n")

DEEPSEEK_V3_1 = """{% if not thinking is defined %}{% set thinking = false %}{% endif %}
{{- bos_token }}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}{{- '<｜User｜>' + message['content'] }}
    {%- else %}{{- '<｜Assistant｜></think>' + message['content'] + '<｜end▁of▁sentence｜>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<｜Assistant｜>' + ('<think>' if thinking else '</think>') }}{%- endif %}"""

GLM_4_5 = """[gMASK]<sop>
{%- for m in messages %}
{%- if m.role == 'user' -%}<|user|>
{{ m.content }}
{{- '/nothink' if (enable_thinking is defined and not enable_thinking) else '' -}}
{%- elif m.role == 'assistant' -%}
<|assistant|>
{{- '\\n<think></think>' }}
{{- '\\n' + m.content.strip() }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    <|assistant|>{{- '\\n<think></think>' if (enable_thinking is defined and not enable_thinking) else '' -}}
{%- endif -%}
"""

SEED_OSS = """{%- if not thinking_budget is defined %}{%- set thinking_budget = -1 %}{%- endif %}
{%- if thinking_budget == 0 %}
{{- '<seed:bos>system\\nSkip the thinking process and directly start answering.<seed:eos>' }}
{%- elif not thinking_budget == -1 %}
{{- '<seed:bos>system\\nYour thinking budget is ' ~ thinking_budget ~ '.<seed:eos>' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'assistant' and message.reasoning_content is defined and message.reasoning_content %}
{{- '<seed:bos>assistant\\n<seed:think>' + message.reasoning_content + '</seed:think>\\n' + message.content
    + '<seed:eos>' }}
{%- else %}
{{- '<seed:bos>' + message.role + '\\n' + message.content + '<seed:eos>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<seed:bos>assistant\\n' }}
{%- if thinking_budget == 0 %}{{- '<seed:think><seed:cot_budget_reflect>' }}{%- endif %}
{%- endif %}
{#- a thought's reflections end with </seed:cot_budget_reflect> -#}
"""

MAGISTRAL = """{{- bos_token }}
{%- set default_system_message = 'First draft your thinking. It must follow this template:'
    + '[THINK]Your thoughts[/THINK]Then respond.' %}
{{- '[SYSTEM_PROMPT]' + default_system_message + '[/SYSTEM_PROMPT]' }}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}
        {{- '[INST]' + (message['content'] if message['content'] is string else message['content'][0]['text'])
            + '[/INST]' }}
    {%- elif message['content'] is string %}
        {{- message['content'] + eos_token }}
    {%- else %}
        {%- for block in message['content'] %}
            {%- if block['type'] == 'text' %}{{- block['text'] }}
            {%- elif block['type'] == 'thinking' %}{{- '[THINK]' + block['thinking'] + '[/THINK]' }}
            {%- endif %}
        {%- endfor %}
        {{- eos_token }}
    {%- endif %}
{%- endfor %}
"""

COHERE_REASONING = """{%- set reasoning = reasoning if reasoning is not undefined else true %}
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- '<|START_OF_TURN_TOKEN|><|USER_TOKEN|>' + message.content + '<|END_OF_TURN_TOKEN|>' }}
    {%- else %}
        {{- '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>' + message.content
            + '<|END_RESPONSE|><|END_OF_TURN_TOKEN|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_THINKING|>' + ('' if reasoning else '<|END_THINKING|>') }}
{%- endif %}"""

GEMMA_4 = """{{- bos_token }}
{%- if enable_thinking is defined and enable_thinking %}{{- '<|turn>system\\n<|think|><turn|>\\n' }}{%- endif %}
{%- for message in messages %}
    {{- '<|turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}
    {{- (message['content'] if message['content'] is string else message['content'][0]['text']) | trim }}
    {{- '<turn|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|turn>model\\n' }}
    {%- if not enable_thinking | default(false) %}{{- '<|channel>thought\\n<channel|>' }}{%- endif %}
{%- endif %}"""

KIMI_K2_THINKING = """{%- for message in messages %}
{{- '<|im_' + message.role + '|>' + message.role + '<|im_middle|>' }}
{%- if message.role == 'assistant' %}{{- '<think>' + message.get('reasoning_content', '') + '</think>' }}{%- endif %}
{{- message.content + '<|im_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_assistant|>assistant<|im_middle|>' }}{%- endif %}"""

NEMOTRON_NANO = """{%- set ns = namespace(enable_thinking=true) %}
{{- '<SPECIAL_10>System\\n\\n' }}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}
        {%- if '/no_think' in message['content'] %}{%- set ns.enable_thinking = false %}{%- endif %}
        {{- '<SPECIAL_11>User\\n' + message['content'].replace('/think', '').replace('/no_think', '').strip() + '\\n' }}
    {%- else %}
        {{- '<SPECIAL_11>Assistant\\n' + message['content'].strip() + '\\n<SPECIAL_12>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<SPECIAL_11>Assistant\\n' + ('<think>\\n' if ns.enable_thinking else '<think></think>') }}
{%- endif %}"""

APRIEL = """{%- set add_generation_prompt = true %}
{{- '<|begin_system|>\\nReason step by step, then respond after the marker [BEGIN FINAL RESPONSE].\\n' }}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}{{- '<|begin_user|>\\n' + message['content'] }}
    {%- else %}
        {{- '\\n<|begin_assistant|>\\n' }}
        {%- if message.get('reasoning_content') %}
            {{- message['reasoning_content'] + '\\n[BEGIN FINAL RESPONSE]\\n' }}
        {%- endif %}
        {{- message['content'] }}
        {%- if not loop.last %}{{- '\\n<|end|>\\n' }}{%- endif %}
    {%- endif %}
    {%- if loop.last and add_generation_prompt and message['role'] != 'assistant' %}
        {{- '\\n<|begin_assistant|>\\n' + 'Here are my reasoning steps:\\n' }}
    {%- endif %}
{%- endfor %}"""

REKA = """{%- for message in messages %}
{{- ('human: ' if message.role == 'user' else 'assistant: ') + message.content + ' <sep> ' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- 'assistant: <reasoning>\\n' }}{%- endif %}
{#- the thought ends with </reasoning> -#}"""

PLAIN_CHATML = """{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""

SMOLVLM = """<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}
{%- if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}
{%- for line in message['content'] %}
{%- if line['type'] == 'text' %}{{ line['text'] }}{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}
{%- endfor %}<end_of_utterance>
{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"""
"""It wants typed parts and fails on a text."""

LLAVA = """{% for message in messages %}{{ message['role'].upper() + ': ' }}
{%- for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' ' }}{% endfor %}
{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"""
"""It wants typed parts, and prints nothing of a text without a word."""

GEMMA_2 = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for message in messages %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}
{{- '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\\n' + message['content'] | trim
    + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{% endif %}"""

DATED = {"llama": LLAMA_3, "mistral": MISTRAL_SMALL_3, "granite": GRANITE, "smollm": SMOLLM_3, "gpt-oss": GPT_OSS}
"""Those that print the date."""
