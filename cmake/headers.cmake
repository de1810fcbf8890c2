# Every public header, by layer, lowest layer first. This is the one list of headers: what is installed,
# what is compiled alone, and what tests/dependency_direction.cmake allows a header to include (its own
# layer and the layers above it in this file) all come from here.

set(FREQKV_LAYERS base lanes transform compressor policy cache attention adjoint cuda umbrella)

set(FREQKV_HEADERS_base
    freqkv/version.hpp
    freqkv/config.hpp
    freqkv/error.hpp
    freqkv/view.hpp
    freqkv/workspace.hpp
    freqkv/executor.hpp
    freqkv/energy.hpp
    freqkv/fast_capacity.hpp
    freqkv/rope_options.hpp)

set(FREQKV_HEADERS_lanes
    freqkv/detail/unrolled.hpp
    freqkv/detail/lanes.hpp
    freqkv/detail/lane_product.hpp
    freqkv/detail/convert.hpp
    freqkv/detail/pairs.hpp)

set(FREQKV_HEADERS_transform
    freqkv/dct_plan.hpp
    freqkv/dct/direct.hpp
    freqkv/dct/simd.hpp
    freqkv/detail/butterflies.hpp
    freqkv/detail/stockham_fft.hpp
    freqkv/detail/matrix_fft.hpp
    freqkv/detail/column_fft.hpp)

# Of the transform layer too, but they need FFTW and belong to the target freqkv::fftw.
set(FREQKV_HEADERS_transform_fftw
    freqkv/dct/fftw.hpp)

set(FREQKV_HEADERS_compressor
    freqkv/frequency_compressor.hpp
    freqkv/rope.hpp
    freqkv/rope_angles.hpp)

set(FREQKV_HEADERS_policy
    freqkv/policy.hpp
    freqkv/policy/codec.hpp
    freqkv/policy/full.hpp
    freqkv/policy/local_window.hpp
    freqkv/policy/low_pass.hpp
    freqkv/policy/report.hpp
    freqkv/policy/schedule.hpp
    freqkv/policy/whole_span.hpp)

set(FREQKV_HEADERS_cache
    freqkv/cache_options.hpp
    freqkv/detail/columns.hpp
    freqkv/detail/due_list.hpp
    freqkv/detail/kv_list.hpp
    freqkv/detail/move_entries.hpp
    freqkv/detail/plan_cache.hpp
    freqkv/detail/query_ring.hpp
    freqkv/detail/squeeze_scratch.hpp
    freqkv/detail/squeezer.hpp
    freqkv/sinked_kv_cache.hpp)

set(FREQKV_HEADERS_attention
    freqkv/chunked_attention.hpp
    freqkv/detail/partial_attention.hpp
    freqkv/detail/tile_attention.hpp
    freqkv/in_place.hpp)

set(FREQKV_HEADERS_adjoint
    freqkv/adjoint/chunked_attention.hpp
    freqkv/adjoint/compression.hpp
    freqkv/detail/attention_adjoint.hpp
    freqkv/detail/list_history.hpp)

# Of the target freqkv::cuda. The .hpp ones are for every compiler, so that tests on the host run what kernels are made
# of; the .cuh ones need nvcc.
set(FREQKV_HEADERS_cuda
    freqkv/cuda/cache_options.hpp
    freqkv/cuda/chunked_attention.cuh
    freqkv/cuda/dct_plan.cuh
    freqkv/cuda/device_array.cuh
    freqkv/cuda/energy_report.cuh
    freqkv/cuda/frequency_compressor.cuh
    freqkv/cuda/in_place.cuh
    freqkv/cuda/paged_view.hpp
    freqkv/cuda/rope.cuh
    freqkv/cuda/sinked_kv_cache.cuh
    freqkv/cuda/status.cuh
    freqkv/cuda/detail/append_rows.hpp
    freqkv/cuda/detail/attention_launch.cuh
    freqkv/cuda/detail/attention_task.hpp
    freqkv/cuda/detail/batch.hpp
    freqkv/cuda/detail/cache_kernels.cuh
    freqkv/cuda/detail/cache_launch.cuh
    freqkv/cuda/detail/check_memory.cuh
    freqkv/cuda/detail/check_views.hpp
    freqkv/cuda/detail/closing_up.hpp
    freqkv/cuda/detail/decode_attention.hpp
    freqkv/cuda/detail/decode_kernels.cuh
    freqkv/cuda/detail/device_attributes.cuh
    freqkv/cuda/detail/device_block.cuh
    freqkv/cuda/detail/device_elements.cuh
    freqkv/cuda/detail/device_launch.cuh
    freqkv/cuda/detail/device_matrix_block.cuh
    freqkv/cuda/detail/entry_rows.hpp
    freqkv/cuda/detail/entry_store.cuh
    freqkv/cuda/detail/feed.hpp
    freqkv/cuda/detail/fft_passes.hpp
    freqkv/cuda/detail/float_pair.hpp
    freqkv/cuda/detail/launch.cuh
    freqkv/cuda/detail/launch_shape.hpp
    freqkv/cuda/detail/move_kernel.cuh
    freqkv/cuda/detail/move_rows.hpp
    freqkv/cuda/detail/policies.hpp
    freqkv/cuda/detail/prefill_attention.hpp
    freqkv/cuda/detail/prefill_kernel.cuh
    freqkv/cuda/detail/resample.hpp
    freqkv/cuda/detail/resample_kernel.cuh
    freqkv/cuda/detail/transform_tables.hpp
    freqkv/cuda/detail/transform_view.hpp)

set(FREQKV_HEADERS_umbrella
    freqkv/freqkv.hpp)
