// Serves the page at / and what it loads from /web/. Layer L6.
#pragma once

#include "server/http_exchange.h"

namespace gale::server {

/// Answers a GET of "/", "/web/NAME" or "/openapi.json". The page is code and no data, so that it
/// needs no key: a browser could not send one before the page has asked for it.
void ServeWebFile(HttpExchange& exchange);

}  // namespace gale::server
