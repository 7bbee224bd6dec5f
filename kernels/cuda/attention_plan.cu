// Plans the attention of a step. Host code only.
#include <algorithm>
#include <cstring>
#include <tuple>
#include <vector>

#include "attention_plan.cuh"
#include "launch.cuh"

namespace colm {

namespace {

int check(const ColmChainHeads* chains, int chain_count, const ColmQueryRange& range) {
    if (range.chain < 0 || range.chain >= chain_count) return COLM_BAD_SHAPE;
    if (range.sequence < 0 || range.first_position < 0 || range.rows < 0 || range.first_row < 0) {
        return COLM_BAD_SHAPE;
    }
    const ColmChainHeads& heads = chains[range.chain];
    if (heads.kv_heads <= 0 || heads.heads <= 0 || heads.heads % heads.kv_heads != 0 ||
        heads.first_kv_head < 0) {
        return COLM_BAD_HEADS;
    }
    return COLM_OK;
}

int group_of(const ColmChainHeads& heads) { return heads.heads / heads.kv_heads; }

class Plan {
  public:
    explicit Plan(const ColmChainHeads* chains) : chains_(chains) {}

    void add(const ColmQueryRange& range) {
        const int queries = range.rows * group_of(chains_[range.chain]);
        if (queries > MAX_DECODE_QUERIES) {
            add_prefill(range, queries);
        } else if (queries > 0) {
            decode_.push_back(range);
        }
    }

    void finish() {
        // The longest first, so that the last to start are short.
        std::stable_sort(prefill_.begin(), prefill_.end(),
                         [&](const PrefillTile& a, const PrefillTile& b) {
                             return last_position(a) > last_position(b);
                         });
        const auto stack_of = [&](const ColmQueryRange& range) {
            const ColmChainHeads& heads = chains_[range.chain];
            return std::make_tuple(range.sequence, heads.first_kv_head, heads.kv_heads);
        };
        std::stable_sort(decode_.begin(), decode_.end(),
                         [&](const ColmQueryRange& a, const ColmQueryRange& b) {
                             return stack_of(a) < stack_of(b);
                         });
        for (size_t first = 0, end = 0; first < decode_.size(); first = end) {
            while (end < decode_.size() && stack_of(decode_[end]) == stack_of(decode_[first])) {
                ++end;
            }
            add_stack(first, end);
        }
    }

    ColmAttentionPlan counts() const {
        ColmAttentionPlan counts = totals_;
        counts.prefill = static_cast<int>(prefill_.size());
        counts.stacks = static_cast<int>(stacks_.size());
        const size_t bytes = prefill_.size() * sizeof(PrefillTile) +
                             stacks_.size() * sizeof(DecodeStack) +
                             ranges_.size() * sizeof(DecodeRange);
        counts.words = static_cast<int>(bytes / sizeof(uint32_t));
        return counts;
    }

    void write(uint32_t* words) const {
        words = append(words, prefill_);
        words = append(words, stacks_);
        append(words, ranges_);
    }

  private:
    int last_position(const PrefillTile& tile) const {
        const int last_query = tile.first_query + tile.queries - 1;
        return tile.first_position + last_query / group_of(chains_[tile.chain]);
    }

    void add_prefill(const ColmQueryRange& range, int queries) {
        const ColmChainHeads& heads = chains_[range.chain];
        for (int head = 0; head < heads.kv_heads; ++head) {
            for (int first = 0; first < queries; first += PREFILL_QUERIES) {
                prefill_.push_back({range.chain, range.sequence, range.first_position,
                                    range.first_row, heads.first_kv_head + head, first,
                                    std::min(PREFILL_QUERIES, queries - first)});
            }
        }
    }

    // The stack of decode_[first] to decode_[end - 1].
    void add_stack(size_t first, size_t end) {
        const ColmChainHeads& heads = chains_[decode_[first].chain];
        DecodeStack stack = {};
        stack.sequence = decode_[first].sequence;
        stack.first_kv_head = heads.first_kv_head;
        stack.kv_heads = heads.kv_heads;
        stack.first_range = static_cast<int>(first);
        stack.ranges = static_cast<int>(end - first);
        for (size_t index = first; index < end; ++index) {
            const ColmQueryRange& range = decode_[index];
            ranges_.push_back({range.chain, range.first_position, range.first_row, stack.queries});
            stack.queries += range.rows * group_of(chains_[range.chain]);
            stack.visible = std::max(stack.visible, range.first_position + range.rows);
        }
        stack.first_block = totals_.decode;
        stack.first_combined = totals_.combine;
        stack.first_partial = totals_.partials;
        const int tiles = stack.kv_heads * stack.tiles(), splits = stack.splits();
        totals_.decode += tiles * splits;
        if (splits > 1) {
            totals_.combine += tiles;
            totals_.partials += tiles * splits;
        }
        stacks_.push_back(stack);
    }

    template <class Entry>
    static uint32_t* append(uint32_t* words, const std::vector<Entry>& entries) {
        static_assert(sizeof(Entry) % sizeof(uint32_t) == 0, "entries are whole words");
        if (!entries.empty()) std::memcpy(words, entries.data(), entries.size() * sizeof(Entry));
        return words + entries.size() * (sizeof(Entry) / sizeof(uint32_t));
    }

    const ColmChainHeads* const chains_;
    std::vector<PrefillTile> prefill_;
    std::vector<ColmQueryRange> decode_;
    std::vector<DecodeStack> stacks_;
    std::vector<DecodeRange> ranges_;
    ColmAttentionPlan totals_ = {};
};

}  // namespace

}  // namespace colm

// Plans the attention of `ranges`. Writes the counts to `counts`, and the plan to `words` if
// `capacity` words are enough. With a capacity of 0 `words` may be null.
extern "C" int colm_attention_plan(const ColmChainHeads* chains, int chain_count,
                                   const ColmQueryRange* ranges, int range_count, uint32_t* words,
                                   int capacity, ColmAttentionPlan* counts) {
    using namespace colm;
    Plan plan(chains);
    for (int i = 0; i < range_count; ++i) {
        if (const int status = check(chains, chain_count, ranges[i])) return status;
        plan.add(ranges[i]);
    }
    plan.finish();
    *counts = plan.counts();
    if (counts->words > 0 && counts->words <= capacity) plan.write(words);
    return COLM_OK;
}
