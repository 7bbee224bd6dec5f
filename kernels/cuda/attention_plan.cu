// The plan of a step's attention: host code only.
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

// The position of the row of a slot.
int position_of(const ColmAttentionItem& item, int group, int slot) {
    return item.first_position + slot / group;
}

int last_position(const ColmAttentionItem& item, int group) {
    return position_of(item, group, item.first_slot + item.slots - 1);
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
    const int slots = range.rows * group;
    const bool decode = slots <= MOST_DECODE_SLOTS;
    const int tile_slots = decode ? DECODE_SLOTS : PREFILL_SLOTS;
    for (int head = 0; head < heads.kv_heads; ++head) {
        for (int first = 0; first < slots; first += tile_slots) {
            const ColmAttentionItem tile{range.chain,
                                         range.sequence,
                                         range.first_position,
                                         range.first_row,
                                         heads.first_kv_head + head,
                                         first,
                                         std::min(tile_slots, slots - first),
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

// Plans the attention of `ranges`. Writes the numbers of items to `plan`, and the items to `items`
// if it has room for all of them; with `capacity` 0 `items` may be null.
extern "C" int colm_attention_plan(const ColmChainHeads* chains, int chain_count,
                                   const ColmQueryRange* ranges, int range_count,
                                   ColmAttentionItem* items, int capacity,
                                   ColmAttentionPlan* plan) {
    using namespace colm;
    Items planned;
    for (int i = 0; i < range_count; ++i) {
        if (const int refused = check(chains, chain_count, ranges[i])) return refused;
        add_range(ranges[i], chains[ranges[i].chain], planned);
    }
    // The longest first: what starts last then ends soon.
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
