package tsc

// Now is the counter, read after the instructions before it have completed and before any
// after it begins: RDTSC itself is not ordered with other instructions, LFENCE on both
// sides makes it so (Intel SDM, RDTSC; AMD64 APM, LFENCE is dispatch serializing
// under Linux, which sets DE_CFG bit 1). A load before it has its value by then. A store
// before it may still be on its way to other CPUs, which see it after the stamp.
func Now() uint64
