// The built-in chat templates and one that reads every part of its input, over any bytes as
// messages, tools and arguments, split at the first two zero bytes.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <vector>

#include "gale/chat.h"

namespace {

using Templates = std::vector<std::unique_ptr<gale::ChatTemplate>>;

Templates Load() {
  Templates templates;
  for (const std::string_view name : gale::ChatTemplate::Names()) {
    templates.push_back(std::move(gale::ChatTemplate::FromName(name)).value());
  }
  templates.push_back(
      std::move(gale::ChatTemplate::FromSource(
                    "{% for m in messages %}{{ m }}{{ m | tojson(indent=1, sort_keys=true) }}"
                    "{{ m.content | string | trim | upper | title | wordcount }}"
                    "{{ (m.content | string).split() }}{{ m.content | string | indent(2) }}"
                    "{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
                    "{{ tools | tojson(ensure_ascii=true) }}{{ n }}{{ '%s' % s | string }}"))
          .value());
  return templates;
}

std::string_view TakePart(std::string_view* rest) {
  const size_t end = std::min(rest->find('\0'), rest->size());
  const std::string_view part = rest->substr(0, end);
  rest->remove_prefix(std::min(end + 1, rest->size()));
  return part;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Templates templates = Load();
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  const std::string_view messages = TakePart(&rest);
  gale::ChatOptions options;
  options.tools_json = TakePart(&rest);
  options.kwargs_json = rest;
  options.continue_final_message = size % 2 == 1;
  options.add_generation_prompt = !options.continue_final_message;
  for (const auto& chat : templates) {
    const auto prompt = chat->Render(messages, options);
    if (!prompt) continue;
    size_t done = 0;
    for (const gale::TextSpan& span : prompt->user_spans) {
      if (span.begin < done || span.begin >= span.end || span.end > prompt->text.size()) {
        std::abort();
      }
      done = span.end;
    }
    for (const gale::TextSpan& span : prompt->assistant_spans) {
      if (span.begin >= span.end || span.end > prompt->text.size()) std::abort();
    }
  }
  return 0;
}
