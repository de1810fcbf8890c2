/* SPDX-License-Identifier: MIT */
#ifndef FREQKV_PLACE_H
#define FREQKV_PLACE_H

/* For engines in C, and with a loop over tokens: where the next token goes.
 *
 * Caches are [layers] of [capacity][kv_heads][head_dim], keys behind their rotation, of which neighbouring dimensions
 * turn together. `pos` is the token's place in the text; 0 begins a new one. What is returned takes its place in the
 * engine: as the entry that keys and values are written to, and as the position of the rotation. When the caches are
 * full, all layers are compressed first, and it goes on behind what was kept. One text at a time. */

#ifdef __cplusplus
extern "C" {
#endif

/* One block of memory for all layers, of float, and of half. */
int freqkv_place_f32(int pos, float* keys, float* values, int layers, int capacity, int kv_heads, int head_dim,
                     int rotary_dim, float theta);
int freqkv_place_f16(int pos, void* keys, void* values, int layers, int capacity, int kv_heads, int head_dim,
                     int rotary_dim, float theta);

/* A block for each layer, of half. */
int freqkv_place_f16_blocks(int pos, void* const* keys, void* const* values, int layers, int capacity, int kv_heads,
                            int head_dim, int rotary_dim, float theta);

#ifdef __cplusplus
}
#endif

#endif
