// All kernels for one instruction set, which the compiler is told by its flags and by the name INSTRUCTION_SET.
#include "backward.h"
#include "forward.h"
#include "pack.h"
#include "weights.h"

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)

namespace jaxlstm::INSTRUCTION_SET {

extern const Kernels kernels = {
    TEXT(INSTRUCTION_SET), pack, forward_space, forward, backward_space, backward, weights_space, weights,
};

}  // namespace jaxlstm::INSTRUCTION_SET
