// All kernels for one instruction set, which the compiler is told by its flags and by the name INSTRUCTION_SET.
#include "backward.h"
#include "forward.h"
#include "gru_cell.h"
#include "lstm_cell.h"
#include "pack.h"
#include "single.h"
#include "single_backward.h"
#include "weights.h"

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)

namespace jaxlstm::INSTRUCTION_SET {
template <typename Cell>
constexpr CellKernels OF_CELL = {
    single_space,  single<Cell>,  single_backward_space, single_backward<Cell>, forward_space,
    forward<Cell>, backward_space<Cell>, backward<Cell>, weights_space, weights<Cell>,
};

extern const Kernels kernels = {TEXT(INSTRUCTION_SET), pack, OF_CELL<Lstm>, OF_CELL<Gru>};

}  // namespace jaxlstm::INSTRUCTION_SET
