// Tags requests so that clients who wait get equal shares of the engine's tokens, however many
// requests each of them has sent. Layer L3; used by the engine when requests come, begin and end.
#pragma once

#include <mutex>
#include <string>
#include <unordered_map>

namespace gale {

/// Start-time fair queueing (Goyal, Vin, Cheng: SIGCOMM 1996) with tokens as the cost, corrected
/// when it is known, as the virtual token counters of arXiv:2401.00588 are. A request's tag is
/// where its client's last one is expected to end, but no earlier than what is being served now:
/// who has been away saves nothing up, and nobody waits behind another client's whole queue. Tags
/// of one client ascend, and so nobody waits forever. Thread-safe; O(1) per call.
class FairShares {
 public:
  /// A request that is expected to take so many tokens. Smaller tags are to be served sooner.
  double Arrive(const std::string& client, double expected_tokens);
  /// A request with this tag is being served.
  void Begin(double tag);
  /// A request has ended, and has taken so many tokens.
  void End(const std::string& client, double expected_tokens, double taken_tokens);

 private:
  struct Client {
    double next_tag = 0;
    int num_live = 0;
  };

  std::mutex mutex_;
  double now_ = 0;  ///< the largest tag that has begun
  int num_live_ = 0;
  std::unordered_map<std::string, Client> clients_;
};

}  // namespace gale
