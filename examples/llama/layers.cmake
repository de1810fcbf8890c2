# The folders of the reference Llama are its layers; tests/dependency_direction.cmake checks what each includes, as in
# cmake/headers.cmake.

set(LLAMA_LAYERS io model formats tokenizers training evaluation cuda program tools)
set(LLAMA_BELOW_model io)
set(LLAMA_BELOW_formats model)
set(LLAMA_BELOW_tokenizers formats)
set(LLAMA_BELOW_training tokenizers)
set(LLAMA_BELOW_evaluation tokenizers)
set(LLAMA_BELOW_cuda model)
set(LLAMA_BELOW_program training evaluation cuda)
set(LLAMA_BELOW_tools program)
