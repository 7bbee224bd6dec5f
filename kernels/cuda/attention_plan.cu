// Plans the attention of a step. Host code only.
#include <algorithm>
#include <vector>

#include "attention_plan.cuh"
#include "launch.cuh"

namespace colm {

namespace {

struct Items {
    std::vector<ColmAttentionItem> prefill, decode, combine;
    int partials = 0;
};

// The position of a query's row.
int position_of(const ColmAttentionItem& item, int group, int query) {
    return item.first_position + query / group;
}

int last_position(const ColmAttentionItem& item, int group) {
    return position_of(item, group, item.first_query + item.queries - 1);
}

void add_decode_tile(ColmAttentionItem tile, int group, Items& items) {
    const int splits = last_position(tile, group) / SPLIT_KEYS + 1;
    tile.partial = splits == 1 ? -1 : items.partials;
    if (splits > 1) {
        items.combine.push_back(tile);
        items.partials += splits;
    }
    for (int split = 0; split < splits; ++split) {
        tile.first_key = split * SPLIT_KEYS;
        items.decode.push_back(tile);
        if (splits > 1) ++tile.partial;
    }
}

void add_range(const ColmQueryRange& range, const ColmChainHeads& heads, Items& items) {
    const int group = heads.heads / heads.kv_heads;
    const int queries = range.rows * group;
    const bool decode = queries <= MAX_DECODE_QUERIES;
    const int tile_queries = decode ? COLM_DECODE_QUERIES : PREFILL_QUERIES;
    for (int head = 0; head < heads.kv_heads; ++head) {
        for (int first = 0; first < queries; first += tile_queries) {
            const ColmAttentionItem tile{range.chain,
                                         range.sequence,
                                         range.first_position,
                                         range.first_row,
                                         heads.first_kv_head + head,
                                         first,
                                         std::min(tile_queries, queries - first),
                                         0,
                                         -1};
            if (decode) {
                add_decode_tile(tile, group, items);
            } else {
                items.prefill.push_back(tile);
            }
        }
    }
}

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

}  // namespace

}  // namespace colm

// Plans the attention of `ranges`. Writes the counts to `plan`, and the items to `items` if
// `capacity` is enough for all of them. With a capacity of 0 `items` may be null.
extern "C" int colm_attention_plan(const ColmChainHeads* chains, int chain_count,
                                   const ColmQueryRange* ranges, int range_count,
                                   ColmAttentionItem* items, int capacity,
                                   ColmAttentionPlan* plan) {
    using namespace colm;
    Items planned;
    for (int i = 0; i < range_count; ++i) {
        if (const int status = check(chains, chain_count, ranges[i])) return status;
        add_range(ranges[i], chains[ranges[i].chain], planned);
    }
    // The longest first, so that the last to start are short.
    std::stable_sort(planned.prefill.begin(), planned.prefill.end(),
                     [&](const ColmAttentionItem& a, const ColmAttentionItem& b) {
                         const auto last = [&](const ColmAttentionItem& item) {
                             const ColmChainHeads& heads = chains[item.chain];
                             return last_position(item, heads.heads / heads.kv_heads);
                         };
                         return last(a) > last(b);
                     });
    const auto count = [](const std::vector<ColmAttentionItem>& list) {
        return static_cast<int>(list.size());
    };
    *plan = {count(planned.prefill), count(planned.decode), count(planned.combine),
             planned.partials};
    if (plan->prefill + plan->decode + plan->combine <= capacity) {
        for (const auto* list : {&planned.prefill, &planned.decode, &planned.combine}) {
            items = std::copy(list->begin(), list->end(), items);
        }
    }
    return COLM_OK;
}
