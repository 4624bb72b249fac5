#include "text/token_model.h"

#include "text/bpe.h"
#include "text/component.h"

namespace gale::text {

Result<std::unique_ptr<TokenModel>> TokenModel::Parse(const JsonValue& value) {
  GALE_ASSIGN_OR_RETURN(const JsonObject model, value.Object());
  // Files of early versions of `tokenizers` leave the type out; merges tell that it is BPE.
  GALE_ASSIGN_OR_RETURN(const std::string_view type,
                        StringOr(model, "type", model.Find("merges") ? "BPE" : ""));
  if (type == "BPE") return Bpe::Parse(model);
  return UnknownType(value, type, "BPE");
}

}  // namespace gale::text
