// The one translation unit that compiles Boost.JSON, which the rest of Gale uses to write JSON.
#include <boost/json/src.hpp>
