# Every header, by layer. This is the one list of headers: what is installed and what is compiled alone comes from here.
# tests/dependency_direction.cmake checks what each includes: headers of its own layer, and of the layers that its layer
# stands on. The layer of a private header is the folder it lies in.

set(FREQKV_LAYERS base lanes transform compressor policy cache snapshot attention adjoint
    cuda_device cuda_transform cuda_cache cuda_attention cuda umbrella)

# FREQKV_BELOW_<layer>: the layers that it stands on, and with them what these stand on. CUDA takes the cache's options,
# no more of the host's cache, and nothing of attention and adjoint.
set(FREQKV_BELOW_lanes base)
set(FREQKV_BELOW_transform lanes)
set(FREQKV_BELOW_compressor transform)
set(FREQKV_BELOW_policy compressor)
set(FREQKV_BELOW_cache policy)
set(FREQKV_BELOW_snapshot cache)
set(FREQKV_BELOW_attention cache)
set(FREQKV_BELOW_adjoint attention)
set(FREQKV_BELOW_cuda_device cache)
set(FREQKV_BELOW_cuda_transform cuda_device)
set(FREQKV_BELOW_cuda_cache cuda_transform)
set(FREQKV_BELOW_cuda_attention cuda_cache)
set(FREQKV_BELOW_cuda cuda_attention)
set(FREQKV_BELOW_umbrella adjoint)

set(FREQKV_HEADERS_base
    freqkv/config.hpp
    freqkv/energy.hpp
    freqkv/error.hpp
    freqkv/executor.hpp
    freqkv/foreign_rows.hpp
    freqkv/ggml.hpp
    freqkv/packed.hpp
    freqkv/rope_options.hpp
    freqkv/stored_element.hpp
    freqkv/version.hpp
    freqkv/view.hpp
    freqkv/workspace.hpp)

set(FREQKV_HEADERS_lanes
    freqkv/detail/lanes/convert.hpp
    freqkv/detail/lanes/ggml_rows.hpp
    freqkv/detail/lanes/hadamard.hpp
    freqkv/detail/lanes/lane_product.hpp
    freqkv/detail/lanes/lanes.hpp
    freqkv/detail/lanes/packed_rows.hpp
    freqkv/detail/lanes/pairs.hpp
    freqkv/detail/lanes/unrolled.hpp)

set(FREQKV_HEADERS_transform
    freqkv/dct/direct.hpp
    freqkv/dct/simd.hpp
    freqkv/dct_plan.hpp
    freqkv/fast_capacity.hpp
    freqkv/detail/transform/butterflies.hpp
    freqkv/detail/transform/column_fft.hpp
    freqkv/detail/transform/makhoul.hpp
    freqkv/detail/transform/matrix_fft.hpp
    freqkv/detail/transform/prime_factors.hpp
    freqkv/detail/transform/stockham_fft.hpp)

# Of the transform layer too, but they need FFTW and belong to the target freqkv::fftw.
set(FREQKV_HEADERS_transform_fftw
    freqkv/dct/fftw.hpp)

set(FREQKV_HEADERS_compressor
    freqkv/frequency_compressor.hpp
    freqkv/rope.hpp)

set(FREQKV_HEADERS_policy
    freqkv/detail/policy/key_matching.hpp
    freqkv/detail/policy/window_scores.hpp
    freqkv/policy.hpp
    freqkv/policy/binary_tiers.hpp
    freqkv/policy/block_mean.hpp
    freqkv/policy/codec.hpp
    freqkv/policy/codec_needs.hpp
    freqkv/policy/describe.hpp
    freqkv/policy/equal_weight.hpp
    freqkv/policy/full.hpp
    freqkv/policy/heavy_hitters.hpp
    freqkv/policy/keep_some.hpp
    freqkv/policy/key_diff.hpp
    freqkv/policy/local_window.hpp
    freqkv/policy/low_pass.hpp
    freqkv/policy/merge.hpp
    freqkv/policy/norms.hpp
    freqkv/policy/report.hpp
    freqkv/policy/residual_energy.hpp
    freqkv/policy/schedule.hpp
    freqkv/policy/select_highest.hpp
    freqkv/policy/whole_span.hpp
    freqkv/policy/window_attention.hpp)

set(FREQKV_HEADERS_cache
    freqkv/block_view.hpp
    freqkv/budget.hpp
    freqkv/cache_options.hpp
    freqkv/hadamard_view.hpp
    freqkv/scaled_view.hpp
    freqkv/sinked_kv_cache.hpp
    freqkv/detail/cache/check_rows.hpp
    freqkv/detail/cache/close_up.hpp
    freqkv/detail/cache/compression_scratch.hpp
    freqkv/detail/cache/dense_rows.hpp
    freqkv/detail/cache/due_list.hpp
    freqkv/detail/cache/hybrid_engine.hpp
    freqkv/detail/cache/kv_list.hpp
    freqkv/detail/cache/list_compressor.hpp
    freqkv/detail/cache/list_counts.hpp
    freqkv/detail/cache/list_rows.hpp
    freqkv/detail/cache/merge_engine.hpp
    freqkv/detail/cache/move_entries.hpp
    freqkv/detail/cache/packed_staging.hpp
    freqkv/detail/cache/plan_cache.hpp
    freqkv/detail/cache/query_ring.hpp
    freqkv/detail/cache/rotated_columns.hpp
    freqkv/detail/cache/row_staging.hpp
    freqkv/detail/cache/selection_engine.hpp
    freqkv/detail/cache/transform_engine.hpp)

