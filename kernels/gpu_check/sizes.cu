// The sizes of the structures that Python passes to the launchers, in the order of `SIZED` in
// library.py, which compares them with its own.
#include "chain_attention.cuh"
#include "chain_linear.h"

extern "C" int colm_sizes(int* sizes, int capacity) {
    const int all[] = {
        sizeof(ColmLinearInput),  sizeof(ColmLinearProduct), sizeof(ColmChainLinear),
        sizeof(ColmNormChain),    sizeof(ColmChainNorm),     sizeof(ColmChainHeads),
        sizeof(ColmChainTensors), sizeof(ColmKvBlocks),      sizeof(ColmQueryRange),
        sizeof(ColmAttentionPlan),
    };
    const int count = sizeof all / sizeof all[0];
    for (int i = 0; i < count && i < capacity; ++i) sizes[i] = all[i];
    return count;
}
