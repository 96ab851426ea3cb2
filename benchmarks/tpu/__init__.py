"""The project's device steps, lowered and compiled for a TPU that is not there.

`device_steps` traces them, under the `pretended_strategy`; `device_program` takes out of
the trace what a core would be sent and lowers it to HLO; `compile_hlo`, in an environment
of its own, hands that to the TPU's compiler. `case` does all of it for one step, in a
process of its own. `registered_operations` are those that TensorFlow lowers for TPUs.
"""

import os

# Before TensorFlow is imported, and inherited by processes. Without the first libtpu asks
# a cloud server, for minutes, which TPU this is; without the last each process that loads
# it waits for the others.
os.environ.update(
    TPU_SKIP_MDS_QUERY="1",
    TPU_ACCELERATOR_TYPE="v3-8",
    TPU_CHIPS_PER_HOST_BOUNDS="2,2,1",
    TPU_HOST_BOUNDS="1,1,1",
    TPU_WORKER_HOSTNAMES="localhost",
    TPU_WORKER_ID="0",
    ALLOW_MULTIPLE_LIBTPU_LOAD="1",
)