# Of the target freqkv::snapshot, for they need xxhash.h.
set(FREQKV_HEADERS_snapshot
    freqkv/snapshot.hpp
    freqkv/detail/snapshot/head.hpp
    freqkv/detail/snapshot/settings.hpp
    freqkv/detail/snapshot/streams.hpp)

set(FREQKV_HEADERS_attention
    freqkv/chunked_attention.hpp
    freqkv/in_place.hpp
    freqkv/detail/attention/partial_attention.hpp
    freqkv/detail/attention/score_cap.hpp
    freqkv/detail/attention/stretches.hpp
    freqkv/detail/attention/tile_attention.hpp)

set(FREQKV_HEADERS_adjoint
    freqkv/adjoint/chunked_attention.hpp
    freqkv/adjoint/differentiable_codec.hpp
    freqkv/detail/adjoint/attention_adjoint.hpp
    freqkv/detail/adjoint/compression_adjoint.hpp
    freqkv/detail/adjoint/list_history.hpp
    freqkv/detail/adjoint/rope_angles.hpp)

# Of the target freqkv::cuda. The .hpp ones are for every compiler, so that tests on the host run what kernels are made
# of; the .cuh ones need nvcc.
set(FREQKV_HEADERS_cuda_device
    freqkv/cuda/cache_options.hpp
    freqkv/cuda/device_array.cuh
    freqkv/cuda/foreign_list.hpp
    freqkv/cuda/paged_view.hpp
    freqkv/cuda/status.cuh
    freqkv/cuda/workspace.cuh
    freqkv/cuda/detail/device/batch.hpp
    freqkv/cuda/detail/device/block.hpp
    freqkv/cuda/detail/device/check_memory.cuh
    freqkv/cuda/detail/device/check_views.hpp
    freqkv/cuda/detail/device/device_attributes.cuh
    freqkv/cuda/detail/device/device_block.cuh
    freqkv/cuda/detail/device/device_elements.cuh
    freqkv/cuda/detail/device/entry_rows.hpp
    freqkv/cuda/detail/device/float_pair.hpp
    freqkv/cuda/detail/device/half_element.hpp
    freqkv/cuda/detail/device/launch_kernel.cuh
    freqkv/cuda/detail/device/packed_group.hpp
    freqkv/cuda/detail/device/packed_memory.hpp
    freqkv/cuda/detail/device/row_map.hpp)

set(FREQKV_HEADERS_cuda_transform
    freqkv/cuda/detail/transform/closing_up.hpp
    freqkv/cuda/detail/transform/fft_passes.hpp
    freqkv/cuda/detail/transform/launch_shape.hpp
    freqkv/cuda/detail/transform/move_kernel.cuh
    freqkv/cuda/detail/transform/move_rows.hpp
    freqkv/cuda/detail/transform/resample.hpp
    freqkv/cuda/detail/transform/resample_kernel.cuh
    freqkv/cuda/detail/transform/resample_launch.cuh
    freqkv/cuda/detail/transform/transform_tables.hpp
    freqkv/cuda/detail/transform/transform_view.hpp)

set(FREQKV_HEADERS_cuda_cache
    freqkv/cuda/detail/cache/append_rows.hpp
    freqkv/cuda/detail/cache/cache_kernels.cuh
    freqkv/cuda/detail/cache/cache_launch.cuh
    freqkv/cuda/detail/cache/choose_entries.hpp
    freqkv/cuda/detail/cache/convert_kernel.cuh
    freqkv/cuda/detail/cache/convert_rows.hpp
    freqkv/cuda/detail/cache/entry_scores.hpp
    freqkv/cuda/detail/cache/entry_store.cuh
    freqkv/cuda/detail/cache/feed.hpp
    freqkv/cuda/detail/cache/packed_lists.cuh
    freqkv/cuda/detail/cache/packed_store.cuh
    freqkv/cuda/detail/cache/plain_lists.cuh
    freqkv/cuda/detail/cache/policies.hpp
    freqkv/cuda/detail/cache/query_ring.cuh
    freqkv/cuda/detail/cache/query_window.hpp
    freqkv/cuda/detail/cache/select_kernels.cuh
    freqkv/cuda/detail/cache/select_task.hpp
    freqkv/cuda/detail/cache/selector.cuh
    freqkv/cuda/detail/cache/window_score.hpp)

set(FREQKV_HEADERS_cuda_attention
    freqkv/cuda/detail/attention/attention_launch.cuh
    freqkv/cuda/detail/attention/attention_task.hpp
    freqkv/cuda/detail/attention/cached_rows.hpp
    freqkv/cuda/detail/attention/decode_attention.hpp
    freqkv/cuda/detail/attention/decode_kernels.cuh
    freqkv/cuda/detail/attention/device_matrix_block.cuh
    freqkv/cuda/detail/attention/matrix_block.hpp
    freqkv/cuda/detail/attention/prefill_attention.hpp
    freqkv/cuda/detail/attention/prefill_kernel.cuh)

set(FREQKV_HEADERS_cuda
    freqkv/cuda/chunked_attention.cuh
    freqkv/cuda/dct_plan.cuh
    freqkv/cuda/energy_report.cuh
    freqkv/cuda/frequency_compressor.cuh
    freqkv/cuda/in_place.cuh
    freqkv/cuda/rope.cuh
    freqkv/cuda/sinked_kv_cache.cuh)

set(FREQKV_HEADERS_umbrella
    freqkv/freqkv.hpp)

# All of the target freqkv::cuda.
set(FREQKV_CUDA_HEADERS
    ${FREQKV_HEADERS_cuda_device} ${FREQKV_HEADERS_cuda_transform} ${FREQKV_HEADERS_cuda_cache}
    ${FREQKV_HEADERS_cuda_attention} ${FREQKV_HEADERS_cuda})
