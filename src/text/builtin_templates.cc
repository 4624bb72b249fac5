#include "text/builtin_templates.h"

#include <array>

namespace gale {
namespace {

// Each starts with the same macro: the text of a message whose content may be a list of parts.
#define GALE_TEXT_OF                                                                  \
  "{%- macro text_of(content) -%}"                                                    \
  "{%- if content is none or content is undefined -%}"                                \
  "{%- elif content is string -%}{{ content }}"                                       \
  "{%- else -%}{%- for part in content -%}{{ part.text }}{%- endfor -%}{%- endif -%}" \
  "{%- endmacro -%}"

constexpr std::string_view kChatMl = GALE_TEXT_OF R"(
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ text_of(message.content) }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
)";

constexpr std::string_view kGemma = GALE_TEXT_OF R"(
{%- set ns = namespace(system="") -%}
{{- bos_token | default("<bos>") -}}
{%- for message in messages -%}
  {%- if message.role == "system" -%}
    {%- set ns.system = text_of(message.content) | trim ~ "\n\n" -%}
  {%- else -%}
    {{- "<start_of_turn>" ~ ("model" if message.role == "assistant" else message.role) ~ "\n" -}}
    {{- ns.system -}}{{- text_of(message.content) | trim -}}{{- "<end_of_turn>\n" -}}
    {%- set ns.system = "" -%}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<start_of_turn>model\n" -}}{%- endif -%}
)";

constexpr std::string_view kLlama2 = GALE_TEXT_OF R"(
{%- set ns = namespace(system="") -%}
{%- for message in messages -%}
  {%- if message.role == "system" -%}
    {%- set ns.system = "<<SYS>>\n" ~ text_of(message.content) ~ "\n<</SYS>>\n\n" -%}
  {%- elif message.role == "user" -%}
    {{- bos_token | default("<s>") -}}{{- "[INST] " -}}{{- ns.system -}}
    {{- text_of(message.content) | trim -}}{{- " [/INST]" -}}
    {%- set ns.system = "" -%}
  {%- elif message.role == "assistant" -%}
    {{- " " -}}{{- text_of(message.content) | trim -}}{{- " " -}}{{- eos_token | default("</s>") -}}
  {%- else -%}
    {{- raise_exception("llama2 knows system, user and assistant, not " ~ message.role) -}}
  {%- endif -%}
{%- endfor -%}
)";

constexpr std::string_view kLlama3 = GALE_TEXT_OF R"(
{{- bos_token | default("<|begin_of_text|>") -}}
{%- for message in messages -%}
  {{- "<|start_header_id|>" -}}{{- message.role -}}{{- "<|end_header_id|>\n\n" -}}
  {{- text_of(message.content) | trim -}}{{- "<|eot_id|>" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- "<|start_header_id|>assistant<|end_header_id|>\n\n" -}}
{%- endif -%}
)";

constexpr std::string_view kMistral = GALE_TEXT_OF R"(
{%- set ns = namespace(system="") -%}
{{- bos_token | default("<s>") -}}
{%- for message in messages -%}
  {%- if message.role == "system" -%}
    {%- set ns.system = text_of(message.content) ~ "\n\n" -%}
  {%- elif message.role == "user" -%}
    {{- "[INST] " -}}{{- ns.system -}}{{- text_of(message.content) -}}{{- " [/INST]" -}}
    {%- set ns.system = "" -%}
  {%- elif message.role == "assistant" -%}
    {{- " " -}}{{- text_of(message.content) | trim -}}{{- eos_token | default("</s>") -}}
  {%- else -%}
    {{- raise_exception("mistral knows system, user and assistant, not " ~ message.role) -}}
  {%- endif -%}
{%- endfor -%}
)";

constexpr std::string_view kPhi3 = GALE_TEXT_OF R"(
{%- for message in messages -%}
  {{- "<|" -}}{{- message.role -}}{{- "|>\n" -}}{{- text_of(message.content) -}}{{- "<|end|>\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|assistant|>\n" -}}{%- endif -%}
)";

constexpr std::string_view kPlain = GALE_TEXT_OF R"(
{%- for message in messages -%}
  {%- if message.role == "system" -%}
    {{- text_of(message.content) -}}{{- "\n\n" -}}
  {%- else -%}
    {{- message.role | capitalize -}}{{- ": " -}}{{- text_of(message.content) -}}{{- "\n" -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "Assistant:" -}}{%- endif -%}
)";

constexpr std::string_view kZephyr = GALE_TEXT_OF R"(
{%- for message in messages -%}
  {{- "<|" -}}{{- message.role -}}{{- "|>\n" -}}{{- text_of(message.content) -}}
  {{- eos_token | default("</s>") -}}{{- "\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|assistant|>\n" -}}{%- endif -%}
)";

#undef GALE_TEXT_OF

constexpr std::array<BuiltinTemplate, 8> kTemplates = {{{"chatml", kChatMl},
                                                        {"gemma", kGemma},
                                                        {"llama2", kLlama2},
                                                        {"llama3", kLlama3},
                                                        {"mistral", kMistral},
                                                        {"phi3", kPhi3},
                                                        {"plain", kPlain},
                                                        {"zephyr", kZephyr}}};

}  // namespace

std::span<const BuiltinTemplate> BuiltinTemplates() { return kTemplates; }

}  // namespace gale
